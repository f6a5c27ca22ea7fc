"""AMD GPUs, through AMD SMI and its binding ``amdsmi``, which ROCm brings.

The binding is not imported where the library is not found: it would print that.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from ctypes import CDLL
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from time import monotonic
from typing import Any, NamedTuple

from llmwatch.measure.machine import Device, Gpu
from llmwatch.sources.gpu.alone import CLOSE_WAIT, Alone
from llmwatch.sources.gpu.amd_reading import Ask, answered, glance, known, read
from llmwatch.sources.gpu.probe import NoGpuError
from llmwatch.sources.gpu.visible import in_order

_log = logging.getLogger("llmwatch")

LIST_EVERY = 60.0
"""Seconds after which the devices are listed anew."""

RETRY_EVERY = 10.0
"""Seconds between two attempts to find the library."""

NOT_SUPPORTED, NOT_YET_IMPLEMENTED = 2, 3
"""AMD SMI's codes for what a device will never answer."""


class _Gpu(NamedTuple):
    device: Device
    handle: Any
    number: int
    """HIP's, and its name: by these a GPU is made visible."""
    name: str


class Amd:
    """The AMD GPUs that this process may use (see `probe.Probe`)."""

    def __init__(self) -> None:
        self._alone = Alone()
        self._smi: Any = None
        self._pid = 0
        self._ours_to_close = False
        self._ours: list[_Gpu] = []
        self._listed_at = 0.0
        self._missing: tuple[float, str] | None = None
        self._hopeless: set[tuple[Any, ...]] = set()
        self._logged: set[tuple[Any, ...]] = set()

    def read(self) -> Sequence[Gpu]:
        """See `probe.Probe.read`."""
        return self._of_each(read)

    def glance(self) -> Sequence[Gpu]:
        """See `probe.Probe.glance`."""
        return self._of_each(glance)

    def close(self) -> None:
        """See `probe.Probe.close`. Who loaded the binding before us keeps the library open."""
        if not self._alone.enter_within(CLOSE_WAIT):
            return
        try:
            smi, self._smi = self._smi, None
            if smi is not None and self._ours_to_close and self._pid == os.getpid():
                self._call("AMD SMI", smi.amdsmi_shut_down, smi)
        finally:
            self._alone.__exit__()

    def _of_each(self, look: Callable[[Device, Ask, Any], Gpu]) -> list[Gpu]:
        with self._alone:
            found = [
                look(gpu.device, partial(self._ask, gpu.device.id, gpu.handle), self._smi)
                for gpu in self._devices()
            ]
            return [gpu for gpu in found if answered(gpu)]

    def _ask(self, device: str, handle: Any, what: str, *arguments: Any) -> Any:
        function = getattr(self._smi, f"amdsmi_{what}", None)  # releases of the binding differ
        key = (device, what, *arguments)
        return (
            None if function is None else self._call(key, function, self._smi, handle, *arguments)
        )

    def _call(self, key: Any, function: Any, smi: Any, *arguments: Any) -> Any:
        if key in self._hopeless:
            return None
        try:
            return function(*arguments)
        except smi.AmdSmiException as error:
            if getattr(error, "err_code", None) in (NOT_SUPPORTED, NOT_YET_IMPLEMENTED):
                self._hopeless.add(key)
            if key not in self._logged:
                self._logged.add(key)
                _log.debug("AMD SMI has no %s: %s", key, " ".join(str(error).split()))
            return None

    # --- the list of devices ---------------------------------------------------------------------

    def _devices(self) -> list[_Gpu]:
        now = monotonic()
        is_open = self._smi is not None and self._pid == os.getpid()
        if is_open and now - self._listed_at < LIST_EVERY:
            return self._ours
        if self._missing is not None and now - self._missing[0] < RETRY_EVERY:
            raise NoGpuError(self._missing[1])
        try:
            if not is_open:
                self._open()
            self._ours, self._listed_at = self._list(), now
        except NoGpuError as missing:
            self._missing = now, str(missing)
            raise
        self._missing = None
        return self._ours

    def _open(self) -> None:
        loaded = "amdsmi" in sys.modules
        if not loaded and find_spec("amdsmi") is None:
            raise NoGpuError("the package amdsmi is not installed")
        if not loaded and not _library_is_here():
            raise NoGpuError("libamd_smi.so cannot be loaded")
        smi: Any = import_module("amdsmi")
        try:
            smi.amdsmi_init()
        except smi.AmdSmiException as error:
            raise NoGpuError(f"AMD SMI cannot be used ({' '.join(str(error).split())})") from None
        self._smi, self._pid, self._ours_to_close = smi, os.getpid(), not loaded

    def _list(self) -> list[_Gpu]:
        smi = self._smi
        handles = self._call("AMD SMI", smi.amdsmi_get_processor_handles, smi) or []
        gpus = [self._found(index, handle) for index, handle in enumerate(handles)]
        ours = _visible(sorted(gpus, key=attrgetter("number")))
        if not ours:
            raise NoGpuError(f"none of the {len(gpus)} AMD GPUs here may be used")
        return ours

    def _found(self, index: int, handle: Any) -> _Gpu:
        where = f"GPU {index}"
        uuid = self._ask(where, handle, "get_gpu_device_uuid")
        hip = self._ask(where, handle, "get_gpu_enumeration_info") or {}
        asic = self._ask(where, handle, "get_gpu_asic_info") or {}
        number, name = known(hip.get("hip_id")), hip.get("hip_uuid") or ""
        model = asic.get("market_name")
        device = Device(uuid or name or where, where, "AMD", None if model == "N/A" else model)
        return _Gpu(device, handle, index if number is None else number, name)


def _library_is_here() -> bool:
    """Looked for as the binding does."""
    home = os.environ.get("ROCM_HOME", os.environ.get("ROCM_PATH"))
    places = [f"{home}/lib/libamd_smi.so"] if home else []
    for place in (*places, "libamd_smi.so", "/opt/rocm/lib/libamd_smi.so"):
        try:
            CDLL(place)
        except OSError:
            continue
        return True
    return False


def _visible(gpus: list[_Gpu]) -> list[_Gpu]:
    """What is left by ROCm's variable, and then by HIP's, whose numbers count from there."""
    hip = os.environ.get("HIP_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES"))
    for setting in (os.environ.get("ROCR_VISIBLE_DEVICES"), hip):
        if setting is not None:
            gpus = [gpus[each] for each in in_order(setting, [gpu.name for gpu in gpus])]
    return gpus
