"""Keep a timeout that the SDK does not.

``force_flush`` and ``shutdown`` of the SDK wait for an exporter as long as it takes. Here they run
on daemon threads, which neither hold up the caller beyond the deadline nor the end of the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Thread
from time import monotonic

from llmwatch._guard import Guard

MAX_WAITING = 4
"""Unfinished calls kept a place: with a collector that hangs, each flush would leave one more."""

_GUARD = Guard("export.flush")


class Call(Thread):
    """One call on a daemon thread; `succeeded` once it returned anything but False."""

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__(name="llmwatch-flush", daemon=True)
        self._function = function
        self.succeeded = False

    def run(self) -> None:
        """Call; a failure is the guard's."""
        with _GUARD:
            self.succeeded = self._function() is not False


def wait(calls: Iterable[Call], deadline: float) -> bool:
    """Wait until *deadline* (by `time.monotonic`); True if all calls succeeded by then."""
    done = True
    for call in calls:
        call.join(max(0.0, deadline - monotonic()))
        done &= call.succeeded
    return done


class Drain:
    """Runs the slow calls of one provider, at most `MAX_WAITING` at a time."""

    def __init__(self) -> None:
        self._calls: list[Call] = []

    def start(self, function: Callable[[], object]) -> Call | None:
        """Call *function* on a thread; None if too many earlier calls have not returned."""
        self._calls = [call for call in self._calls if call.is_alive()]
        if len(self._calls) >= MAX_WAITING:
            return None
        call = Call(function)
        self._calls.append(call)
        call.start()
        return call
