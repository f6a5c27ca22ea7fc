"""Share what GPUs used among the operations that ran meanwhile.

Polls cut time into intervals, and the starts and ends of operations cut those into slices, in each
of which the same operations ran. The energy of a slice that was ours goes to them in proportion to
the output tokens they made in it, taken to come evenly over an operation's duration; where one of
them does not say how many it made, in equal parts. A slice is shared once nothing that ran in it
runs any more: only then are the tokens known. Pure arithmetic; one thread at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple

from llmwatch.measure.machine import Gpu

Source = Literal["counter", "power"]

MOST_INTERVALS = 3600
"""Intervals that may wait for an operation to end; then the oldest is given up."""

_TINY = 1e-9
"""Seconds: below this, sums of durations are equal."""


class Charge(NamedTuple):
    """What GPUs did while one operation ran, and what of it is the operation's."""

    utilization_mean: float | None = None
    utilization_max: float | None = None
    memory_mean: float | None = None
    memory_max: int | None = None
    """Bytes in use by anybody on all GPUs together."""
    energy: float | None = None
    """Joules; None where a part of it is not known."""
    energy_source: Source | None = None
    """``counter``, or ``power`` where power readings were integrated."""
    gpu_time: float | None = None
    """Seconds times GPUs."""


class Totals(NamedTuple):
    """Joules so far. Together: what the counters advanced, as far as it is shared."""

    requests: float = 0.0
    idle: float = 0.0
    """Ours, while nothing of ours ran."""
    unattributed: float = 0.0
    """Other processes', or whose is not known."""


class _Interval(NamedTuple):
    """Between two polls."""

    start: float
    end: float
    ours: float
    others: float
    gpus: int
    complete: bool
    source: Source


@dataclass
class _Running:
    """An operation from its start until it is charged."""

    start: float
    end: float | None = None
    tokens: int | None = None
    wanted: bool = True
    polls: int = 0
    utilization: list[float] = field(default_factory=list)
    """Sum, count and maximum would do; an operation rarely sees a hundred polls."""
    memory: list[int] = field(default_factory=list)
    energy: float = 0.0
    gpu_time: float = 0.0
    covered: float = 0.0
    complete: bool = True
    sources: set[Source] = field(default_factory=set)

    @property
    def duration(self) -> float:
        assert self.end is not None
        return self.end - self.start

    def charge(self) -> Charge | None:
        """None below two polls: nothing was measured of it."""
        if self.polls < 2:
            return None
        whole = self.complete and abs(self.covered - self.duration) < _TINY * (1 + self.duration)
        return Charge(
            _mean(self.utilization),
            max(self.utilization, default=None),
            _mean(self.memory),
            max(self.memory, default=None),
            self.energy if whole else None,
            ("power" if "power" in self.sources else "counter") if whole else None,
            self.gpu_time if whole else None,
        )


class Ledger:
    """What was used, and who is charged for it. Times are readings of one clock, in seconds."""

    def __init__(self) -> None:
        self.totals = Totals()
        self._running: dict[int, _Running] = {}
        self._intervals: deque[_Interval] = deque()
        self._shared_until: float | None = None
        self._last: tuple[float, dict[str, Gpu]] | None = None
        self._energies: dict[str, float] = {}
        """The last counter reading of each device, lost ones too."""
        self._known: set[str] = set()
        """Every device that was ever seen: without one of them, what was used is not known."""

    def start(self, key: int, at: float) -> None:
        """An operation has started."""
        self._running[key] = _Running(at)

    def finish(self, key: int, at: float, tokens: int | None) -> None:
        """It has ended, with this many output tokens; None: it does not say."""
        if (running := self._running.get(key)) is not None:
            running.end, running.tokens = max(at, running.start), tokens

    def drop(self, key: int) -> None:
        """It was none of those that are charged, after all."""
        self._running.pop(key, None)

    def forget(self) -> None:
        """Who ran is not known any more: what waits to be shared is nobody's."""
        self._running.clear()
        requests, idle, unattributed = self.totals
        for interval in self._intervals:
            start = max(interval.start, self._shared_until or interval.start)
            part = (interval.end - start) / (interval.end - interval.start)
            unattributed += (interval.ours + interval.others) * part
        self._intervals.clear()
        self.totals = Totals(requests, idle, unattributed)
        self._shared_until = None if self._last is None else self._last[0]

    def poll(self, at: float, gpus: Iterable[Gpu]) -> None:
        """This is what the GPUs said; a device that said nothing is left out."""
        now = {gpu.device.id: gpu for gpu in gpus}
        self._known |= now.keys()
        if self._last is not None and at > self._last[0]:
            self._intervals.append(self._interval(*self._last, at, now))
        elif self._last is None:
            self._shared_until = at
        for device, gpu in now.items():
            if gpu.energy is not None:
                self._energies[device] = gpu.energy
        self._last = at, now
        self._sample(at, now.values())
        if len(self._intervals) > MOST_INTERVALS:
            self._give_up(at)

    def settle(self) -> dict[int, Charge | None]:
        """Share what can be shared, and say what each operation is charged that this completes."""
        if self._last is None or self._shared_until is None:
            return {}
        live = [each.start for each in self._running.values() if each.end is None]
        until = min([self._last[0], *live])
        while self._intervals and self._intervals[0].start < until:
            interval = self._intervals[0]
            start, end = max(interval.start, self._shared_until), min(interval.end, until)
            if start < end:
                self._share(interval, start, end)
            if interval.end > until:
                break
            self._intervals.popleft()
        self._shared_until = max(self._shared_until, until)
        done = [
            key
            for key, each in self._running.items()
            if each.end is not None and each.end <= self._shared_until
        ]
        settled = {key: self._running.pop(key) for key in done}
        return {key: each.charge() for key, each in settled.items() if each.wanted}

    # --- from readings to intervals --------------------------------------------------------------

    def _interval(
        self, start: float, before: dict[str, Gpu], end: float, after: dict[str, Gpu]
    ) -> _Interval:
        ours = others = 0.0
        complete = before.keys() == after.keys() == self._known
        source: Source = "counter"
        for device, gpu in after.items():
            used, counted = self._used(before.get(device), gpu, end - start)
            if used is None:
                complete = False
                continue
            if not counted:
                source = "power"
            behind = counted and (device not in before or before[device].energy is None)
            if device not in before or behind or gpu.own_share is None:
                complete, share = False, 0.0
            else:
                share = gpu.own_share
            ours += used * share
            others += used * (1 - share)
        return _Interval(start, end, ours, others, len(after), complete, source)

    def _used(self, before: Gpu | None, gpu: Gpu, seconds: float) -> tuple[float | None, bool]:
        """Joules since this device was last seen, and whether a counter says so."""
        if gpu.energy is not None:
            last = self._energies.get(gpu.device.id)
            if last is None or gpu.energy < last:  # new, or its driver was loaded anew
                return None, True
            return gpu.energy - last, True
        if gpu.device.id in self._energies:  # its counter will tell, when it can be read again
            return None, True
        if before is None or before.power is None or gpu.power is None:
            return None, False
        return (before.power + gpu.power) / 2 * seconds, False

    def _sample(self, at: float, gpus: Iterable[Gpu]) -> None:
        gpus = list(gpus)
        utilization = [gpu.utilization for gpu in gpus if gpu.utilization is not None]
        memory = [gpu.memory_used for gpu in gpus if gpu.memory_used is not None]
        for each in self._running.values():
            if each.start <= at and (each.end is None or at <= each.end):
                each.polls += 1
                each.utilization += utilization
                each.memory += [sum(memory)] if memory else []

    def _give_up(self, at: float) -> None:
        """Let the operation go that everything waits for: it shares, but is charged nothing."""
        live = [each for each in self._running.values() if each.end is None]
        oldest = min(live, key=lambda each: each.start)
        oldest.end, oldest.tokens, oldest.wanted = at, None, False
        del oldest.utilization[:], oldest.memory[:]

    # --- from intervals to shares ----------------------------------------------------------------

    def _share(self, interval: _Interval, start: float, end: float) -> None:
        for left, right in _slices(start, end, self._running.values()):
            part = (right - left) / (interval.end - interval.start)
            here = [each for each in self._running.values() if _runs(each, left, right)]
            ours, others = interval.ours * part, interval.others * part
            requests, idle, unattributed = self.totals
            if here:
                requests += ours
            else:
                idle += ours
            self.totals = Totals(requests, idle, unattributed + others)
            for each, share in zip(here, _shares(here), strict=True):
                each.energy += ours * share
                each.gpu_time += (right - left) * interval.gpus * share
                each.covered += right - left
                each.complete = each.complete and interval.complete
                each.sources.add(interval.source)


def _slices(start: float, end: float, running: Iterable[_Running]) -> Iterator[tuple[float, float]]:
    """Cut a stretch of time wherever an operation starts or ends."""
    cuts = {start, end}
    for each in running:
        cuts.update(at for at in (each.start, each.end) if at is not None and start < at < end)
    ordered = sorted(cuts)
    return pairwise(ordered)


def _runs(each: _Running, start: float, end: float) -> bool:
    return each.start <= start and (each.end is None or end <= each.end) and start < end


def _shares(here: list[_Running]) -> list[float]:
    """By output tokens a second, which are proportional to the tokens of a slice."""
    rates = [
        each.tokens / each.duration if each.tokens is not None and each.duration > 0 else None
        for each in here
    ]
    known = [rate for rate in rates if rate is not None]
    if here and (len(known) < len(here) or not sum(known)):
        return [1 / len(here)] * len(here)
    return [rate / sum(known) for rate in known]


def _mean(values: list[float] | list[int]) -> float | None:
    return sum(values) / len(values) if values else None
