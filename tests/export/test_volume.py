"""What is sent can be made less; what the metrics say stays exact."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from time import perf_counter
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

import llmwatch
from llmwatch import semconv
from llmwatch.config import Config
from llmwatch.export import builders
from llmwatch.measure.record import Usage
from llmwatch.signals import active
from tests.receivers import HttpReceiver

CALLS = 120
LEFT_OUT = semconv.OWN_METRICS["left_out"].name


class BrokenError(Exception):
    """What some of the calls fail with."""


def work() -> None:
    """Calls of known tokens and cost, streamed or not; every tenth fails, every twelfth is slow."""
    assert active.signals is not None
    for number in range(CALLS):
        with llmwatch.attributes(route=f"/{number % 3}"):
            began = perf_counter() - (1 if number % 12 else 7)
            operation = active.signals.start(
                "chat", "openai", "gpt-4o", {}, server_address="api.openai.com", started=began
            )
        assert operation is not None
        if number % 2:
            timeline = operation.stream()
            timeline.asked.extend(began + at / 10 for at in range(5))
            timeline.got.extend(began + at / 10 + 0.05 for at in range(5))
        operation.usage = Usage(100 + number, 10 + number)
        operation.finish(BrokenError() if number % 10 == 0 else None)


def left_out(receiver: HttpReceiver) -> dict[str, int]:
    """How many spans in the end, by what left them out."""
    return {
        point.attributes[0].value.string_value: point.as_int
        for _, point in receiver.points(LEFT_OUT)
    }


DURATION = "gen_ai.client.operation.duration"
Totals = dict[tuple[str, tuple[tuple[str, Any], ...]], tuple[int, Any]]


def totals(reader: InMemoryMetricReader) -> Totals:
    """Of every histogram its count; and the sum, or the buckets, where the clock cannot differ."""
    found: Totals = {}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    if not hasattr(point, "count"):
                        continue
                    key = metric.name, tuple(sorted((point.attributes or {}).items()))
                    exact = round(point.sum, 9) if metric.unit in ("{token}", "{USD}") else None
                    buckets = point.bucket_counts if metric.name == DURATION else None
                    found[key] = point.count, buckets or exact
    return found


SETTINGS: list[dict[str, Any]] = [
    {"sample_ratio": 0.1},
    {"sample_ratio": 0.0},
    {"keep": "errors,slow>5s,10%"},
    {"trace_limit": 3},
    {"keep": "0%", "trace_limit": 3, "sample_ratio": 0.5},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_metric_is_exact_whatever_is_sampled(settings: dict[str, Any]) -> None:
    """Each series of each histogram, errors and slow calls included, is as without sampling."""
    found: list[Totals] = []
    sent: list[int] = []
    for each in ({}, settings):
        reader = InMemoryMetricReader()
        meter_provider = MeterProvider([reader], shutdown_on_exit=False)
        with HttpReceiver() as receiver:
            llmwatch.instrument(
                endpoint=receiver.endpoint, meter_provider=meter_provider, sources=(), **each
            )
            work()
            llmwatch.flush()
            found.append(totals(reader))
            llmwatch.uninstrument()
            sent.append(len(receiver.spans()))
        meter_provider.shutdown()
    assert sent[0] == CALLS
    assert sent[1] < CALLS
    assert found[1] == found[0]
    names = {name for name, _ in found[0]}
    assert {"gen_ai.client.token.usage", "llmwatch.stream.inter_chunk_time"} < names
    durations = [
        (count, dict(attributes))
        for (name, attributes), (count, _) in found[1].items()
        if name == DURATION
    ]
    assert sum(count for count, _ in durations) == CALLS
    assert sum(count for count, each in durations if "error.type" in each) == CALLS / 10


def test_what_is_kept_says_why_and_the_rest_is_a_metric() -> None:
    with HttpReceiver() as receiver:
        llmwatch.instrument(endpoint=receiver.endpoint, keep="errors,slow>5s", sources=())
        work()
        llmwatch.uninstrument()
        spans = receiver.spans()
        why = Counter(
            each.value.string_value
            for span in spans
            for each in span.attributes
            if each.key == semconv.KEPT
        )
        assert why == {"errors": 12, "slow": 8}
        assert left_out(receiver) == {"keep": CALLS - len(spans), "overflow": 0}
        assert len(spans) == 20


def test_what_may_be_left_out_is_zero_before_it_is() -> None:
    """Else its first rise could not be seen; and where nothing can be, nothing is told."""
    cases: list[tuple[dict[str, Any], dict[str, int]]] = [
        ({}, {}),
        ({"trace_limit": 9}, {"trace_limit": 0}),
        ({"keep": "5%", "trace_limit": 9}, {"keep": 0, "overflow": 0, "trace_limit": 0}),
    ]
    for settings, wanted in cases:
        with HttpReceiver() as receiver:
            llmwatch.instrument(endpoint=receiver.endpoint, sources=(), **settings)
            llmwatch.uninstrument()
            assert left_out(receiver) == wanted


def test_a_long_trace_arrives_whole() -> None:
    """However many of its spans waited, they all are sent at once, by a queue that takes them."""
    many = 4000
    with HttpReceiver() as receiver:
        llmwatch.instrument(endpoint=receiver.endpoint, keep="errors", sources=())
        provider = llmwatch.session.current().pipeline.providers.tracer_provider
        tracer = provider.get_tracer("the program")
        with suppress(BrokenError), tracer.start_as_current_span("root"):
            for _ in range(many):
                tracer.start_span("step").end()
            raise BrokenError
        assert llmwatch.shutdown(30)
        assert Counter(receiver.names()) == {"step": many, "root": 1}


def test_the_queues_size_is_the_environments_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "600")
    assert builders._queue_size(Config.load(keep="errors")) is None
    monkeypatch.delenv("OTEL_BSP_MAX_QUEUE_SIZE")
    assert builders._queue_size(Config.load()) is None


@pytest.mark.parametrize("setting", ["series_limit", "export_interval"])
def test_settings_of_metrics_that_a_foreign_provider_does_not_follow_are_told(
    setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = MeterProvider(shutdown_on_exit=False)
    llmwatch.instrument(meter_provider=theirs, sources=(), **{setting: 7})
    llmwatch.uninstrument()
    assert f"{setting}= is not used" in caplog.text


def test_a_flag_keeps_the_programs_own_spans_too() -> None:
    """Those that it makes through the providers of llmwatch: one trace, whole."""
    with HttpReceiver() as receiver:
        llmwatch.instrument(endpoint=receiver.endpoint, keep="flagged", sources=())
        provider = llmwatch.session.current().pipeline.providers.tracer_provider
        tracer = provider.get_tracer("the program")
        for good in (True, False):
            with tracer.start_as_current_span(f"request {good}"):
                active.signals.start("chat", "openai", "gpt-4o", {}).finish()
                if not good:
                    llmwatch.flag()
        with llmwatch.attributes(flagged=True):
            active.signals.start("embeddings", "openai", "e", {}).finish()
        llmwatch.flag()  # nothing is in progress: nothing happens
        llmwatch.uninstrument()
        assert sorted(receiver.names()) == ["chat gpt-4o", "embeddings e", "request False"]


@pytest.mark.parametrize("when", ["before", "after", "given"])
def test_a_foreign_provider_is_left_as_it_is_and_that_is_said(
    when: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It decides itself what it sends."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, theirs = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    theirs.add_span_processor(SimpleSpanProcessor(exporter))
    given = {"tracer_provider": theirs} if when == "given" else {}
    if when == "before":
        trace.set_tracer_provider(theirs)
    with HttpReceiver() as receiver:
        more = given or {"endpoint": receiver.endpoint}
        llmwatch.instrument(keep="errors", trace_limit=1, sources=(), **more)
        if when == "after":
            trace.set_tracer_provider(theirs)
        active.signals.start("chat", "openai", "gpt-4o", {}).finish()
        llmwatch.uninstrument()
    assert len(exporter.get_finished_spans()) == 1
    said = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert sum("keep= is not used" in each for each in said) == 1
    assert sum("trace_limit= is not used" in each for each in said) == 1


ENDS = """
import os, sys, time, llmwatch
from llmwatch import _guard
from llmwatch.signals import active
_guard.strict = True
llmwatch.instrument(endpoint=sys.argv[1], keep="errors", sources=(), flush_timeout=3)
provider = llmwatch.session.current().pipeline.providers.tracer_provider
root = provider.get_tracer("t").start_span("a root that never ends")
from opentelemetry import trace
with trace.use_span(root):
    active.signals.start("chat", "p", "m", {}).finish()
with trace.use_span(root, record_exception=False):
    if sys.argv[2] == "fails":
        active.signals.start("embeddings", "p", "m", {}).finish(KeyError())
print("ready", flush=True)
time.sleep(0 if sys.argv[3] == "exit" else 60)
"""


@pytest.mark.parametrize("ending", ["exit", "sigterm"])
@pytest.mark.parametrize("how", ["well", "fails"])
def test_the_end_of_the_process_waits_for_no_root(how: str, ending: str) -> None:
    """What was worth keeping has left, and the rest is counted."""
    with HttpReceiver() as receiver:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", ENDS, receiver.endpoint, how, ending],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if ending == "sigterm":
            process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60)[1] == ""
        assert receiver.names() == (["chat m", "embeddings m"] if how == "fails" else [])
        assert left_out(receiver) == {"keep": 0 if how == "fails" else 1, "overflow": 0}


def test_at_the_end_what_is_held_elsewhere_decides_too(pipeline: Any) -> None:
    """As operations are that wait to be charged with the energy they took."""
    with HttpReceiver() as receiver:
        running = pipeline(endpoint=receiver.endpoint, keep="errors")
        tracer = running.providers.tracer_provider.get_tracer("tests")
        root = tracer.start_span("root")
        inside = trace.set_span_in_context(root)
        tracer.start_span("call", inside).end()
        held = tracer.start_span("held", inside)
        held.set_status(trace.StatusCode.ERROR)
        running.on_flush(lambda: held.end() if held.is_recording() else None)
        running._finish()
        assert receiver.names() == ["call", "held"]
        root.end()


TENANTS = 200


@pytest.mark.parametrize("recorded", [False, True], ids=["counted", "recorded"])
def test_series_are_limited_and_what_is_beyond_is_counted_together(
    recorded: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the reader, whichever way values reach it; no call is lost, and that is said once."""
    if not hasattr(InMemoryMetricReader(), "_instrument_class_cardinality_limit"):
        pytest.skip("this release of the SDK has no such limits")
    if recorded:
        monkeypatch.setattr("llmwatch.signals.metrics._door", lambda *_: (None, {}))
    with HttpReceiver() as receiver:
        llmwatch.instrument(endpoint=receiver.endpoint, series_limit=50, sources=())
        for turn in range(2):
            for tenant in range(TENANTS):
                with llmwatch.attributes(tenant=f"t{tenant}"):
                    active.signals.start("chat", "openai", "gpt-4o", {}).finish()
            assert llmwatch.flush()
            if turn == 0:
                receiver.received.clear()
        points = [point for _, point in receiver.points(DURATION)]
        llmwatch.uninstrument()
    assert sum(point.count for point in points) == 2 * TENANTS
    (overflow,) = [
        point
        for point in points
        if "otel.metric.overflow" in {each.key for each in point.attributes}
    ]
    assert len(points) in (50, 51)  # one of them may be the overflow's own
    assert overflow.count == 2 * (TENANTS - len(points) + 1)
    said = [each.getMessage() for each in caplog.records if DURATION in each.getMessage()]
    assert len(said) == (0 if recorded else 1)


def test_the_sdks_limits_on_attributes_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """On spans and events; what was left out is counted there, and metrics know no such limits."""
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "12")
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "6")
    with HttpReceiver() as receiver:
        llmwatch.instrument(endpoint=receiver.endpoint, sources=(), operation_events=True)
        more = {f"more.{number}": "0123456789" for number in range(30)}
        active.signals.start("chat", "openai", "gpt-4o", {}).finish()
        active.signals.start("chat", "openai", "gpt-4o-mini", more).finish()
        llmwatch.uninstrument()
        _, span = receiver.spans()
        assert len(span.attributes) == 12
        assert span.dropped_attributes_count == 33 - 12
        assert {each.value.string_value for each in span.attributes} == {"012345"}
        models = {
            each.value.string_value
            for _, point in receiver.points(DURATION)
            for each in point.attributes
            if each.key == semconv.REQUEST_MODEL
        }
        assert models == {"gpt-4o", "gpt-4o-mini"}
        values = [
            each.value.string_value for event in receiver.events() for each in event.attributes
        ]
        assert max(map(len, values)) <= 6
