"""Clocks of accelerators: events that the device itself stamps when it gets there.

Nothing here waits for the device. An event is recorded on the current stream and asked about later;
until it is done its time is not known. While a CUDA graph is captured nothing may be recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_SPARE = 4096
"""Events that are kept for use again."""


class Event(Protocol):
    """What is used of a `torch.Event`."""

    def record(self) -> None:
        """Be stamped when the current stream gets here."""

    def query(self) -> bool:
        """Whether that has happened."""

    def elapsed_time(self, later: Any, /) -> float:
        """Milliseconds from this event's stamp to that of *later*; both must be done."""


class Backend(Protocol):
    """What is asked of a device."""

    def event(self) -> Event:
        """A new event that can be timed."""

    def capturing(self) -> bool:
        """Whether work is recorded into a graph instead of being done."""

    def memory(self) -> int | None:
        """Bytes allocated on it; None: it does not say."""


class CapturedError(Exception):
    """Work is recorded into a graph: it takes no time now."""


class DeviceClock:
    """Events on one device.

    Args:
        name: The device, for example ``cuda:0``.
        backend: The device.
    """

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self._backend = backend
        self._spare: list[Event] = []

    @property
    def ready(self) -> bool:
        """Whether events can be recorded now."""
        return not self._backend.capturing()

    def mark(self) -> Event:
        """Record an event on the current stream.

        Raises:
            CapturedError: If a graph is being captured.
        """
        if self._backend.capturing():
            raise CapturedError
        event = self._spare.pop() if self._spare else self._backend.event()
        event.record()
        return event

    def memory(self) -> int | None:
        """Bytes allocated on the device."""
        return self._backend.memory()

    def release(self, events: Sequence[Event]) -> None:
        """Take events back that are done."""
        self._spare += events[: MOST_SPARE - len(self._spare)]


class TorchDevice:
    """A device of PyTorch: cuda, xpu, mps, or any other whose events can be timed."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        module = torch.get_device_module(device)
        self._capturing: Callable[[], bool] | None = getattr(
            module, "is_current_stream_capturing", None
        )
        self._memory: Callable[[torch.device], int] | None = getattr(
            module, "memory_allocated", None
        )

    def event(self) -> Event:
        """A `torch.Event`."""
        event: Event = torch.Event(self._device, enable_timing=True)
        return event

    def capturing(self) -> bool:
        """Whether the current stream is being captured."""
        return self._capturing is not None and self._capturing()

    def memory(self) -> int | None:
        """Bytes of tensors on it."""
        return None if self._memory is None else self._memory(self._device)


_clocks: dict[str, DeviceClock] = {}


def clock_of(device: torch.device) -> DeviceClock | None:
    """The clock of a device; None for the CPU, which has the host's, and where there is no time."""
    if device.type in ("cpu", "meta"):
        return None
    name = str(device)
    if name not in _clocks:
        _clocks[name] = DeviceClock(name, TorchDevice(device))
    return _clocks[name]
