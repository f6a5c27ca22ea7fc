"""Which forwards are sampled: one in N, and no more than one in so many seconds.

Phases have turns of their own, or the one prefill among a hundred decode steps would hardly ever
be seen. The distance between two sampled forwards is drawn anew each time: a fixed one would meet a
program that repeats itself always at the same place.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from time import perf_counter


class Schedule:
    """Decides for each forward.

    Args:
        every: Of the forwards, one in this many.
        interval: Least seconds between two sampled forwards of one phase.
        clock: Gives seconds.

    Where forwards are left out at all, so is the first one: it is a warm-up.
    """

    __slots__ = ("_clock", "_every", "_interval", "_left", "_next", "_random", "asked")

    def __init__(
        self, every: int, interval: float, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._every = every
        self._interval = interval
        self._clock = clock
        self._random = Random()  # noqa: S311 - chooses a sample
        self._left = 1 if every == 1 and not interval else 2
        self._next: dict[str, float] = {}
        self.asked = False
        """True: the next forward is to be sampled whatever the schedule says."""

    @property
    def dense(self) -> bool:
        """Whether one forward in so many is sampled, however soon it comes."""
        return not self._interval

    def counts(self) -> bool:
        """Count a forward; True where it is one of those that may be sampled. Cost: 0.1 µs."""
        self._left -= 1
        return self._left <= 0 or self.asked

    def due(self, phase: str) -> bool:
        """Whether it is the turn of a phase."""
        return self.asked or self._clock() >= self._next.get(phase, 0.0)

    def took(self, phase: str) -> None:
        """A forward of this phase is sampled: the next one comes later."""
        self.asked = False
        self._left = 1 if self._every == 1 else self._random.randint(1, 2 * self._every - 1)
        self._next[phase] = self._clock() + self._interval
