"""Records, what the SDK would have made of them, and what was collected."""

from __future__ import annotations

import random

import pytest
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    MeterProvider,
)
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
)

from llmwatch import semconv
from llmwatch.config import Config
from llmwatch.measure.record import OperationRecord, Series, Usage
from llmwatch.measure.timeline import StreamTiming
from llmwatch.signals.metrics import Metrics
from llmwatch.signals.readings import SUBJECTS, Reading, attributes, keys, readings, subjects

CUMULATIVE = AggregationTemporality.CUMULATIVE
DELTA = {Histogram: AggregationTemporality.DELTA, Counter: AggregationTemporality.DELTA}
SETTINGS = ["1.41", "genai-0.1", "dup"]
DURATION = "gen_ai.client.operation.duration"
GAPS = "gen_ai.client.operation.time_per_output_chunk"
FINE_GAPS = "llmwatch.stream.inter_chunk_time"
TOKENS = "gen_ai.client.token.usage"


def timing(*gaps: float, **other: float | None) -> StreamTiming:
    known = {
        "time_to_first_chunk": 0.2,
        "time_to_first_output": 0.3,
        "time_to_first_reasoning": None,
        "output_span": sum(gaps) if gaps else None,
        **other,
    }
    return StreamTiming(
        chunks=len(gaps) + 1,
        ready_chunks=0,
        server_wait=0.1,
        consumer_time=0.1,
        gaps=tuple(sorted(gaps)),
        **known,
    )


def record(
    duration: float = 1.0,
    *,
    model: str = "small",
    operation: str = "chat",
    error: str | None = None,
    extra: tuple[tuple[str, str], ...] = (),
    sampled: int = 0,
    **more,
) -> OperationRecord:
    series = Series(operation, "openai", model, f"{model}-1", "api.test", 443, error, extra)
    return OperationRecord(
        series,
        duration,
        ended_at=1_700_000_000_000_000_000,
        trace_id=sampled,
        span_id=sampled,
        **more,
    )


def streamed(*gaps: float, **more) -> OperationRecord:
    return record(timing=timing(*gaps), usage=Usage(10, len(gaps) + 1), **more)


def some_records(seed: int, count: int) -> list[OperationRecord]:
    """Records of every kind that a program may have."""
    chance = random.Random(seed)
    return [some_record(chance) for _ in range(count)]


def some_record(chance: random.Random) -> OperationRecord:
    gaps = [
        chance.choice([0.01, 0.02, 0.0004, chance.expovariate(20)])
        for _ in range(chance.randrange(30))
    ]
    used = Usage(
        chance.choice([None, 0, 4, 100, 5000]),
        chance.choice([None, 1, 64, 700]),
        chance.choice([None, 3]),
        chance.choice([None, 2]),
        chance.choice([None, 60]),
        chance.choice([None, 0, 2]),
        chance.choice([None, 1]),
        estimated=chance.random() < 0.2,
    )
    return record(
        chance.choice([0.01, 0.16, chance.expovariate(1)]),
        model=chance.choice("abc"),
        operation=chance.choice(["chat", "chat", "embeddings", "fetch_response", "transcription"]),
        error=chance.choice([None, None, "TimeoutError", "RateLimitError"]),
        extra=chance.choice([(), (("llmwatch.route", "search"),)]),
        usage=chance.choice([None, used, used]),
        timing=chance.choice(
            [None, timing(*gaps, time_to_first_reasoning=chance.choice([None, 0.1]))]
        ),
        cost=chance.choice([None, 0.002]),
        client_wait=chance.choice([None, 0.05]),
    )


class Plain:
    """The oracle: the same readings, recorded one by one with instruments of the SDK."""

    def __init__(self, setting: str, provider: MeterProvider) -> None:
        self.meter = provider.get_meter("oracle")
        self.readings = readings(setting)
        self.instruments = {each.metric.name: self.instrument(each) for each in self.readings}

    def instrument(self, reading: Reading):
        metric = reading.metric
        if metric.kind == "counter":
            return self.meter.create_counter(metric.name, metric.unit, metric.description).add
        return self.meter.create_histogram(
            metric.name,
            metric.unit,
            metric.description,
            explicit_bucket_boundaries_advisory=list(metric.buckets),
        ).record

    def put(self, each: OperationRecord) -> None:
        offered = dict(zip(SUBJECTS, subjects(each), strict=True))
        for reading in self.readings:
            subject = offered[reading.subject]
            value = None if subject is None else reading.read(subject)
            if value is None:
                continue
            key = keys(each)[reading.key]
            for one in value if isinstance(value, tuple) else (value,):
                self.instruments[reading.metric.name](one, attributes(key, reading.dimensions))


# --- what was collected --------------------------------------------------------------------------


def collected(data: sdk.MetricsData | None, scope: str = semconv.SCOPE) -> dict[str, sdk.Metric]:
    """The metrics of one scope by name; each may appear once."""
    found: dict[str, sdk.Metric] = {}
    scopes = [] if data is None else [s for r in data.resource_metrics for s in r.scope_metrics]
    mine = [each for each in scopes if each.scope.name == scope]
    assert len(mine) <= 1
    for metric in mine[0].metrics if mine else ():
        assert metric.name not in found
        found[metric.name] = metric
    return found


def read(reader: InMemoryMetricReader, scope: str = semconv.SCOPE) -> dict[str, sdk.Metric]:
    return collected(reader.get_metrics_data(), scope)


def key(point) -> tuple:
    return tuple(sorted(point.attributes.items(), key=repr))


def points(metric: sdk.Metric) -> dict[tuple, object]:
    found = {key(point): point for point in metric.data.data_points}
    assert len(found) == len(metric.data.data_points)
    return found


def assert_same(ours: dict[str, sdk.Metric], theirs: dict[str, sdk.Metric]) -> None:
    """Two collections tell the same, but for times and the rounding of sums."""
    assert ours.keys() == theirs.keys()
    for name, metric in ours.items():
        other = theirs[name]
        assert (metric.unit, metric.description) == (other.unit, other.description)
        assert type(metric.data) is type(other.data)
        assert metric.data.aggregation_temporality == other.data.aggregation_temporality
        mine, expected = points(metric), points(other)
        assert mine.keys() == expected.keys(), name
        for attrs, point in mine.items():
            assert_same_point(point, expected[attrs])


def assert_same_point(point, other) -> None:
    assert point.start_time_unix_nano <= point.time_unix_nano
    if isinstance(point, sdk.NumberDataPoint):
        assert point.value == other.value
        return
    assert tuple(point.bucket_counts) == tuple(other.bucket_counts)
    assert tuple(point.explicit_bounds) == tuple(other.explicit_bounds)
    assert (point.count, point.min, point.max) == (other.count, other.min, other.max)
    assert point.sum == pytest.approx(other.sum, rel=1e-12)


def only(metric: sdk.Metric):
    (point,) = metric.data.data_points
    return point


def by_attribute(metric: sdk.Metric, name: str) -> dict[object, object]:
    return {each.attributes.get(name): each for each in metric.data.data_points}


def add_reader(provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    if not hasattr(provider, "add_metric_reader"):
        pytest.skip("this release of the SDK adds no readers")
    provider.add_metric_reader(reader)


class Made:
    """Everything a test made, to be undone after it."""

    def __init__(self) -> None:
        self.metrics: list[Metrics] = []
        self.providers: list[MeterProvider] = []

    def provider(self, *readers, **more) -> MeterProvider:
        self.providers.append(MeterProvider(readers, shutdown_on_exit=False, **more))
        return self.providers[-1]

    def watch(self, provider, setting: str = "1.41") -> Metrics:
        self.metrics.append(Metrics(Config(semconv=setting), provider))
        return self.metrics[-1]

    def undo(self) -> None:
        for each in self.metrics:
            each.close()
        for each in self.providers:
            each.shutdown()
