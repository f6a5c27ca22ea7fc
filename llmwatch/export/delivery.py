"""Exporters that are built at their first export, once a process, and count what they lose.

Built late, because their imports (protobuf, requests, grpc) cost ten times what `instrument` may.
Built again after a fork, because a child must not write on a connection, or into a file, that its
parent holds; the inherited one is kept but never touched, since closing it could disturb or block.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from llmwatch._guard import Guard
from llmwatch.export import dropped
from llmwatch.export.lifecycle import importing


class _Delivery:
    """One exporter of this process, built when it is first needed.

    Args:
        signal: What it exports; the key under which losses are counted.
        factory: Builds the exporter.
        exporter: The exporter, where it had to be built already.
    """

    def __init__(
        self,
        signal: dropped.Signal,
        factory: Callable[[], Any],
        exporter: Any = None,
    ) -> None:
        self._signal = signal
        self._losses = dropped.losses
        self._factory = factory
        self._exporter = exporter
        self._pid = os.getpid()
        self._inherited: list[Any] = []
        self._guard = Guard(f"export.{signal}")

    @property
    def forked(self) -> bool:
        """True if the exporter belongs to a parent process."""
        return self._pid != os.getpid()

    def send(self, batch: Any, items: int, **kwargs: Any) -> bool:
        """Export a batch; what is not delivered is counted."""
        delivered = False
        with self._guard:
            result = self._get().export(batch, **kwargs)
            delivered = result.name == "SUCCESS"
        if not delivered:
            self._losses.add(self._signal, items)
        return delivered

    def shutdown(self) -> None:
        if self._exporter is not None and not self.forked:
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: float) -> bool:
        if self._exporter is None or self.forked:
            return True
        flushed = self._exporter.force_flush(int(timeout_millis))
        return flushed is not False

    def _get(self) -> Any:
        if self.forked:
            self._inherited.append(self._exporter)
            self._exporter, self._pid = None, os.getpid()
        if self._exporter is None:
            with importing:
                self._exporter = self._factory()
        return self._exporter


class SpanDelivery(SpanExporter):
    """A span exporter as described above."""

    def __init__(self, factory: Callable[[], SpanExporter]) -> None:
        self._delivery = _Delivery("traces", factory)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export; called by one thread at a time."""
        delivered = self._delivery.send(spans, len(spans))
        return SpanExportResult.SUCCESS if delivered else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Close the exporter, if this process built one."""
        self._delivery.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter, if this process built one."""
        return self._delivery.force_flush(timeout_millis)


class LogDelivery(LogRecordExporter):
    """A log exporter as described above."""

    def __init__(self, factory: Callable[[], LogRecordExporter]) -> None:
        self._delivery = _Delivery("logs", factory)

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Export; called by one thread at a time."""
        delivered = self._delivery.send(batch, len(batch))
        return LogRecordExportResult.SUCCESS if delivered else LogRecordExportResult.FAILURE

    def shutdown(self) -> None:
        """Close the exporter, if this process built one."""
        self._delivery.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter, if this process built one."""
        return self._delivery.force_flush(timeout_millis)


class MetricDelivery(MetricExporter):
    """A metric exporter as described above, except that it stays silent in a forked child.

    What a child inherits are its parent's sums, which the parent exports. The child gets a meter
    provider of its own (see `pipeline`).

    Args:
        factory: Builds the exporter.
        exporter: The exporter, where it had to be built to learn its preferences.
        temporality: Preferred temporality by instrument class.
        aggregation: Preferred aggregation by instrument class.
    """

    def __init__(
        self,
        factory: Callable[[], MetricExporter],
        exporter: MetricExporter | None = None,
        *,
        temporality: Any = None,
        aggregation: Any = None,
    ) -> None:
        super().__init__(temporality, aggregation)
        self._delivery = _Delivery("metrics", factory, exporter)

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Export; called by one thread at a time."""
        if self._delivery.forked:
            return MetricExportResult.SUCCESS
        delivered = self._delivery.send(
            metrics_data, _points(metrics_data), timeout_millis=timeout_millis, **kwargs
        )
        return MetricExportResult.SUCCESS if delivered else MetricExportResult.FAILURE

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Close the exporter, if this process built one."""
        self._delivery.shutdown()

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Flush the exporter, if this process built one."""
        return self._delivery.force_flush(timeout_millis)


def _points(data: MetricsData) -> int:
    return sum(
        len(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )
