"""See what llmwatch saw: spans, metrics and events of a block of code, in memory.

A test of a function of yours that calls a model::

    with capture() as seen:
        answer("Why?")
    assert seen.spans[0].attributes["gen_ai.request.model"] == "gpt-4o-mini"
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Unpack

from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import DataPointT, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llmwatch import session
from llmwatch.config import Settings
from llmwatch.export.ids import UniqueIds


class Captured:
    """What a block produced so far; still readable after the block."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._events = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        self._reader = InMemoryMetricReader()
        self._points: dict[str, list[Any]] | None = None
        self.tracer_provider = TracerProvider(shutdown_on_exit=False, id_generator=UniqueIds())
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.logger_provider = LoggerProvider(shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._events))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)

    @property
    def spans(self) -> list[ReadableSpan]:
        """Ended spans, in the order they ended."""
        return list(self._spans.get_finished_spans())

    @property
    def events(self) -> list[LogRecord]:
        """Events, in the order they were emitted."""
        return [each.log_record for each in self._events.get_finished_logs()]

    def metrics(self) -> dict[str, list[DataPointT]]:
        """Cumulative data points by metric name; each has ``attributes`` and its numbers."""
        return self._collect() if self._points is None else self._points

    def clear(self) -> None:
        """Forget spans and events. Metrics are cumulative and stay."""
        self._spans.clear()
        self._events.clear()

    def close(self) -> None:
        """Keep what there is, and undo the instrumentation."""
        self._points = self._collect()
        session.uninstrument()
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()
        self.logger_provider.shutdown()

    def _collect(self) -> dict[str, list[Any]]:
        found: defaultdict[str, list[Any]] = defaultdict(list)
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found[metric.name] += metric.data.data_points
        return dict(found)


@contextmanager
def capture(**settings: Unpack[Settings]) -> Iterator[Captured]:
    """Instrument for the length of a block, and keep what is seen in memory.

    A process that is instrumented already sends nothing meanwhile, and goes on as before
    afterwards.

    Args:
        **settings: Those of `llmwatch.instrument`; the providers are the block's own.

    Yields:
        What was seen, during the block and after it.
    """
    before = session.current()
    seen = Captured()
    settings["tracer_provider"] = seen.tracer_provider
    settings["meter_provider"] = seen.meter_provider
    settings["logger_provider"] = seen.logger_provider
    try:
        session.instrument(**settings)
        yield seen
    finally:
        seen.close()
        if before is not None:
            session.instrument(**vars(before.config))
