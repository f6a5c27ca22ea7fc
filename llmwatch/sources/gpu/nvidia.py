"""NVIDIA GPUs, through NVML: which there are, which are ours, and which are lost.

A device that is lost is left out until it answers again; the others are read meanwhile.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, NamedTuple

from llmwatch.measure.machine import Device, Gpu
from llmwatch.sources.gpu.alone import CLOSE_WAIT, Alone
from llmwatch.sources.gpu.library import DeviceLostError, Library
from llmwatch.sources.gpu.probe import NoGpuError
from llmwatch.sources.gpu.queries import Queries
from llmwatch.sources.gpu.visible import Part, Whole, visible

_log = logging.getLogger("llmwatch")

LIST_EVERY = 60.0
"""Seconds after which the devices are listed anew: parts of GPUs come and go."""

RETRY_EVERY = 10.0
"""Seconds between two attempts to get back a device, or a library, that was lost."""


class _Found(NamedTuple):
    """A GPU of the machine with its parts, and the handles of them all, by id."""

    whole: Whole
    handles: dict[str, Any]


class Nvidia:
    """The NVIDIA GPUs that this process may use (see `probe.Probe`)."""

    def __init__(self) -> None:
        self._library = Library()
        self._alone = Alone()
        self._ours: list[Queries] = []
        self._listed_at: float | None = None
        self._missing: str | None = None
        self._missing_at = 0.0
        self._lost: set[str] = set()
        self._closes = 0

    def read(self) -> Sequence[Gpu]:
        """See `probe.Probe.read`."""
        return self._of_each(Queries.read)

    def glance(self) -> Sequence[Gpu]:
        """See `probe.Probe.glance`."""
        return self._of_each(Queries.glance)

    def close(self) -> None:
        """See `probe.Probe.close`."""
        self._closes += 1
        if not self._alone.enter_within(CLOSE_WAIT):
            return  # the thread that is in there lets go, should the driver ever answer it
        try:
            self._let_go()
        finally:
            self._alone.__exit__()

    def _let_go(self) -> None:
        if self._library.is_open:
            self._library.close()
        self._ours, self._listed_at, self._missing = [], None, None

    def _of_each(self, read: Callable[[Queries], Gpu]) -> list[Gpu]:
        closes = self._closes
        with self._alone:
            if closes != self._closes:
                raise NoGpuError("NVML was closed while somebody waited for it")
            try:
                return self._look(read)
            finally:
                if closes != self._closes:
                    self._let_go()

    def _look(self, read: Callable[[Queries], Gpu]) -> list[Gpu]:
        found: list[Gpu] = []
        for queries in self._devices():
            try:
                found.append(read(queries))
            except DeviceLostError:
                self._lose(queries.device)
            else:
                self._lost.discard(queries.device.id)
        return found

    def _lose(self, device: Device) -> None:
        if device.id not in self._lost:
            self._lost.add(device.id)
            _log.warning("llmwatch reads no more of %s (%s): it is lost", device.name, device.id)

    # --- the list of devices ---------------------------------------------------------------------

    def _devices(self) -> list[Queries]:
        now = monotonic()
        every = RETRY_EVERY if self._lost else LIST_EVERY
        listed_at = self._listed_at if self._library.is_open else None
        if listed_at is not None and now - listed_at < every:
            return self._ours
        if self._missing is not None and now - self._missing_at < RETRY_EVERY:
            raise NoGpuError(self._missing)
        try:
            if not self._library.is_open or self._lost:
                self._library.open()  # a device that was reset is seen by a new start only
            self._ours = self._list()
        except NoGpuError as missing:
            self._missing, self._missing_at = str(missing), now
            raise
        self._listed_at, self._missing = now, None
        return self._ours

    def _list(self) -> list[Queries]:
        count = self._safely("the machine", "GetCount") or 0
        gpus = [self._find(index) for index in range(count)]
        wholes = [gpu and gpu.whole for gpu in gpus]
        ids = visible(os.environ.get("CUDA_VISIBLE_DEVICES"), wholes)
        ours = [
            self._queries(gpu, each, name)
            for index, gpu in enumerate(gpus)
            if gpu is not None
            for each, name in _named(gpu.whole, index)
            if each in ids
        ]
        if not ours and not self._lost:
            raise NoGpuError(f"none of the {count} NVIDIA GPUs here may be used")
        return ours

    def _find(self, index: int) -> _Found | None:
        """One GPU of the machine; None where it cannot be had."""
        handle = self._safely(f"GPU {index}", "GetHandleByIndex", index)
        uuid = None if handle is None else self._text(f"GPU {index}", "GetUUID", handle)
        if uuid is None:
            return None
        handles = {uuid: handle}
        parts = []
        for part, its in self._parts(uuid, handle):
            parts.append(part)
            handles[part.id] = its
        return _Found(Whole(uuid, tuple(parts)), handles)

    def _parts(self, uuid: str, gpu: Any) -> list[tuple[Part, Any]]:
        mode = self._safely(uuid, "GetMigMode", gpu)
        if not mode or not mode[0]:
            return []
        found = []
        for index in range(self._safely(uuid, "GetMaxMigDeviceCount", gpu) or 0):
            handle = self._safely(uuid, "GetMigDeviceHandleByIndex", gpu, index)
            part = None if handle is None else self._text(uuid, "GetUUID", handle)
            if part is not None:
                gpu_instance = self._safely(part, "GetGpuInstanceId", handle)
                compute_instance = self._safely(part, "GetComputeInstanceId", handle)
                found.append((Part(part, gpu_instance, compute_instance), handle))
        return found

    def _queries(self, gpu: _Found, uuid: str, name: str) -> Queries:
        parent = None if uuid == gpu.whole.id else gpu.whole.id
        model = self._text(uuid, "GetName", gpu.handles[uuid])
        device = Device(uuid, name, "NVIDIA", model, parent)
        return Queries(self._library, device, gpu.handles[uuid])

    def _safely(self, device: str, what: str, *arguments: Any) -> Any:
        try:
            return self._library.ask(device, what, *arguments)
        except DeviceLostError:
            return None

    def _text(self, device: str, what: str, handle: Any) -> str | None:
        text = self._safely(device, what, handle)
        return text.decode() if isinstance(text, bytes) else text


def _named(whole: Whole, index: int) -> list[tuple[str, str]]:
    parts = [(part.id, f"GPU {index} MIG {number}") for number, part in enumerate(whole.parts)]
    return [(whole.id, f"GPU {index}"), *parts]
