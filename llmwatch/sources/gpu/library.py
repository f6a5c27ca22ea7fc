"""NVIDIA's library, opened when first needed, and the one gate through which it is asked.

A query that the device, the driver or the binding does not have answers None, is not asked again
of that device, and is logged once. The binding (``pynvml``) counts its own references, so that
other users of NVML in the same process do not notice us.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from llmwatch.sources.gpu.probe import NoGpuError

_log = logging.getLogger("llmwatch")

Key = tuple[Any, ...]
"""A device's id, the query's name, and what else tells one query from another."""


class DeviceLostError(Exception):
    """The device has fallen off the bus, or the library was closed under us."""


class Library:
    """NVML, as far as it is needed here."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._pid = 0
        self._hopeless: set[Key] = set()
        self._logged: set[Key] = set()

    @property
    def is_open(self) -> bool:
        """True if it has been opened in this process: a fork leaves it open in the parent only."""
        return self._nvml is not None and self._pid == os.getpid()

    def open(self) -> None:
        """Load and initialise the library.

        Raises:
            NoGpuError: If there is no binding, no library, no driver, or no permission.
        """
        if self._nvml is not None:
            self.close()
        try:
            nvml = import_module("pynvml")
        except ImportError as error:
            raise NoGpuError(f"the package nvidia-ml-py cannot be imported ({error})") from None
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            raise NoGpuError(f"NVML cannot be used ({error})") from None
        self._nvml, self._pid = nvml, os.getpid()
        self._hopeless.clear()

    def close(self) -> None:
        """Let go of the library; twice changes nothing. In a forked child: of the inherited one."""
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError:  # somebody else has closed it altogether
                return

    def constant(self, name: str) -> Any:
        """A constant of the binding; None where this release of it has none of that name."""
        return getattr(self._nvml, name, None)

    def ask(self, device: str, what: str, *arguments: Any) -> Any:
        """Call ``nvmlDevice`` + *what*; None if there is no answer.

        Args:
            device: Its id, for what is remembered and logged.
            what: The end of the function's name, or several of them from new to old with ``|``.
            *arguments: What the function takes: mostly a handle first.

        Raises:
            DeviceLostError: If the device is gone.
        """
        return self.call((device, what, *arguments[1:]), _first(what), *arguments)

    def call(self, key: Key, query: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``query(nvml, …)`` as `ask` does; *key* is the device, the query, and which of it.

        Raises:
            DeviceLostError: If the device is gone.
        """
        if key in self._hopeless:
            return None
        nvml = self._nvml
        if nvml is None:
            raise DeviceLostError
        try:
            return query(nvml, *arguments)
        except nvml.NVMLError as error:
            self._failed(key, error)
        except AttributeError:
            self._hopeless.add(key)
            self._tell(key, logging.DEBUG, "this release of nvidia-ml-py does not have it")
        return None

    def _failed(self, key: Key, error: Any) -> None:
        nvml, code = self._nvml, error.value
        if code in (
            nvml.NVML_ERROR_GPU_IS_LOST,
            nvml.NVML_ERROR_UNINITIALIZED,
            nvml.NVML_ERROR_RESET_REQUIRED,
        ):
            raise DeviceLostError from None
        if code == nvml.NVML_ERROR_NOT_FOUND:
            return  # nothing has happened that could be told: no failure
        if code in (
            nvml.NVML_ERROR_NOT_SUPPORTED,
            nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            nvml.NVML_ERROR_INVALID_ARGUMENT,
            nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        ):
            self._hopeless.add(key)
            self._tell(key, logging.DEBUG, error)
        else:
            self._tell(key, logging.INFO, error)

    def _tell(self, key: Key, level: int, why: object) -> None:
        if key not in self._logged:
            self._logged.add(key)
            device, *what = key
            _log.log(level, "NVML has no %s of %s: %s", " ".join(map(str, what)), device, why)


@cache
def _first(names: str) -> Callable[..., Any]:
    """Ask by the first of several names that the binding and the driver both know."""

    def query(nvml: Any, *arguments: Any) -> Any:
        *newer, oldest = names.split("|")
        for name in newer:
            function = getattr(nvml, f"nvmlDevice{name}", None)
            if function is not None:
                try:
                    return function(*arguments)
                except nvml.NVMLError_FunctionNotFound:
                    continue
        return getattr(nvml, f"nvmlDevice{oldest}")(*arguments)

    return query
