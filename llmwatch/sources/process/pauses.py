"""What holds a Python process up: garbage collections, and event loops that come late.

A collection is timed where Python calls back. An event loop is asked, each time metrics are
collected, to call back as soon as it can; its answer is told at the next collection.
"""

from __future__ import annotations

import gc
import sys
from time import perf_counter
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import asyncio

    from llmwatch.measure.record import OperationRecord
    from llmwatch.signals.operation import Operation

GENERATIONS = 3


class GcPauses:
    """Times every garbage collection, while it is among `gc.callbacks`."""

    def __init__(self) -> None:
        self.seconds = [0.0] * GENERATIONS
        """By generation, since `install`."""
        self.counts = [0] * GENERATIONS
        self._longest = 0.0
        self._started: float | None = None

    def install(self) -> None:
        """Start timing."""
        gc.callbacks.append(self)

    def undo(self) -> None:
        """Stop timing; twice changes nothing."""
        if self in gc.callbacks:
            gc.callbacks.remove(self)

    def take_longest(self) -> float | None:
        """The longest pause since this was last asked; None: there was none."""
        longest, self._longest = self._longest, 0.0
        return longest or None

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """Called by Python; collections do not overlap."""
        if phase == "start":
            self._started = perf_counter()
        elif self._started is not None:
            pause, self._started = perf_counter() - self._started, None
            generation = min(info["generation"], GENERATIONS - 1)
            self.seconds[generation] += pause
            self.counts[generation] += 1
            self._longest = max(self._longest, pause)


class LoopLag:
    """How late event loops are: those in which watched operations start."""

    def __init__(self) -> None:
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Probe] = WeakKeyDictionary()

    def started(self, operation: Operation) -> None:
        """See `operation.Listener`. Cost: 0.2 µs."""
        events = sys.modules.get("asyncio.events")  # not imported: then no loop runs
        loop = None if events is None else events._get_running_loop()
        if loop is not None and loop not in self._loops:
            self._loops[loop] = _Probe()

    def finished(self, operation: Operation, record: OperationRecord) -> None:
        """See `operation.Listener`."""

    def take(self) -> float | None:
        """Seconds that the latest loop was late, as far as is known; and ask all anew."""
        lags = []
        for each in self._loops.keyrefs():  # a copy: other threads may start loops meanwhile
            loop = each()
            probe = None if loop is None else self._loops.get(loop)
            if loop is not None and probe is not None:
                lags.append(probe.ask(loop))
        return max((lag for lag in lags if lag is not None), default=None)


class _Probe:
    """One question to one loop."""

    def __init__(self) -> None:
        self._asked: float | None = None
        self._lag: float | None = None

    def ask(self, loop: asyncio.AbstractEventLoop) -> float | None:
        """The last answer, or how long it has been owed; and ask again. None of a loop at rest."""
        if not loop.is_running():
            self._asked = self._lag = None  # what it answers when it runs again says nothing
            return None
        if (owed := self._asked) is not None:  # its own thread may answer just now
            return perf_counter() - owed
        lag, self._lag = self._lag, None
        self._asked = asked = perf_counter()
        try:
            loop.call_soon_threadsafe(self._answer, asked)
        except RuntimeError:  # it was closed just now
            self._asked = None
        return lag

    def _answer(self, asked: float) -> None:
        if self._asked == asked:
            self._lag, self._asked = perf_counter() - asked, None
