"""What counting costs, as shares of one `record()` of the SDK in the same run."""

from __future__ import annotations

import random
from timeit import repeat

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from llmwatch.config import Config
from llmwatch.measure.record import OperationRecord, Series, Usage
from llmwatch.measure.timeline import StreamTiming
from llmwatch.signals import metrics as metrics_module
from llmwatch.signals.metrics import Metrics
from tests.benchmarks.table import seconds

BATCH = 200
"""Calls timed together; fewer than wake the worker."""

SERIES = Series("chat", "openai", "large", "large-1", "api.test", 443)
GAPS = tuple(sorted(random.Random(1).expovariate(50) for _ in range(255)))
RECORDS = {
    "call": OperationRecord(SERIES, 1.0, 1, Usage(10, 20), cost=0.1, trace_id=5, span_id=5),
    "stream of 256 chunks": OperationRecord(
        SERIES,
        1.0,
        1,
        Usage(10, 256),
        StreamTiming(256, 0, 0.1, 0.1, None, 2.0, 1.0, 1.0, GAPS),
        cost=0.1,
        trace_id=5,
        span_id=5,
    ),
}
MOST = {"call": (0.05, 2.0), "stream of 256 chunks": (0.05, 4.0)}
"""Shares of one `record()` that `put` and the folding of one record may cost."""


@pytest.fixture
def provider():
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    yield provider
    provider.shutdown()


@pytest.fixture
def record_once(provider) -> float:
    """Seconds that one `record()` with five attributes takes."""
    histogram = provider.get_meter("baseline").create_histogram("baseline")
    attributes = {"a": "b", "c": "d", "e": "f", "g": "h", "i": 1}
    return min(repeat(lambda: histogram.record(1.0, attributes), number=BATCH, repeat=50)) / BATCH


@pytest.fixture
def metrics(provider, monkeypatch):
    """Without a worker that would work meanwhile."""
    monkeypatch.setattr(metrics_module, "QUEUE_WAKE", 1 << 60)
    monkeypatch.setattr(metrics_module, "GAPS_WAKE", 1 << 60)
    metrics = Metrics(Config(), provider)
    yield metrics
    metrics.close()


@pytest.fixture
def judge(benchmark, record_once, overhead):
    """Judge one record's share of a batch by what one `record()` costs."""

    def note(what: str, most: float) -> None:
        took = benchmark.stats.stats.min / BATCH
        overhead(
            "Inside",
            what,
            seconds(took),
            f"one `record()` of the SDK: {seconds(record_once)}",
            took / record_once,
            most,
        )

    return note


@pytest.mark.parametrize("kind", RECORDS)
def test_put(benchmark, metrics, judge, kind):
    record, put = RECORDS[kind], metrics.put

    def many() -> None:
        for _ in range(BATCH):
            put(record)

    benchmark.pedantic(many, rounds=200, setup=metrics._queue.clear)
    judge(f"metrics of a {kind}, on the caller's thread", MOST[kind][0])


@pytest.mark.parametrize("kind", RECORDS)
def test_fold(benchmark, metrics, judge, kind):
    def queue() -> None:
        metrics._queue.extend([RECORDS[kind]] * BATCH)

    benchmark.pedantic(metrics._fold, rounds=50, setup=queue)
    judge(f"metrics of a {kind}, on a thread of llmwatch", MOST[kind][1])
