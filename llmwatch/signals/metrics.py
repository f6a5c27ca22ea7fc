"""Records become metrics, away from the caller's thread.

`Metrics.put` only queues. A worker, or whoever collects, folds the queue into pre-aggregated
counts (`cells`), which join the metric stream where each reader of the SDK collects (`door`).
Where that cannot be had, a bounded `recorder` makes plain `record()` calls instead; which of the
two is decided for each metric.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import MeterProvider, NoOpMeter, Observation

from llmwatch import _guard, semconv, semconv_layers
from llmwatch._guard import Guard
from llmwatch._version import __version__
from llmwatch.measure.record import OperationRecord, Series
from llmwatch.signals import drift
from llmwatch.signals.cells import Table, Turn
from llmwatch.signals.drift_counts import DriftCounts
from llmwatch.signals.observed import Observed, Source
from llmwatch.signals.readings import Measured, attributes, metrics_of, readings
from llmwatch.signals.recorder import Recorder
from llmwatch.signals.worker import Worker

if TYPE_CHECKING:
    from llmwatch.config import Config
    from llmwatch.signals.door import Door, Way

_log = logging.getLogger("llmwatch")
_FOLD = Guard("metrics.fold")
_FEED = Guard("metrics.feed")

QUEUE_WAKE, QUEUE_FULL = 256, 4096
"""Records in the queue at which the worker is woken, and at which the caller folds them itself."""

GAPS_WAKE, GAPS_FULL = 20_000, 400_000
"""The same for the chunk gaps in those records; 32 bytes each."""

DRIFT = tuple(semconv.DRIFT_HISTOGRAMS.values())
"""Metrics that are counted or not there: `record()` knows no buckets of a reference."""

MOST_SERIES = 2000
"""Series that may wait in the table for a collection."""

RECORD_PAUSE = 0.2
"""Seconds that records gather where the worker must record them without being asked."""


class Metrics:
    """Counts finished operations.

    Args:
        config: The settings; ``semconv`` is the one that counts here.
        meter_provider: Where the metrics go: the SDK's, or any other.
    """

    def __init__(self, config: Config, meter_provider: MeterProvider) -> None:
        meter = meter_provider.get_meter(semconv.SCOPE, __version__, schema_url=semconv.SCHEMA_URL)
        wanted = [] if isinstance(meter, NoOpMeter) else readings(config.semconv)
        others = [semconv_layers.DURATION, *DRIFT] if wanted else []
        self._queue: deque[OperationRecord | Measured] = deque()
        self._gaps = 0
        """Chunk gaps in the queue, roughly: threads may lose each other's additions."""
        self._counting = bool(wanted)
        """False where nothing is wanted, and once closed."""
        self._turn = Turn()
        self._door, ways = _door(meter_provider, meter, [*metrics_of(wanted), *others])
        counted = [each for each in wanted if ways.get(each.metric.name) == "counts"]
        recorded = [each for each in wanted if ways.get(each.metric.name, "record") == "record"]
        self._table = Table(counted, self._door.exemplars if self._door else "none")
        by_name = {each.name: ways.get(each.name, "record") for each in others}
        self._counted = frozenset(name for name, way in by_name.items() if way == "counts")
        slow = [each for each in others if by_name[each.name] == "record" and each not in DRIFT]
        self._recorder = Recorder(meter, recorded, slow, self._turn)
        # Without a door nobody tells us that a reader is about to collect.
        alone = self._door is None and bool(recorded)
        self._wake_at = 1 if alone else QUEUE_WAKE
        self._worker = Worker(self.flush, RECORD_PAUSE if alone else 0.0)
        self._feeds: list[Callable[[], None]] = []
        self._in_flight: Callable[[], list[Series]] = list
        self._seen: dict[Series, int] = {}
        self._drops: Callable[[], dict[str, int]] = dict
        self._drift = DriftCounts()
        self._observed = Observed(meter)
        self._observe()
        if self._door is not None:
            self._door.open(self._table, self._turn, self._before_collection)

    def put(self, record: OperationRecord) -> None:
        """Take a finished operation. Cost: 0.2 µs, on the caller's thread."""
        queue = self._queue
        queue.append(record)
        timing = record.timing
        if timing is not None:
            self._gaps += len(timing.gaps)
        if record.generation is not None:
            self._gaps += len(record.generation.gaps)
        if len(queue) >= self._wake_at or self._gaps >= GAPS_WAKE:
            self._press()

    def put_measured(self, measured: Measured) -> None:
        """Take what was measured and is no operation. Cost: as `put`."""
        self._queue.append(measured)
        self._gaps += measured.size
        if len(self._queue) >= self._wake_at or self._gaps >= GAPS_WAKE:
            self._press()

    def watch_active(self, active: Callable[[], list[Series]]) -> None:
        """Report how many operations are in flight, by series.

        Args:
            active: Gives the series of each; called whenever a reader collects.
        """
        self._in_flight = active

    def watch_dropped(self, counts: Callable[[], dict[str, int]]) -> None:
        """Report what telemetry was dropped.

        Args:
            counts: Says how many items so far, by signal. What this class leaves out is added.
        """
        self._drops = counts

    def observe(self, metric: semconv.Metric, source: Source) -> None:
        """Let *source* say what *metric* is whenever a reader collects, until `close`."""
        self._observed.watch(metric, source)

    def feed(self, hand_over: Callable[[], None]) -> None:
        """Have *hand_over* put what a source still holds, before a reader collects and at `flush`.

        Args:
            hand_over: Must wait for nobody for long.
        """
        self._feeds.append(hand_over)

    def flush(self) -> None:
        """Fold everything queued now; the readers get it when they next collect."""
        self._feed()
        while not self._fold(patient=True):
            self._recorder.drain()
        self._recorder.drain()

    def close(self) -> None:
        """Undo every hook, end the worker, observe nothing more. May be called again.

        What the readers have not collected by now is lost: flush the provider before.
        """
        self.flush()
        self._counting = False
        if self._door is not None:
            self._door.close()
        self._observed.close()
        self._worker.close()
        self._table.clear()

    def reset(self) -> None:
        """Forget everything that was counted: in a forked child it is the parent's to report."""
        self._queue.clear()
        self._gaps = 0
        self._turn.reset()
        self._worker.reset()
        self._table.clear()
        self._drift.reset()
        self._recorder.reset()
        self._seen.clear()
        if self._door is not None:
            self._door.reset()

    def _feed(self) -> None:
        if self._counting:
            for hand_over in self._feeds:
                with _FEED:
                    hand_over()

    def _before_collection(self) -> None:
        self._feed()
        # One helping: a reader does not do all the work of an overloaded worker.
        done = self._fold(patient=True)
        self._recorder.drain()
        with self._turn as mine, _FOLD:
            if mine and self._counting and self._door is not None and self._door.enabled:
                self._drift.count(self._table, self._counted)
        if not done:
            self._worker.wake()

    def _press(self) -> None:
        full = len(self._queue) >= QUEUE_FULL or self._gaps >= GAPS_FULL
        if full or not self._counting or not self._worker.wake():
            self._fold()

    def _fold(self, *, patient: bool = False) -> bool:
        """Count what is queued; False if patience ended it because much waits to be recorded."""
        with self._turn as mine:
            if not mine:
                return True  # inside our own fold, which goes on to the end of the queue
            self._gaps = 0
            for _ in range(len(self._queue)):
                if patient and self._recorder.busy:
                    return False
                with _FOLD:
                    self._count(self._queue.popleft())
        return True

    def _count(self, record: OperationRecord | Measured) -> None:
        if not self._counting:
            return  # it may be an operation that outlived us
        if self._door is not None and not self._door.enabled:
            return
        if isinstance(record, OperationRecord):
            self._recorder.add(record)
            if self._door is not None:
                self._table.add(record)
        else:
            self._recorder.add_measured(record)
            if self._door is not None:
                self._table.add_measured(record, self._counted)
        if (
            self._door is not None
            and len(self._table.rows) + len(self._table.measured) >= MOST_SERIES
        ):
            self._door.absorb()

    # --- what is asked for, not counted ----------------------------------------------------------

    def _observe(self) -> None:
        for name, source in (
            ("active", self._active),
            ("dropped", self._dropped),
            ("errors", self._errors),
        ):
            self._observed.watch(semconv.OWN_METRICS[name], source)
        for name, source in drift.sources():
            self._observed.watch(semconv.DRIFT_METRICS[name], source)

    def _active(self) -> list[Observation]:
        counted = Counter(self._in_flight())
        if len(self._seen) > MOST_SERIES:
            self._seen.clear()
        # A series that has ended is zero, and is said to be: left out, it would look unchanged.
        self._seen = {**dict.fromkeys(self._seen, 0), **counted}
        return [Observation(many, attributes(series)) for series, many in self._seen.items()]

    def _dropped(self) -> list[Observation]:
        counts = Counter(self._drops())
        if self._recorder.dropped:
            counts["metrics"] += self._recorder.dropped
        return _observations(semconv.SIGNAL, counts)

    def _errors(self) -> list[Observation]:
        return _observations(semconv.CAUSE, _guard.error_counts())


def _observations(key: str, counts: Mapping[str, int]) -> list[Observation]:
    return [Observation(many, {key: value}) for value, many in counts.items()]


def _door(
    provider: MeterProvider, meter: Any, metrics: list[semconv.Metric]
) -> tuple[Door | None, dict[str, Way]]:
    """The door into *provider*, and how each metric must go; None where there is no door."""
    loaded = sys.modules.get("opentelemetry.sdk.metrics")
    if not metrics or loaded is None or not isinstance(provider, loaded.MeterProvider):
        return None, {}
    try:
        from llmwatch.signals.door import Door

        door = Door(provider, meter)
        return door, {metric.name: door.way(metric) for metric in metrics}
    except (ImportError, AttributeError, KeyError, TypeError) as error:
        _log.info(
            "this release of the OpenTelemetry SDK is built differently (%s): "
            "llmwatch's metrics are recorded one by one",
            error,
        )
        return None, {}
