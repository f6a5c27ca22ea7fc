"""Observable instruments whose source can be taken away again.

OpenTelemetry keeps an observable instrument, with the callbacks it was first made with, as long as
its meter lives: made a second time, the new callbacks are ignored. So an instrument is made once a
meter and reads a slot, and sources come and go.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from threading import Lock
from time import monotonic
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from llmwatch._guard import Guard
from llmwatch.semconv import Metric
from llmwatch.semconv_hardware import BEGIN_WITH_US

__all__ = ["FRESH", "Observation", "Observed", "Reading", "Source"]

FRESH = 0.05
"""Seconds that a `Reading` answers for: the questions of one collection come within less."""

Source = Callable[[], list[Observation]]

_OBSERVE = Guard("metrics.observe")
_slots: WeakKeyDictionary[Meter, dict[str, _Slot]] = WeakKeyDictionary()


class Reading:
    """One reading for all the questions of one collection, or of readers that collect at once.

    Args:
        read: Observations by key.

    In a forked child it starts anew: what was read was the parent's, and so was a lock held.
    """

    def __init__(self, read: Callable[[], dict[str, list[Observation]]]) -> None:
        self._read = read
        self._last: dict[str, list[Observation]] = {}
        self._last_at = -FRESH
        self._reset()

    def __call__(self, key: str) -> list[Observation]:
        """What was read under *key* within the last `FRESH` seconds, or is now."""
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            if monotonic() - self._last_at >= FRESH:
                self._last = self._read()
                self._last_at = monotonic()
            return self._last.get(key, [])

    def _reset(self) -> None:
        self._pid, self._lock = os.getpid(), Lock()
        self._last_at = -FRESH


class _Slot:
    def __init__(self, begins_with_us: bool) -> None:
        self.sources: list[Source] = []
        self._begins_with_us = begins_with_us
        self._source: Source | None = None
        self._told: dict[frozenset[tuple[str, object]], float] = {}
        self._before: dict[frozenset[tuple[str, object]], float] = {}

    def __call__(self, _: CallbackOptions) -> Iterable[Observation]:
        with _OBSERVE:
            if not self.sources:
                return []
            source = self.sources[-1]
            found = source()
            return self._continued(source, found) if self._begins_with_us else found
        return []

    def _continued(self, source: Source, found: list[Observation]) -> list[Observation]:
        """A sum that begins at zero with each session goes on: a sum of one meter never falls."""
        if source is not self._source:
            self._source, self._before = source, dict(self._told)
        sums = []
        for each in found:
            series = frozenset((each.attributes or {}).items())
            self._told[series] = total = each.value + self._before.get(series, 0)
            sums.append(Observation(total, each.attributes))
        return sums


class Observed:
    """The observable metrics of one meter.

    Args:
        meter: Where the instruments are made.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._mine: list[tuple[_Slot, Source]] = []

    def watch(self, metric: Metric, source: Source) -> None:
        """Let *source* say what *metric* is, each time a reader asks; the latest source wins."""
        slots = _slots.setdefault(self._meter, {})
        slot = slots.get(metric.name)
        if slot is None:
            slots[metric.name] = slot = _Slot(metric.name in BEGIN_WITH_US)
            create = getattr(self._meter, f"create_{metric.kind}")
            create(metric.name, [slot], unit=metric.unit, description=metric.description)
        slot.sources.append(source)
        self._mine.append((slot, source))

    def close(self) -> None:
        """Take our sources away: the instruments stay, and observe nothing."""
        for slot, source in self._mine:
            slot.sources.remove(source)
        self._mine.clear()
