"""Our counts in what each reader of the SDK collects."""

from __future__ import annotations

import logging
import math

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    Histogram,
    MeterProvider,
)
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource

from llmwatch import semconv
from llmwatch.measure.record import Usage
from tests.signals.measured import (
    DELTA,
    DURATION,
    FINE_GAPS,
    GAPS,
    TOKENS,
    Made,
    add_reader,
    collected,
    only,
    read,
    record,
    streamed,
)

# --- time ----------------------------------------------------------------------------------------


def test_a_delta_begins_where_the_last_collection_ended(made):
    reader = InMemoryMetricReader(preferred_temporality=DELTA)
    ours = made.watch(made.provider(reader))
    ended = None
    for turn in range(3):
        ours.put(record())
        point = only(read(reader)[DURATION])
        assert point.start_time_unix_nano == (record().ended_at if turn == 0 else ended)
        assert point.time_unix_nano > point.start_time_unix_nano
        ended = point.time_unix_nano
    assert read(reader) == {}


def test_a_cumulative_point_begins_with_its_first_record(made):
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader))
    ours.put(record()._replace(ended_at=123))
    first = only(read(reader)[DURATION])
    ours.put(record()._replace(ended_at=456))
    second = only(read(reader)[DURATION])
    assert first.start_time_unix_nano == second.start_time_unix_nano == 123
    assert second.time_unix_nano > first.time_unix_nano
    assert second.count == 2


# --- readers -------------------------------------------------------------------------------------


def test_collections_that_hold_nothing_else_are_made(made):
    reader = InMemoryMetricReader()
    resource = Resource.create({"service.name": "alone"})
    ours = made.watch(made.provider(reader, resource=resource))
    assert reader.get_metrics_data() is None
    ours.put(record(0.5))
    (found,) = reader.get_metrics_data().resource_metrics
    assert found.resource == resource
    (scope,) = found.scope_metrics
    assert (scope.scope.name, scope.schema_url) == (semconv.SCOPE, semconv.SCHEMA_URL)
    assert only(collected(reader.get_metrics_data())[DURATION]).sum == 0.5


def test_metrics_of_others_stay_as_they_are(made):
    reader = InMemoryMetricReader()
    provider = made.provider(reader)
    ours = made.watch(provider)
    provider.get_meter("theirs").create_counter("theirs").add(3)
    ours.put(record())
    data = reader.get_metrics_data()
    assert collected(data, "theirs")["theirs"].data.data_points[0].value == 3
    assert DURATION in collected(data)


class Kept(MetricExporter):
    """Keeps what it is given to export."""

    def __init__(self, **more) -> None:
        super().__init__(**more)
        self.batches: list[sdk.MetricsData] = []

    def export(self, metrics_data, timeout_millis=10_000, **kwargs):
        self.batches.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis=10_000):
        return True

    def shutdown(self, timeout_millis=30_000, **kwargs):
        pass


def test_a_periodic_reader_exports_them_and_the_last_ones_at_shutdown(made):
    exporter = Kept(preferred_temporality=DELTA)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    ours = made.watch(provider)
    ours.put(record())
    provider.force_flush()
    ours.put(record())
    ours.put(record())
    provider.shutdown()
    counts = [only(collected(each)[DURATION]).count for each in exporter.batches]
    assert counts == [1, 2]


@pytest.mark.parametrize("temporality", [None, DELTA], ids=["cumulative", "delta"])
def test_a_reader_added_later_gets_everything_from_then_on(made, temporality):
    first, late = InMemoryMetricReader(), InMemoryMetricReader(preferred_temporality=temporality)
    provider = made.provider(first)
    ours = made.watch(provider)
    ours.put(record())
    assert only(read(first)[DURATION]).count == 1
    add_reader(provider, late)
    ours.put(record())
    assert only(read(first)[DURATION]).count == 2
    ours.put(record())
    assert only(read(late)[DURATION]).count == 2
    assert only(read(first)[DURATION]).count == 3
    ours.put(record())
    assert only(read(late)[DURATION]).count == (1 if temporality else 3)


def test_a_removed_reader_is_forgotten(made):
    first, late = InMemoryMetricReader(), InMemoryMetricReader()
    provider = made.provider(first)
    ours = made.watch(provider)
    add_reader(provider, late)
    ours.put(record())
    assert DURATION in read(late)
    provider.remove_metric_reader(late)
    ours.put(record())
    assert only(read(first)[DURATION]).count == 2
    assert set(ours._door._ledgers) == {first}


def test_a_late_reader_of_another_taste_is_told_and_gets_buckets(made, caplog):
    provider = made.provider(InMemoryMetricReader())
    ours = made.watch(provider)
    late = InMemoryMetricReader(
        preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()}
    )
    add_reader(provider, late)
    ours.put(record())
    with caplog.at_level(logging.INFO, logger="llmwatch"):
        assert isinstance(read(late)[DURATION].data, sdk.Histogram)
        read(late)
    assert [each.message for each in caplog.records if "explicit buckets" in each.message]
    assert len(caplog.records) == 1


def test_prometheus_scrapes_them_right(made):
    client = pytest.importorskip("prometheus_client")
    exporter = pytest.importorskip("opentelemetry.exporter.prometheus")
    parser = pytest.importorskip("prometheus_client.parser")
    ours = made.watch(made.provider(exporter.PrometheusMetricReader()), "dup")
    ours.put(streamed(0.01, 0.015, 0.3, model="a"))
    ours.put(streamed(0.3, model="b", error="TimeoutError"))
    ours.put(record(usage=Usage(7, 3), model="a"))
    for _ in range(2):  # a scrape changes nothing
        text = client.generate_latest().decode()
        families = {each.name: each for each in parser.text_string_to_metric_families(text)}
        gaps = families["gen_ai_client_operation_time_per_output_chunk_seconds"].samples
        buckets = {
            float(each.labels["le"]): each.value
            for each in gaps
            if each.name.endswith("_bucket") and each.labels["gen_ai_request_model"] == "a"
        }
        assert list(buckets) == [*semconv.DURATION_BUCKETS, math.inf]
        assert (buckets[0.01], buckets[0.02], buckets[0.16], buckets[0.32]) == (1, 2, 2, 3)
        assert buckets[math.inf] == 3
        used = families["gen_ai_client_inference_usage_input_tokens"].samples
        assert sum(each.value for each in used) == 27
        failed = families["gen_ai_client_operation_duration_seconds"].samples
        assert {each.labels.get("error_type") for each in failed} == {"", "TimeoutError"}


def test_otlp_encodes_them(made):
    reader = InMemoryMetricReader(preferred_temporality=DELTA)
    ours = made.watch(made.provider(reader), "dup")
    ours.watch_active(lambda: [record().series])
    trace = 0x0AF7651916CD43DD8448EB211C80319C
    ours.put(streamed(0.01, 0.3, sampled=trace % 2**63)._replace(trace_id=trace))
    (resource,) = encode_metrics(reader.get_metrics_data()).resource_metrics
    (scope,) = resource.scope_metrics
    found = {metric.name: metric for metric in scope.metrics}
    (gaps,) = found[GAPS].histogram.data_points
    assert found[GAPS].histogram.aggregation_temporality == AggregationTemporality.DELTA
    assert (gaps.count, gaps.sum, gaps.min, gaps.max) == (2, 0.31, 0.01, 0.3)
    assert list(gaps.explicit_bounds) == list(semconv.DURATION_BUCKETS)
    assert sum(gaps.bucket_counts) == 2
    (exemplar,) = gaps.exemplars
    assert exemplar.trace_id == trace.to_bytes(16, "big")
    assert exemplar.as_double == 0.3
    (used, *_) = found["gen_ai.client.inference.usage.input_tokens"].sum.data_points
    assert used.as_int == 10
    assert found["llmwatch.operation.active"].sum.data_points[0].as_int == 1


# --- Views and preferred aggregations ------------------------------------------------------------


def viewed(made: Made, *views: View) -> dict[str, sdk.Metric]:
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader, views=views))
    ours.put(streamed(0.004, 0.3))
    return read(reader)


def test_a_view_that_drops_drops_that_metric_only(made):
    found = viewed(made, View(instrument_name=GAPS, aggregation=DropAggregation()))
    assert GAPS not in found
    assert only(found[FINE_GAPS]).count == 2
    assert made.metrics[0]._recorder.readings == []


def test_a_view_renames(made):
    found = viewed(made, View(instrument_name=GAPS, name="gaps"))
    assert only(found["gaps"]).count == 2
    assert GAPS not in found


def test_a_view_gives_other_buckets(made):
    other = ExplicitBucketHistogramAggregation([0.1, 0.2])
    found = viewed(made, View(instrument_name="gen_ai.*", aggregation=other))
    assert tuple(only(found[GAPS]).bucket_counts) == (1, 0, 1)
    assert tuple(only(found[FINE_GAPS]).explicit_bounds) == semconv.FINE_BUCKETS


def test_a_view_filters_attributes(made):
    found = viewed(made, View(instrument_name="*", attribute_keys={"gen_ai.request.model"}))
    for name in (DURATION, GAPS, FINE_GAPS):
        assert only(found[name]).attributes == {"gen_ai.request.model": "small"}
    assert only(found[TOKENS]).count == 2  # input and output have become one series


def test_two_views_make_two_streams(made):
    found = viewed(
        made,
        View(instrument_name=GAPS, name="one"),
        View(instrument_name=GAPS, name="two", attribute_keys=set()),
    )
    assert only(found["one"]).count == only(found["two"]).count == 2


def test_where_a_reader_prefers_exponential_buckets_the_sdk_makes_them(made):
    """For that reader; another one beside it still gets explicit ones."""
    exponential = InMemoryMetricReader(
        preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()}
    )
    plain = InMemoryMetricReader()
    ours = made.watch(made.provider(exponential, plain), "genai-0.1")
    ours.put(streamed(0.004, 0.3))
    found = read(exponential)
    assert isinstance(found[FINE_GAPS].data, sdk.ExponentialHistogram)
    assert only(found[FINE_GAPS]).count == 2
    assert isinstance(read(plain)[FINE_GAPS].data, sdk.Histogram)
    counters = {each.metric.kind for each in ours._table.readings}
    assert counters == {"counter"}  # decided for each metric: counters still go as counts


def test_the_otlp_exporters_own_preference_needs_no_record(made):
    """Explicit buckets without bounds of its own are what we count."""
    reader = InMemoryMetricReader(
        preferred_aggregation={Histogram: ExplicitBucketHistogramAggregation()}
    )
    ours = made.watch(made.provider(reader))
    ours.put(streamed(0.004))
    assert ours._recorder.readings == []
    assert tuple(only(read(reader)[GAPS]).explicit_bounds) == semconv.DURATION_BUCKETS


# --- exemplars -----------------------------------------------------------------------------------


def exemplars(made: Made, **more) -> dict[str, list]:
    reader = InMemoryMetricReader()
    ours = made.watch(made.provider(reader, **more))
    ours.put(record(0.03, sampled=1))
    ours.put(record(0.035, sampled=2))  # same bucket, later
    ours.put(record(3.0, sampled=3))
    ours.put(record(50.0))  # not sampled
    ours.put(streamed(0.001, 0.2, 0.1, sampled=4))
    found = {
        name: list(only(each).exemplars) for name, each in read(reader).items() if name != TOKENS
    }
    again = read(reader)
    assert not any(only(again[name]).exemplars for name in found)  # said once
    return found


def test_sampled_operations_leave_the_latest_of_each_bucket_as_exemplar(made):
    found = exemplars(made)
    assert [(each.value, each.trace_id, each.span_id) for each in found[DURATION]] == [
        (0.035, 2, 2),
        (1.0, 4, 4),
        (3.0, 3, 3),
    ]
    assert [(each.value, each.trace_id) for each in found[GAPS]] == [(0.2, 4)]
    assert found[GAPS][0].time_unix_nano == record().ended_at


def test_exemplars_off_leaves_none(made):
    assert not any(exemplars(made, exemplar_filter=AlwaysOffExemplarFilter()).values())


def test_exemplars_on_has_those_not_sampled_too(made):
    found = exemplars(made, exemplar_filter=AlwaysOnExemplarFilter())
    assert [(each.value, each.trace_id) for each in found[DURATION]][-1] == (50.0, None)


def test_each_reader_gets_the_exemplars(made):
    one, two = InMemoryMetricReader(), InMemoryMetricReader(preferred_temporality=DELTA)
    ours = made.watch(made.provider(one, two))
    ours.put(record(sampled=5))
    for reader in (one, two):
        (exemplar,) = only(read(reader)[DURATION]).exemplars
        assert exemplar.trace_id == 5


def test_recorded_one_by_one_exemplars_are_the_same(made):
    found = exemplars(made, views=[View(instrument_name="*")])
    assert [(each.value, each.trace_id) for each in found[DURATION]] == [
        (0.035, 2),
        (1.0, 4),
        (3.0, 3),
    ]


# --- undone exactly ------------------------------------------------------------------------------


def test_closing_leaves_everything_as_it_was(made):
    readers = [InMemoryMetricReader(), InMemoryMetricReader(preferred_temporality=DELTA)]
    provider = made.provider(*readers)
    consumer = provider._measurement_consumer
    before = [dict(vars(each)) for each in (*readers, consumer)]
    ours = made.watch(provider)
    assert [dict(vars(each)) for each in (*readers, consumer)] != before
    ours.put(record())
    for reader in readers:
        assert DURATION in read(reader)
    ours.close()
    ours.close()
    after = [dict(vars(each)) for each in (*readers, consumer)]
    for was, now in zip(before, after, strict=True):
        now.pop("_metrics_data", None), was.pop("_metrics_data", None)
        assert now == was
    assert read(readers[0]) == {}


def test_a_reader_added_meanwhile_is_given_back_too(made):
    provider = made.provider()
    ours = made.watch(provider)
    late = InMemoryMetricReader()
    add_reader(provider, late)
    ours.close()
    assert late._collect == provider._measurement_consumer.collect
    assert late._collect.__func__ is type(provider._measurement_consumer).collect


@pytest.mark.parametrize("first", [0, 1])
def test_two_of_us_on_one_provider_undo_in_any_order(made, first):
    reader = InMemoryMetricReader()
    provider = made.provider(reader)
    was = reader._collect
    both = [made.watch(provider), made.watch(provider)]
    both[first].close()
    both[1 - first].put(record())
    assert only(read(reader)[DURATION]).count == 1
    both[1 - first].close()
    assert reader._collect is was
    assert "collect" not in vars(provider._measurement_consumer)


def test_wrapped_by_somebody_else_we_stay_and_pass_on(made):
    reader = InMemoryMetricReader()
    provider = made.provider(reader)
    ours = made.watch(provider)
    beneath, seen = reader._collect, []

    def theirs(*args, **kwargs):
        seen.append(1)
        return beneath(*args, **kwargs)

    reader._collect = theirs
    ours.put(record())
    ours.close()
    provider.get_meter("theirs").create_counter("theirs").add(1)
    data = reader.get_metrics_data()
    assert reader._collect is theirs
    assert seen
    assert collected(data) == {}
    assert "theirs" in collected(data, "theirs")
