"""A device that does what a script says: events that are done late, out of order, never, or fail.

It stands below `DeviceClock`, where a real device does; everything above is the real thing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Device:
    """Time on it is what the test says it is.

    Args:
        now: Milliseconds on the device's own clock.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.is_capturing = False
        self.allocated: int | None = None
        self.events: list[Event] = []
        self.made = 0
        self.done: Callable[[Event], bool] = lambda event: True
        self.fails: Callable[[str, Event], bool] = lambda what, event: False

    def event(self) -> Event:
        """A new event."""
        self.made += 1
        return Event(self)

    def capturing(self) -> bool:
        """Whether a graph is captured."""
        return self.is_capturing

    def memory(self) -> int | None:
        """Bytes allocated."""
        return self.allocated

    @property
    def recorded(self) -> int:
        """How many marks were made."""
        return len(self.events)


class Event:
    """One event of it."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.at: float | None = None
        self.pending = False

    def record(self) -> None:
        """Be stamped now."""
        assert not self.pending, "an event was used again before it was done"
        self._maybe_fail("record")
        assert not self.device.is_capturing, "recorded into a graph"
        self.at, self.pending = self.device.now, True
        self.device.events.append(self)

    def query(self) -> bool:
        """Whether the device has come here."""
        self._maybe_fail("query")
        done = self.device.done(self)
        if done:
            self.pending = False
        return done

    def elapsed_time(self, later: Any) -> float:
        """Milliseconds between two."""
        self._maybe_fail("elapsed_time")
        assert self.at is not None
        assert not self.pending, "asked before it was done"
        assert not later.pending, "asked before it was done"
        return float(later.at - self.at)

    def synchronize(self) -> None:
        """Nobody may wait for it."""
        raise AssertionError("somebody waited for the device")

    wait = synchronize

    def _maybe_fail(self, what: str) -> None:
        if self.device.fails(what, self):
            raise RuntimeError(f"the device failed in {what}")
