"""One request with all that is known of it; shares of layers; lights of drift monitors."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from time import process_time
from typing import Any

import pytest
from opentelemetry import _logs
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
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
from opentelemetry.trace import set_span_in_context

from llmwatch import semconv
from llmwatch import semconv_hardware as hardware
from llmwatch import semconv_layers as layers
from llmwatch.config import Config
from llmwatch.export.local_store import (
    StoreLogExporter,
    StoreMetricExporter,
    StoreSpanExporter,
)
from llmwatch.export.store_reader import read_spans
from llmwatch.view.records import Filter
from llmwatch.view.store import open_view
from tests.stores import BEGUN, SECOND, Scenes
from tests.view.store.made import SCOPE


class Store:
    """Writes to one store."""

    def __init__(self, where: Path) -> None:
        config = Config.load(store_path=where)
        self.spans = StoreSpanExporter(config)
        self.metrics = StoreMetricExporter(config)
        self.logs = StoreLogExporter(config)

    def say(self, resource: Resource, name: str, data: Any) -> None:
        """One metric."""
        metrics = [Metric(name, "", "1", data)]
        said = [ResourceMetrics(resource, [ScopeMetrics(SCOPE, metrics, "")], "")]
        self.metrics.export(MetricsData(said))

    def gauge(self, resource: Resource, name: str, time: int, value: float, **names: str) -> None:
        """One point of a gauge; ``__`` in names is ``.``."""
        attributes = {key.replace("__", "."): each for key, each in names.items()}
        self.say(resource, name, Gauge([NumberDataPoint(attributes, 0, time, value)]))


def process(service: str, instance: str) -> Resource:
    return Resource({"service.name": service, "service.instance.id": instance})


def test_a_request_has_its_trace_its_tokens_its_machine_and_its_logs(tmp_path: Path) -> None:
    """A server in the same trace tells a client's request when each token was made."""
    store, scenes = Store(tmp_path), Scenes("shop", Random(1))
    scenes.plain(Context())
    scenes.served(Context())
    store.spans.export(scenes.kept.spans)
    server, http, client = scenes.kept.spans[-3:]
    resource = client.resource
    assert client.start_time is not None
    assert client.end_time is not None
    cpu = hardware.PROCESS_METRICS["host_cpu_utilization"].name
    moments = (-90, -30, 0.0, 30_000, 60_000)
    for after in moments:
        store.gauge(resource, cpu, client.start_time + round(after * SECOND), after)
        store.gauge(process("shop", "x"), cpu, client.start_time + round(after * SECOND), 1.0)
    provider = LoggerProvider(resource, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(store.logs))
    for name, context in (("ours", set_span_in_context(_of(http), Context())), ("other", None)):
        provider.get_logger("t").emit(_logs.LogRecord(body=name, timestamp=1, context=context))

    view = open_view(tmp_path)
    (row, _) = view.requests(Filter()), None
    (found,) = [each for each in row if each.trace_id == f"{client.context.trace_id:032x}"]
    request = view.request(found.trace_id, found.span_id)
    view.close()
    assert request is not None
    assert request.row == found
    assert [span.span_id for span in request.spans] == [
        f"{each.context.span_id:016x}" for each in (client, http, server)
    ]
    everything = {span.span_id: span for span in read_spans(tmp_path)}
    assert all(span == everything[span.span_id] for span in request.spans)
    assert request.tokens == [0.001, 0.002, 0.003]
    assert server.attributes is not None
    assert request.prefill == server.attributes["llmwatch.generation.prefill.time"]
    (series,) = request.machine
    assert series.values == [0.0, 30_000]  # the last word before its end and the first after
    assert [log.body for log in request.logs] == ["ours"]


def _of(span: Any) -> Any:
    from opentelemetry.trace import NonRecordingSpan

    return NonRecordingSpan(span.context)


def test_a_request_that_the_store_no_longer_has_is_none(tmp_path: Path) -> None:
    store, scenes = Store(tmp_path), Scenes("shop", Random(1))
    scenes.plain(Context())
    store.spans.export(scenes.kept.spans)
    view = open_view(tmp_path)
    (row,) = view.requests(Filter())
    for each in tmp_path.glob("traces-*"):
        each.unlink()
    assert view.request(row.trace_id, row.span_id) is None  # even before it is refreshed
    assert view.refresh()
    assert view.requests(Filter()) == []
    assert view.services() == []
    view.close()


def test_a_trace_costs_no_more_than_its_spans_however_deep_it_is(tmp_path: Path) -> None:
    """Calls in calls, thousands deep: walks of the square or cube of that would show.

    Every model is another one, so that nothing ends the walk up from an operation.
    """
    depth = 2000
    store, scenes = Store(tmp_path), Scenes("shop", Random(1))
    context = Context()
    for number in range(depth):
        span = scenes._begin("chat", context, model=f"m{number}")
        context = set_span_in_context(span, context)
        span.end(scenes.clock + SECOND)
    store.spans.export(scenes.kept.spans)
    began = process_time()
    view = open_view(tmp_path)
    row = view.requests(Filter(), limit=depth)[-1]
    whole = view.request(row.trace_id, row.span_id)
    spent = process_time() - began
    assert whole is not None
    parents = [span.parent_id for span in whole.spans]
    assert parents == [None, *(span.span_id for span in whole.spans[:-1])]
    assert spent < 10.0
    view.close()


def test_parents_that_go_in_circles_end(tmp_path: Path) -> None:
    """Ids may be anything; whoever is in a circle is found all the same. So may names be."""
    span = {"traceId": "0a" * 16, "name": 7, "startTimeUnixNano": str(BEGUN),
            "endTimeUnixNano": str(BEGUN + 1)}  # fmt: skip
    circle: list[dict[str, Any]] = [
        {**span, "spanId": f"{own:016x}", "parentSpanId": f"{above:016x}"}
        for own, above in ((1, 2), (2, 1), (3, 3), (4, 1))
    ]
    operation = {"key": semconv.OPERATION_NAME, "value": {"stringValue": "chat"}}
    circle[3]["attributes"] = [operation]
    line = {"resourceSpans": [{"scopeSpans": [{"spans": circle}]}]}
    (tmp_path / "traces-20260101T000000.000000-1.jsonl").write_text(json.dumps(line) + "\n")
    view = open_view(tmp_path)
    whole = view.request("0a" * 16, f"{4:016x}")
    assert whole is not None
    assert [each.name for each in whole.spans] == ["7"] * 4
    view.close()


def _timed(store: Store, who: Resource, layer: str, seconds: float, share: float) -> None:
    names = {
        semconv.REQUEST_MODEL: "m",
        layers.LAYER_NAME: layer,
        layers.LAYER_TYPE: "Block",
        layers.LAYER_PHASE: "decode",
    }
    if layer != "(model)":
        names[layers.LAYER_BLOCK] = 3  # type: ignore[assignment]
    point = HistogramDataPoint(
        {**names, layers.LAYER_DEVICE: "cpu"},
        *(BEGUN, BEGUN + SECOND, 10, seconds, [10], [], 0.0, 1.0),
    )
    data = Histogram([point], AggregationTemporality.CUMULATIVE)
    store.say(who, layers.DURATION.name, data)
    gauge = Gauge([NumberDataPoint(names, 0, BEGUN + SECOND, share)])
    store.say(who, layers.LAYER_METRICS["share"].name, gauge)


def test_the_share_of_a_layer_in_several_processes_is_that_of_their_time(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for instance, whole, inside in (("1", 10.0, 0.2), ("2", 30.0, 0.6)):
        _timed(store, process("shop", instance), "(model)", whole, 1 - inside)
        _timed(store, process("shop", instance), "layers.3", whole * inside, inside)
    view = open_view(tmp_path)
    whole, layer = view.layers(Filter())
    view.close()
    assert (layer.layer, layer.block, layer.layer_type, layer.device) == (
        "layers.3",
        3,
        "Block",
        "cpu",
    )
    assert layer.count == 20
    assert layer.mean == pytest.approx((10 * 0.2 + 30 * 0.6) / 20)
    assert layer.share == pytest.approx((10 * 0.2 + 30 * 0.6) / 40)
    assert whole.share == pytest.approx(1 - (10 * 0.2 + 30 * 0.6) / 40)


def _watched(store: Store, who: Resource, second: int, alarm: int, p_value: float) -> None:
    time = BEGUN + second * SECOND
    names = {"llmwatch__drift__monitor": "mails"}
    store.gauge(who, "llmwatch.drift.alarm", time, alarm, **names)
    statistic = {"llmwatch__drift__statistic": "all"}
    store.gauge(who, "llmwatch.drift.p_value", time, p_value, **names, **statistic)
    statistic = {"llmwatch__drift__statistic": "centroid"}
    store.gauge(who, "llmwatch.drift.p_value", time, 0.123, **names, **statistic)
    point = NumberDataPoint({semconv.DRIFT_MONITOR: "mails"}, 0, time, 100 + second)
    store.say(
        who, "llmwatch.drift.embeddings", Sum([point], AggregationTemporality.CUMULATIVE, True)
    )


def test_a_light_is_red_while_any_living_process_has_an_alarm(tmp_path: Path) -> None:
    store = Store(tmp_path)
    view = open_view(tmp_path)

    def light() -> tuple[Any, ...]:
        view.refresh()
        (found,) = view.drift(Filter())
        assert (found.service, found.monitor, found.key) == ("shop", "mails", None)
        return found.alarm, found.p_value, found.embeddings, (found.time - BEGUN) // SECOND

    first, second = process("shop", "1"), process("shop", "2")
    _watched(store, first, 0, 0, 0.5)
    assert light() == (False, 0.5, 100, 0)
    _watched(store, first, 60, 1, 0.001)
    _watched(store, second, 70, 0, 0.7)
    assert light() == (True, 0.001, 160, 60)
    _watched(store, first, 120, 0, 0.4)
    assert light() == (False, 0.4, 220, 120)
    _watched(store, first, 130, 1, 0.002)
    _watched(store, second, 400, 0, 0.6)  # the first process has ended long before
    assert light() == (False, 0.6, 500, 400)
    view.close()
