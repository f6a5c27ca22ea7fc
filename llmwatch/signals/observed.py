"""Observable instruments whose source can be taken away again.

OpenTelemetry keeps an observable instrument, with the callbacks it was first made with, as long as
its meter lives: made a second time, the new callbacks are ignored. So an instrument is made once a
meter and reads a slot, and sources come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from llmwatch._guard import Guard
from llmwatch.semconv import Metric

__all__ = ["Observation", "Observed", "Source"]

Source = Callable[[], list[Observation]]

_OBSERVE = Guard("metrics.observe")
_slots: WeakKeyDictionary[Meter, dict[str, _Slot]] = WeakKeyDictionary()


class _Slot:
    def __init__(self) -> None:
        self.sources: list[Source] = []

    def __call__(self, _: CallbackOptions) -> Iterable[Observation]:
        with _OBSERVE:
            return self.sources[-1]() if self.sources else []
        return []


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
            slots[metric.name] = slot = _Slot()
            create = getattr(self._meter, f"create_{metric.kind}")
            create(metric.name, [slot], unit=metric.unit, description=metric.description)
        slot.sources.append(source)
        self._mine.append((slot, source))

    def close(self) -> None:
        """Take our sources away: the instruments stay, and observe nothing."""
        for slot, source in self._mine:
            slot.sources.remove(source)
        self._mine.clear()
