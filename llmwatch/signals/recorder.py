"""Plain `record()` and `add()`, for metrics that cannot reach the readers as counts.

It costs 20 µs a value, so it happens on a worker or on the thread that collects, never on a
caller's; and what waits for it is bounded: beyond that, values are left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.metrics import Meter
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)

from llmwatch._guard import Guard
from llmwatch.measure.record import OperationRecord
from llmwatch.semconv import Metric
from llmwatch.signals.cells import Turn
from llmwatch.signals.readings import (
    SUBJECTS,
    Measured,
    Reading,
    attributes,
    keys,
    subjects,
)

MOST_WAITING = 20_000
"""Values that may wait to be recorded."""

_RECORD = Guard("metrics.record")


class _Waiting(NamedTuple):
    record: Callable[..., None]
    values: tuple[float, ...]
    attributes: dict[str, Any]
    context: Context


class Recorder:
    """Instruments, and the values that wait to be recorded with them.

    Args:
        meter: Where the instruments are made, one for each metric of *readings*.
        readings: What is recorded of operations.
        others: Metrics of what is no operation.
        turn: Taken to touch what waits.
    """

    def __init__(
        self, meter: Meter, readings: Sequence[Reading], others: Sequence[Metric], turn: Turn
    ) -> None:
        self.readings = readings
        self.dropped = 0
        """Values left out."""
        self._turn = turn
        self._waiting: list[_Waiting] = []
        self._count = 0
        self._calls: dict[str, Callable[..., None]] = {}
        for metric in (*(reading.metric for reading in readings), *others):
            if metric.name not in self._calls:
                self._calls[metric.name] = _instrument(meter, metric)

    @property
    def busy(self) -> bool:
        """Whether so much waits that it should be recorded before more is added."""
        return self._count > MOST_WAITING // 2

    def add(self, record: OperationRecord) -> None:
        """Let the values of one record wait; the turn must be ours."""
        if not self.readings:
            return
        series, context = keys(record), _context(record)
        offered = dict(zip(SUBJECTS, subjects(record), strict=True))
        for reading in self.readings:
            subject = offered[reading.subject]
            value = None if subject is None else reading.read(subject)
            if value is None:
                continue
            values = value if isinstance(value, tuple) else (value,)
            named = attributes(series[reading.key], reading.dimensions)
            self._wait(reading.metric, values, named, context)

    def add_measured(self, measured: Measured) -> None:
        """Let the values of what is no operation wait, as above."""
        context = _context(measured)
        for metric, dimensions, values in measured.numbers():
            if metric.name in self._calls:
                self._wait(metric, values, dict(dimensions), context)

    def _wait(
        self, metric: Metric, values: tuple[float, ...], named: dict[str, Any], context: Context
    ) -> None:
        # All or nothing: some of a stream's gaps would be a distribution of their own.
        if self._count + len(values) > MOST_WAITING:
            self.dropped += len(values)
            return
        self._count += len(values)
        self._waiting.append(_Waiting(self._calls[metric.name], values, named, context))

    def drain(self) -> None:
        """Record everything that waits. Cost: 20 µs a value."""
        with self._turn:
            waiting, self._waiting, self._count = self._waiting, [], 0
        for record, values, named, context in waiting:
            with _RECORD:
                for value in values:
                    record(value, named, context)

    def reset(self) -> None:
        """Forget what waits."""
        self._waiting, self._count, self.dropped = [], 0, 0


def _instrument(meter: Meter, metric: Metric) -> Callable[..., None]:
    if metric.kind == "counter":
        return meter.create_counter(metric.name, metric.unit, metric.description).add
    return meter.create_histogram(
        metric.name,
        metric.unit,
        metric.description,
        explicit_bucket_boundaries_advisory=metric.buckets,
    ).record


def _context(record: OperationRecord | Measured) -> Context:
    """The context in which it was measured, for exemplars."""
    if not record.trace_id:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED)
    span = SpanContext(record.trace_id, record.span_id, is_remote=False, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(span), Context())
