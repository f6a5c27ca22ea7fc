"""Stores of any content, for hypothesis, written by the real exporters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from llmwatch import semconv
from llmwatch import semconv_layers as layers
from llmwatch import semconv_models as models
from llmwatch.config import Config
from llmwatch.export.local_store import StoreMetricExporter, StoreSpanExporter

BEGUN = 1_800_000_000 * 10**9
SCOPE = InstrumentationScope("made")
RESOURCES = tuple(
    Resource({"service.name": service, "service.instance.id": instance})
    for service, instance in (("shop", "1"), ("shop", "2"), ("search", "3"))
)

seconds = st.integers(0, 20_000).map(lambda number: number / 1000)
times = st.integers(0, 60).map(lambda second: BEGUN + second * 10**9)
modelled = st.sampled_from([None, "gpt", "LLaMA", "Ärger"])


def maybe(**of: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of these attributes, whose names have ``__`` for ``.``."""
    return st.fixed_dictionaries({}, optional=of)


numbers = st.fixed_dictionaries(
    {},
    optional={
        models.GENERATION_TIME_TO_FIRST_TOKEN: seconds,
        semconv.RESPONSE_TIME_TO_FIRST_CHUNK: seconds,
        models.GENERATION_GAP_P50: seconds,
        semconv.STREAM_GAP_P50: seconds,
        semconv.STREAM_GAP_P95: seconds,
        semconv.USAGE_INPUT_TOKENS: st.integers(0, 10_000),
        semconv.USAGE_OUTPUT_TOKENS: st.integers(0, 10_000),
        semconv.OUTPUT_TOKEN_RATE: seconds,
        semconv.COST: seconds,
        semconv.STREAM_ENDING: st.sampled_from(["exhausted", "closed", "abandoned"]),
        semconv.STREAM_CHUNKS: st.integers(1, 10),
        semconv.ROUTE: st.sampled_from(["night", "Übersicht"]),
        semconv.ERROR_TYPE: st.sampled_from(["Timeout", "RateLimited"]),
        semconv.RESPONSE_MODEL: st.just("answered"),
    },
)


@st.composite
def spans(draw: Any) -> ReadableSpan:
    """One span of a few traces, whose parent may come before or after it, or never."""
    trace, own = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    above = draw(st.none() | st.integers(1, 7))
    start = draw(times)
    attributes = draw(numbers)
    operation = draw(st.sampled_from([None, "chat", "chat", "invoke_agent"]))
    for name, value in (
        (semconv.OPERATION_NAME, operation),
        (semconv.REQUEST_MODEL, draw(modelled)),
    ):
        if value is not None:
            attributes[name] = value
    return ReadableSpan(
        name="made",
        context=_context(trace, own),
        parent=None if above is None else _context(trace, above),
        resource=draw(st.sampled_from(RESOURCES)),
        attributes=attributes,
        status=Status(draw(st.sampled_from([StatusCode.UNSET, StatusCode.ERROR]))),
        start_time=start,
        end_time=start + draw(st.integers(0, 5)) * 10**9,
        instrumentation_scope=SCOPE,
    )


def _context(trace: int, span: int) -> SpanContext:
    return SpanContext(trace, span, is_remote=False, trace_flags=TraceFlags(1))


distinct_spans = st.lists(
    spans(), max_size=12, unique_by=lambda span: (span.context.trace_id, span.context.span_id)
)


@st.composite
def streams(draw: Any) -> list[MetricsData]:
    """What one metric of one process says over time; a sum may begin again."""
    kind = draw(st.sampled_from(["gauge", "level", "sum", "delta", "layers", "delta layers"]))
    resource, count = draw(st.sampled_from(RESOURCES)), draw(st.integers(1, 8))
    attributes = draw(
        maybe(model=modelled.filter(bool)).map(
            lambda found: {semconv.REQUEST_MODEL: found["model"]} if found else {}
        )
    )
    said, start, value, time = [], BEGUN - 10**9, 0.0, BEGUN
    for _ in range(count):
        before, time = time, time + draw(st.integers(1, 9)) * 10**9
        if draw(st.integers(0, 4)) == 0:
            value = 0.0
            start = time - draw(st.integers(0, 1)) if draw(st.booleans()) else start
        value += draw(st.integers(0, 50))
        said.append(_point(kind, resource, attributes, start, before, time, value))
    return said


def _point(kind: str, resource: Resource, attributes: dict[str, Any], *numbers: Any) -> MetricsData:
    start, before, time, value = numbers
    delta = kind.startswith("delta")
    temporality = AggregationTemporality.DELTA if delta else AggregationTemporality.CUMULATIVE
    start = before if delta else start
    data: Any
    if kind.endswith("layers"):
        data = Histogram([_histogram({**attributes, **LAYER}, start, time, value)], temporality)
        metric = Metric(layers.DURATION.name, "", "s", data)
    else:
        points = [NumberDataPoint(attributes, start, time, value)]
        data = Gauge(points) if kind == "gauge" else Sum(points, temporality, kind != "level")
        metric = Metric(kind, "", "By", data)
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(SCOPE, [metric], "")], "")])


LAYER = {layers.LAYER_NAME: "model.layers.0", layers.LAYER_PHASE: "decode"}


def _histogram(attributes: Any, start: int, time: int, value: float) -> HistogramDataPoint:
    count = int(value)
    return HistogramDataPoint(attributes, start, time, count, count / 7, [count], [], 0.0, 1.0)


class Writer:
    """Writes to a store as one or two processes do; small files, so that there are several."""

    def __init__(self, where: Path) -> None:
        config = Config.load(store_path=where)
        self.spans = [StoreSpanExporter(config) for _ in range(2)]
        self.metrics = StoreMetricExporter(config)

    def write(self, batch: list[ReadableSpan], turn: int) -> None:
        """Spans, by one of two exporters."""
        if batch:
            self.spans[turn % 2].export(batch)

    def say(self, data: MetricsData) -> None:
        """One collection of metrics."""
        self.metrics.export(data)
