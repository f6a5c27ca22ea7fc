"""The marks of one sampled forward, as its thread makes them, and what they mean later."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import get_ident
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any

from llmwatch.measure.layers import OURS, Call, Layer, calls
from llmwatch.sources.torch_layers.clock import CapturedError

if TYPE_CHECKING:
    from llmwatch.sources.torch_layers.clock import DeviceClock, Event
    from llmwatch.sources.torch_layers.observe import Look

MODEL = 0
"""Number of the model itself among its layers."""

NOBODY = 0
"""Identifies no thread."""

MOST_MARKS = 20_000
"""A forward with more is not told of: some of its calls would look like all of them."""

Append = Callable[[int], None]


def blank() -> deque[int]:
    """Something to write marks on: one more than may be, to see that there were more."""
    return deque(maxlen=2 * MOST_MARKS + 2)


class Tape:
    """Marks of one forward, from the model's first to its last.

    Made on the thread that writes on it.

    Args:
        layers: The watched layers.
        looks: Who looks at this forward.
        marks: What it is written on; lent until its `end`.
    """

    def __init__(
        self,
        layers: tuple[Layer, ...],
        looks: tuple[Look, ...] = (),
        marks: deque[int] | None = None,
    ) -> None:
        self.layers = layers
        self.looks = looks
        self.thread = get_ident()
        """Who writes on it; `NOBODY` once it is over."""
        self.started_at = time_ns()
        self.void = False
        """True: it cannot be told of."""
        marks = blank() if marks is None else marks
        marks.clear()
        self._marks: Sequence[int] = marks
        """Code and stamp by turns, in nanoseconds of the host's clock."""
        self.append: Append = marks.append
        """Notes a code or a stamp: all there is to a mark by the host's clock."""

    @property
    def done(self) -> bool:
        """Whether all times are known."""
        return True

    def mark(self, code: int) -> None:
        """Note that a layer is entered (its number) or left (its complement). Cost: 0.4 µs."""
        self.append(code)
        self.append(perf_counter_ns())

    def end(self) -> None:
        """Note that the model is left. What a wrapper that somebody kept adds, is ignored."""
        self.thread = NOBODY
        self.mark(~MODEL)
        self._marks = list(self._marks)

    @property
    def is_full(self) -> bool:
        """Whether there were more marks than are kept."""
        return len(self._marks) > 2 * MOST_MARKS

    @property
    def codes(self) -> list[int]:
        """Of all marks."""
        return list(self._marks)[::2]

    @property
    def stamps(self) -> list[int]:
        """When they were, in nanoseconds of the host's clock."""
        return list(self._marks)[1::2]

    def observe(self, what: str, *args: Any) -> None:
        """Let everybody who looks see a layer enter or leave; that time is no layer's."""
        self.mark(OURS)
        try:
            for look in self.looks:
                getattr(look, what)(*args)
        finally:
            self.mark(~OURS)

    def calls(self) -> tuple[Call, ...]:
        """What each call took.

        Raises:
            ValueError: If the marks are no tree.
        """
        return calls(self.layers, self.codes, _seconds(self.stamps))

    def release(self) -> None:
        """Give back what belongs to the device."""


class DeviceTape(Tape):
    """The same with events of devices, whose times are known later.

    Args:
        layers: The watched layers.
        looks: Who looks at this forward.
        marks: What it is written on; lent until its `end`.
        clocks: For each layer, the clock of the device it is on.
        follows: For each layer, the one after which it comes at once, if there is such a one: the
            mark at which that one is left serves for both.
        memory: Whether to note how much is allocated, too.
    """

    def __init__(
        self,
        layers: tuple[Layer, ...],
        looks: tuple[Look, ...],
        marks: deque[int],
        clocks: Sequence[DeviceClock],
        follows: Sequence[int | None],
        *,
        memory: bool = False,
    ) -> None:
        super().__init__(layers, looks, marks)
        self._clocks = clocks
        self._follows = follows
        self._events: list[tuple[DeviceClock, Event]] = []
        self._memory: list[int] | None = [] if memory else None
        self._asked = 0
        self._before: int | None = None
        """The latest mark, but for what was no work of the device's."""
        self._looks_on_device = any(look.on_device for look in looks)

    @property
    def done(self) -> bool:
        """Whether the devices have come to the end of it. Asks, and never waits."""
        events = self._events
        while self._asked < len(events):
            if not events[self._asked][1].query():
                return False
            self._asked += 1
        return True

    def mark(self, code: int) -> None:
        """As above, on the device's stream too."""
        if self.void or self.is_full:
            self.void = True
            return
        try:
            self._events.append(self._event(code))
            if self._memory is not None:
                self._memory.append(self._events[-1][0].memory() or 0)
        except CapturedError:
            self.void = True
            return
        except BaseException:
            self.void = True
            raise
        super().mark(code)

    def _event(self, code: int) -> tuple[DeviceClock, Event]:
        number = code if code >= 0 else ~code
        if number == OURS and not self._looks_on_device:
            return self._events[-1]
        before, self._before = self._before, code
        if code >= 0 and number != OURS:
            follows, clock = self._follows[number], self._clocks[number]
            if follows is not None and before == ~follows and clock is self._events[-1][0]:
                return self._events[-1]
        clock = self._events[-1][0] if number == OURS else self._clocks[number]
        return clock, clock.mark()

    def calls(self) -> tuple[Call, ...]:
        """What each call took, by the devices' clocks; only once it is `done`."""
        first: dict[int, Event] = {}
        seconds = [
            first.setdefault(id(clock), event).elapsed_time(event) / 1e3
            for clock, event in self._events
        ]
        return calls(self.layers, self.codes, seconds, _seconds(self.stamps), self._memory)

    def release(self) -> None:
        """Let the events be used again; only once it is `done`."""
        unique: dict[int, tuple[DeviceClock, Event]] = {
            id(event): (clock, event) for clock, event in self._events
        }
        for clock, event in unique.values():
            clock.release([event])
        self._events.clear()


def _seconds(stamps: Sequence[int]) -> list[float]:
    return [(each - stamps[0]) / 1e9 for each in stamps]
