"""Metrics of finished operations, on the real SDK.

The oracle throughout: what the SDK itself collects when the same values are given to plain
instruments, one `record()` a value.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import defaultdict
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    MeterProvider,
)
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
)
from opentelemetry.sdk.metrics.view import (
    View,
)

from llmwatch import _guard, semconv
from llmwatch.signals import metrics as metrics_module
from llmwatch.signals import recorder as recorder_module
from tests.signals.measured import (
    DELTA,
    DURATION,
    GAPS,
    SETTINGS,
    Made,
    Plain,
    assert_same,
    by_attribute,
    collected,
    key,
    only,
    points,
    read,
    record,
    some_records,
    streamed,
)

# --- equal to what the SDK would have said -------------------------------------------------------


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("temporality", [None, DELTA], ids=["cumulative", "delta"])
def test_every_collection_equals_the_sdks_own(made, setting, temporality):
    """Over several collections, some with nothing new."""
    reader = InMemoryMetricReader(preferred_temporality=temporality)
    provider = made.provider(reader)
    ours, oracle = made.watch(provider, setting), Plain(setting, provider)
    for turn in range(5):
        for each in some_records(turn, 40 if turn != 2 else 0):
            ours.put(each)
            oracle.put(each)
        data = reader.get_metrics_data()
        assert_same(collected(data), collected(data, "oracle"))


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 2**32), st.sampled_from(["put", "one", "two"])), max_size=25),
    st.sampled_from([(None, DELTA), (DELTA, None), (DELTA, DELTA), (None, None)]),
)
def test_readers_have_a_cursor_of_their_own(steps, temporalities):
    """Whoever collects when, each reader is told what the SDK would have told it."""
    made = Made()
    readers = {
        name: InMemoryMetricReader(preferred_temporality=each)
        for name, each in zip(("one", "two"), temporalities, strict=True)
    }
    provider = made.provider(*readers.values())
    ours, oracle = made.watch(provider, "genai-0.1"), Plain("genai-0.1", provider)
    for seed, step in steps:
        if step == "put":
            for each in some_records(seed, 3):
                ours.put(each)
                oracle.put(each)
        else:
            data = readers[step].get_metrics_data()
            assert_same(collected(data), collected(data, "oracle"))
    made.undo()


@pytest.mark.parametrize("setting", SETTINGS)
def test_recorded_one_by_one_they_equal_too(made, setting):
    """Behind a View that matches everything, the SDK gets every value itself."""
    reader = InMemoryMetricReader()
    provider = made.provider(reader, views=[View(instrument_name="*")])
    ours, oracle = made.watch(provider, setting), Plain(setting, provider)
    for each in some_records(7, 60):
        ours.put(each)
        oracle.put(each)
    data = reader.get_metrics_data()
    assert_same(collected(data), collected(data, "oracle"))


def test_the_sum_of_deltas_is_the_cumulative_state(made):
    deltas, whole = InMemoryMetricReader(preferred_temporality=DELTA), InMemoryMetricReader()
    ours = made.watch(made.provider(deltas, whole))
    counts: dict[tuple, list[int]] = defaultdict(lambda: [0] * 100)
    for turn in range(4):
        for each in some_records(turn, 30):
            ours.put(each)
        for name, metric in read(deltas).items():
            for attrs, point in points(metric).items():
                so_far = counts[name, attrs]
                for index, count in enumerate(point.bucket_counts):
                    so_far[index] += count
    for name, metric in read(whole).items():
        for attrs, point in points(metric).items():
            assert list(point.bucket_counts) == counts[name, attrs][: len(point.bucket_counts)]


# --- bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("temporality", [None, DELTA], ids=["cumulative", "delta"])
def test_beyond_the_cardinality_limit_series_share_the_overflow(made, temporality):
    reader = InMemoryMetricReader(preferred_temporality=temporality)
    ours = made.watch(made.provider(reader))
    ours._door._ledgers[reader].limits["histogram"] = 3  # not every release has the setting
    for turn in range(2):
        for model in "abcde":
            ours.put(record(model=model))
        found = points(read(reader)[DURATION])
        assert len(found) == 4
        overflow = found[("otel.metric.overflow", True),]
        assert overflow.count == (2 if temporality else 2 * (turn + 1))
        assert sum(each.count for each in found.values()) == (5 if temporality else 5 * (turn + 1))


def test_the_readers_own_cardinality_limit_counts(made):
    try:
        reader = InMemoryMetricReader(cardinality_limits={Histogram: 2, Counter: 1})
    except TypeError:
        pytest.skip("this release of the SDK has no such setting")
    provider = made.provider(reader)
    ours, oracle = made.watch(provider, "genai-0.1"), Plain("genai-0.1", provider)
    for model in "abcd":
        ours.put(record(model=model))
        oracle.put(record(model=model))
    data = reader.get_metrics_data()
    assert_same(collected(data), collected(data, "oracle"))


def test_what_nobody_collects_is_bounded(made, monkeypatch):
    """Neither the queue nor the table grows beyond its limit; with a reader nothing is lost."""
    monkeypatch.setattr(metrics_module, "MOST_SERIES", 50)
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader))
    for index in range(10_000):
        ours.put(record(model=str(index % 200)))
    ours.flush()
    assert len(ours._queue) <= metrics_module.QUEUE_FULL
    assert len(ours._table.rows) <= 51
    assert sum(each.count for each in read(reader)[DURATION].data.data_points) == 10_000


def test_a_full_queue_is_folded_by_who_fills_it(made, monkeypatch):
    """Where the worker cannot keep up, or cannot be, the caller pays: nothing is lost."""
    monkeypatch.setattr(metrics_module, "QUEUE_WAKE", 10)
    monkeypatch.setattr("llmwatch.signals.worker.Worker.wake", lambda self: False)
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader))
    for _ in range(95):
        ours.put(record())
        assert len(ours._queue) < 10
    assert only(read(reader)[DURATION]).count == 95


def test_long_streams_wake_the_worker_early(made):
    ours = made.watch(made.provider(InMemoryMetricReader()))
    ours.put(streamed(*[0.01] * metrics_module.GAPS_WAKE))
    assert ours._worker._thread is not None


def test_no_thread_before_it_is_needed(made):
    before = threading.active_count()
    ours = made.watch(made.provider(InMemoryMetricReader()))
    ours.put(record())
    ours.flush()
    assert threading.active_count() == before


def test_a_worker_that_keeps_up_leaves_nothing_out(made, monkeypatch):
    """However much is flushed at once: what waits is recorded before more is added."""
    monkeypatch.setattr(recorder_module, "MOST_WAITING", 100)
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader, views=[View(instrument_name=GAPS, name="gaps")]))
    for _ in range(50):
        ours.put(streamed(*[0.01] * 40))
    ours.flush()
    assert only(read(reader)["gaps"]).count == 2000


def test_recording_is_bounded_and_what_is_left_out_is_counted(made, monkeypatch):
    monkeypatch.setattr(recorder_module, "MOST_WAITING", 100)
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader, views=[View(instrument_name=GAPS, name="gaps")]))
    for _ in range(5):
        ours.put(streamed(*[0.01] * 40))
    ours._fold()  # what a caller does with a full queue
    ours.watch_dropped(lambda: {"traces": 7})
    found = read(reader)
    assert only(found["gaps"]).count == 80
    assert {
        key(each): each.value for each in found["llmwatch.telemetry.dropped"].data.data_points
    } == {
        (("llmwatch.signal", "traces"),): 7,
        (("llmwatch.signal", "metrics"),): 120,
    }


def test_many_threads_lose_nothing(made):
    reader = InMemoryMetricReader(preferred_temporality=DELTA)
    ours = made.watch(made.provider(reader))
    total, done = 0, threading.Event()

    def work() -> None:
        for _ in range(2500):
            ours.put(streamed(0.01, 0.02))

    threads = [threading.Thread(target=work) for _ in range(8)]
    collector = threading.Thread(target=lambda: [batches.append(read(reader)) for _ in range(50)])
    batches: list[dict[str, sdk.Metric]] = []
    for thread in (*threads, collector):
        thread.start()
    for thread in (*threads, collector):
        thread.join()
    done.set()
    batches.append(read(reader))
    total = sum(only(each[GAPS]).count for each in batches if GAPS in each)
    assert total == 8 * 2500 * 2
    assert sum(only(each[DURATION]).sum for each in batches if DURATION in each) == 8 * 2500


def test_a_finaliser_inside_our_own_fold_waits_for_nobody(made):
    """An operation may be collected as garbage while this very thread is folding."""
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader))
    with ours._turn:
        for _ in range(metrics_module.QUEUE_FULL + 10):
            ours.put(record())
        ours.flush()
        assert read(reader) == {}  # and a signal handler that flushes sees nothing half done
    assert only(read(reader)[DURATION]).count == metrics_module.QUEUE_FULL + 10


# --- what is observed ----------------------------------------------------------------------------


def test_operations_in_flight_are_counted_and_said_to_be_zero_after(made):
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader))
    one, two = record(model="a").series, record(model="b").series
    live = {1: one, 2: one, 3: two}
    ours.watch_active(lambda: list(live.values()))

    def active() -> dict[object, object]:
        metric = read(reader)["llmwatch.operation.active"]
        assert not metric.data.is_monotonic
        found = by_attribute(metric, "gen_ai.request.model")
        return {model: each.value for model, each in found.items()}

    assert active() == {"a": 2, "b": 1}
    live.clear()
    assert active() == {"a": 0, "b": 0}


def test_internal_errors_are_counted_by_cause(made, monkeypatch):
    monkeypatch.setattr(_guard, "strict", False)
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader))
    for _ in range(3):
        with _guard.Guard("test.cause"):
            raise ValueError
    ours.put("not a record" and record()._replace(duration="long"))  # our own fold fails
    ours.put(record())
    found = read(reader)
    errors = by_attribute(found["llmwatch.internal.errors"], "llmwatch.cause")
    assert errors["test.cause"].value == 3
    assert errors["metrics.fold"].value == 1
    assert only(found[DURATION]).count == 1
    _guard.reset()


def test_instrumented_again_on_the_same_provider_observations_go_on(made):
    """The SDK keeps an observable instrument's first callbacks for good."""
    reader = InMemoryMetricReader()
    provider = made.provider(reader)
    made.watch(provider).close()
    assert read(reader) == {}
    again = made.watch(provider)
    again.watch_active(lambda: [record().series])
    assert only(read(reader)["llmwatch.operation.active"]).value == 1


# --- other providers -----------------------------------------------------------------------------


class Somebodys:
    """A provider that is not the SDK's own class: it hands everything on to one."""

    def __init__(self, provider: MeterProvider) -> None:
        self._inner = provider

    def get_meter(self, *args, **kwargs):
        return self._inner.get_meter(*args, **kwargs)


def test_a_provider_that_is_not_the_sdks_gets_plain_records(made):
    reader = InMemoryMetricReader()
    ours = made.watch(Somebodys(made.provider(reader)))
    ours.put(streamed(0.01, 0.3, sampled=6))
    ours.flush()
    found = read(reader)
    assert only(found[GAPS]).count == 2
    assert tuple(only(found[GAPS]).explicit_bounds) == semconv.DURATION_BUCKETS
    assert [each.trace_id for each in only(found[DURATION]).exemplars] == [6]


def test_there_the_worker_records_without_being_asked(made):
    reader = InMemoryMetricReader()
    ours = made.watch(Somebodys(made.provider(reader)))
    ours.put(record())
    for _ in range(100):
        if DURATION in (found := read(reader)):
            break
        threading.Event().wait(0.05)
    assert only(found[DURATION]).count == 1


def test_without_the_door_they_are_recorded_and_it_is_said(made, caplog):
    """A release of the SDK that keeps its settings elsewhere."""
    reader = InMemoryMetricReader()
    provider = made.provider(reader)
    config = provider.__dict__.pop("_sdk_config")
    with caplog.at_level(logging.INFO, logger="llmwatch"):
        ours = made.watch(provider)
    provider._sdk_config = config
    assert "recorded one by one" in caplog.text
    assert isinstance(reader._collect.__self__, type(provider._measurement_consumer))
    ours.put(streamed(0.01, 0.3))
    ours.flush()
    assert only(read(reader)[GAPS]).count == 2


@pytest.mark.parametrize("kind", ["no-op", "disabled"])
def test_where_nothing_is_wanted_nothing_happens(made, monkeypatch, kind):
    if kind == "disabled":
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    reader = InMemoryMetricReader()
    provider = NoOpMeterProvider() if kind == "no-op" else made.provider(reader)
    ours = made.watch(provider)
    for _ in range(1000):
        ours.put(streamed(0.01))
    ours.flush()
    assert reader._collect is None or read(reader) == {}
    assert not ours._table.rows


def test_a_disabled_meter_counts_nothing_until_enabled(made):
    reader = InMemoryMetricReader()
    provider = made.provider(reader)
    ours = made.watch(provider)
    meter = provider.get_meter(semconv.SCOPE, metrics_module.__version__, semconv.SCHEMA_URL)
    if not hasattr(meter, "_set_meter_config"):
        pytest.skip("this release of the SDK cannot disable a meter")
    from opentelemetry.sdk.metrics._internal import _MeterConfig

    meter._set_meter_config(_MeterConfig(is_enabled=False))
    ours.put(record())
    assert read(reader) == {}
    meter._set_meter_config(_MeterConfig(is_enabled=True))
    ours.put(record())
    assert only(read(reader)[DURATION]).count == 1


# --- its life -------------------------------------------------------------------------------------


def test_closing_ends_the_worker(made):
    ours = made.watch(made.provider(InMemoryMetricReader()))
    for _ in range(1000):
        ours.put(record())
    thread = ours._worker._thread
    ours.close()
    assert not thread.is_alive()


def test_operations_that_outlive_us_are_dropped_in_bounds(made):
    ours = made.watch(made.provider(InMemoryMetricReader()))
    ours.close()
    for _ in range(10_000):
        ours.put(record())
    assert len(ours._queue) <= metrics_module.QUEUE_WAKE
    ours.flush()
    assert not ours._table.rows


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_forgets_and_counts_on(made):
    """Also where the worker ran, and held the lock, when the process forked."""
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader), "dup")
    for each in some_records(1, 1000):
        ours.put(each)
    read(reader)
    ours.put(record())

    def child() -> list[int]:
        ours.reset()
        before = len(read(reader))
        for _ in range(1000):
            ours.put(record())
        return [before, only(read(reader)[DURATION]).count]

    with ours._turn:
        said = forked(child)
    assert said == [0, 1000]
    assert sum(each.count for each in read(reader)[DURATION].data.data_points) == 1001


def forked(work: Callable[[], list[int]]) -> list[int]:
    """What *work* returns in a child of this process."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(theirs, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    os.waitpid(child, 0)
    with os.fdopen(ours) as said:
        return json.loads(said.read())
