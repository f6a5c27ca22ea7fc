"""Real signals over in-memory providers, for tests of the floors below the session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llmwatch.config import Config
from llmwatch.signals import active
from llmwatch.signals.events import Events
from llmwatch.signals.metrics import Metrics
from llmwatch.signals.operation import Operation, Signals


class Watched:
    """What one `Signals` gives to its providers.

    Args:
        settings: Those of `instrument`.
    """

    def __init__(self, **settings: Any) -> None:
        config = Config.load(**settings)
        self._exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self._meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self._metrics = Metrics(config, self._meter_provider)
        self.tracer = self.tracer_provider.get_tracer("test")
        events = Events(config, LoggerProvider(shutdown_on_exit=False))
        self.signals = Signals(config, self.tracer, self._metrics, events)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended, in that order."""
        return self._exporter.get_finished_spans()

    @property
    def span(self) -> ReadableSpan:
        """The one span there must be."""
        (span,) = self.spans
        return span

    def named(self, name: str) -> ReadableSpan:
        """The one span of that name."""
        (span,) = (span for span in self.spans if span.name == name)
        return span

    def points(self, metric: str) -> list[Any]:
        """The data points of a metric, collected now."""
        self._metrics.flush()
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for each in scope.metrics
            if each.name == metric
            for point in each.data.data_points
        ]

    def start(self, name: str = "chat", **more: Any) -> Operation:
        """An operation of these signals."""
        operation = self.signals.start(name, "custom", "m", {}, **more)
        assert operation is not None
        return operation

    def close(self) -> None:
        """Take everything down."""
        self._metrics.close()
        self._meter_provider.shutdown()
        self.tracer_provider.shutdown()


@contextmanager
def watched(**settings: Any) -> Iterator[Watched]:
    """Make signals active for a block."""
    made = Watched(**settings)
    active.signals = made.signals
    try:
        yield made
    finally:
        active.signals = None
        made.close()
