"""Spans, metrics and events arrive whole, by either protocol, however they were asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmwatch import semconv, semconv_hardware
from tests.collector.collector import Arrived, Collector, environment, gaps
from tests.collector.programs import Programs

pytestmark = pytest.mark.collector

EXAMPLE = Path(__file__).parents[2] / "examples" / "existing_collector.py"
PROTOCOLS = ["http/protobuf", "grpc"]

EVERYTHING = """
call()
chunks = [stream(5), stream(9)]
client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
with llmwatch.attributes(route="/ask", user="u1"):
    client.responses.create(model="gpt-4o", input="why?")
try:
    client.chat.completions.create(**ASK, extra_headers={"x-llmwatch-script": '{"status": 429}'})
except APIError:
    say(json.dumps(chunks))
"""
SPANS = ["chat gpt-4o"] * 5 + ["embeddings text-embedding-3-small"]


def whole(arrived: Arrived) -> bool:
    """As many spans as calls; metrics and events are sent later than they are or sooner."""
    return len(arrived.spans) == 6 and len(arrived.events) == 7 and bool(arrived.points)


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    """How telemetry is sent."""
    return str(request.param)


def test_all_signals_arrive_whole(
    collector: Collector, programs: Programs, service: str, protocol: str
) -> None:
    """One span and one event a call, every chunk in the histograms, and units, ids and types right."""
    running = programs.start(
        EVERYTHING,
        endpoint=collector.rotel.endpoint(protocol),
        protocol=protocol,
        capture_content=True,
        resource_attributes={"deployment.environment.name": "test"},
    )
    chunks = json.loads(running.says())
    running.ends()
    arrived = collector.arrived(service, whole)
    check_spans(arrived, chunks)
    check_events(arrived)
    check_metrics(arrived)
    assert "sk-very-secret" not in repr(arrived)


def check_spans(arrived: Arrived, chunks: list[int]) -> None:
    assert sorted(span["name"] for span in arrived.spans) == SPANS
    for span in arrived.spans:
        assert span["kind"] == "SPAN_KIND_CLIENT"
        assert span["scope"] == "llmwatch"
        assert span["schema_url"] == semconv.SCHEMA_URL
        assert span["resource"]["deployment.environment.name"] == "test"
        assert int(span["end_time_unix_nano"]) > int(span["start_time_unix_nano"])
    streamed = [span for span in arrived.spans if semconv.STREAM_CHUNKS in span["attributes"]]
    assert [span["attributes"][semconv.STREAM_CHUNKS] for span in streamed] == chunks
    for span in streamed:
        duration = int(span["end_time_unix_nano"]) - int(span["start_time_unix_nano"])
        first = span["attributes"][semconv.RESPONSE_TIME_TO_FIRST_CHUNK]
        assert 0 < first < duration / 1e9
    (failed,) = (span for span in arrived.spans if "code" in span.get("status", {}))
    assert failed["status"]["code"] == "STATUS_CODE_ERROR"
    assert failed["attributes"][semconv.HTTP_STATUS_CODE] == 429
    (routed,) = (span for span in arrived.spans if semconv.ROUTE in span["attributes"])
    assert routed["attributes"][semconv.ROUTE] == "/ask"
    assert routed["attributes"][semconv.USER_ID] == "u1"
    assert routed["attributes"][semconv.RESPONSE_FINISH_REASONS] == ["stop"]


def check_events(arrived: Arrived) -> None:
    """Each belongs to a span; what was said is structured, as in the conventions."""
    ids = {(span["trace_id"], span["span_id"]) for span in arrived.spans}
    details = [each for each in arrived.events if each["event_name"] == semconv.EVENT_DETAILS]
    assert {(each["trace_id"], each["span_id"]) for each in details} == ids
    assert len(details) == 6
    (exception,) = (each for each in arrived.events if each not in details)
    assert exception["event_name"] == semconv.EVENT_EXCEPTION
    assert exception["attributes"][semconv.EXCEPTION_TYPE] == "openai.RateLimitError"
    asked = [each["attributes"].get(semconv.INPUT_MESSAGES) for each in details]
    question = [{"role": "user", "parts": [{"type": "text", "content": "why?"}]}]
    assert asked.count(question) == 5


def check_metrics(arrived: Arrived) -> None:
    units = {point["name"]: point["unit"] for point in arrived.points}
    assert units.keys() >= {
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.operation.time_per_output_chunk",
        "gen_ai.client.token.usage",
        "llmwatch.stream.inter_chunk_time",
    }
    tables = [
        semconv.CONVENTION_METRICS["1.41"],
        semconv.OWN_METRICS,
        semconv_hardware.GPU_METRICS,
        semconv_hardware.PROCESS_METRICS,
    ]
    expected = {metric.name: metric.unit for table in tables for metric in table.values()}
    assert units == {name: expected[name] for name in units}
    assert "llmwatch.internal.errors" not in units
    lost = [each for each in arrived.points if each["name"] == "llmwatch.telemetry.dropped"]
    assert {int(each.get("as_int", 0)) for each in lost} == {0}
    histograms = [point for point in arrived.points if point["kind"] == "histogram"]
    assert {point["temporality"] for point in histograms} == {"AGGREGATION_TEMPORALITY_CUMULATIVE"}
    for point in histograms:
        assert sum(map(int, point["bucket_counts"])) == int(point["count"])
        assert len(point["bucket_counts"]) == len(point["explicit_bounds"]) + 1
    for name in (
        "gen_ai.client.operation.time_per_output_chunk",
        "llmwatch.stream.inter_chunk_time",
    ):
        assert sum(arrived.counts(name).values()) in gaps(arrived.spans)
    assert sum(arrived.counts("gen_ai.client.operation.time_to_first_chunk").values()) == 2
    assert sum(arrived.counts("gen_ai.client.operation.duration").values()) == 6
    routes = {point["attributes"].get(semconv.ROUTE) for point in arrived.points}
    assert routes == {None, "/ask"}
    assert not any(semconv.USER_ID in point["attributes"] for point in arrived.points)


def test_the_environment_alone_is_enough(
    collector: Collector, programs: Programs, service: str, protocol: str
) -> None:
    """``instrument()`` without a word sends where the standard variables say."""
    standard = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.rotel.endpoint(protocol),
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_RESOURCE_ATTRIBUTES": "team=search",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "event_only",
    }
    programs.start("call()", standard).ends()
    arrived = collector.arrived(service, lambda now: now.spans and now.points and now.events)
    (span,), (event,) = arrived.spans, arrived.events
    assert span["resource"]["team"] == "search"
    assert semconv.INPUT_MESSAGES not in span["attributes"]
    assert semconv.INPUT_MESSAGES in event["attributes"]
    assert {point["resource"]["team"] for point in arrived.points} == {"search"}


def test_nothing_of_what_was_said_leaves_unasked(
    collector: Collector, programs: Programs, service: str
) -> None:
    """By default no content is sent, and no event, as it would have nothing to say."""
    programs.start("call(); stream(5)", endpoint=collector.rotel.endpoint("http/protobuf")).ends()
    arrived = collector.arrived(service, lambda now: len(now.spans) == 2 and now.points)
    assert "why?" not in repr(arrived)
    assert arrived.events == []


@pytest.mark.parametrize("said", ["keyword", "environment"])
def test_headers_arrive_with_every_signal(
    collector: Collector, programs: Programs, service: str, protocol: str, said: str
) -> None:
    """The test agent itself is asked: a collector does not pass headers on.

    Over grpc it keeps but one header, that by which it tells sessions apart.
    """
    where: dict[str, Any] = {"endpoint": collector.direct(protocol), "protocol": protocol}
    headers = {"X-Datadog-Test-Session-Token": service, "X-Tenant": "blue"}
    environ = {}
    if said == "keyword":
        where["headers"] = headers
    else:
        pairs = ",".join(f"{name.lower()}={text}" for name, text in headers.items())
        environ["OTEL_EXPORTER_OTLP_HEADERS"] = pairs
    programs.start("call()", environ, **where, capture_content=True).ends()
    collector.arrived(service, lambda now: now.spans and now.points and now.events, token=service)
    requests = collector.requests(service)
    paths = sorted(each["url"].rpartition("/v1/")[2] for each in requests)
    assert paths == ["logs", "metrics", "traces"]
    if protocol != "grpc":
        assert all(
            {name.lower(): text for name, text in each["headers"].items()}["x-tenant"] == "blue"
            for each in requests
        )


TWICE = "for chunks in (4, 7): stream(chunks); assert llmwatch.flush(20)"


@pytest.mark.parametrize("preference", ["cumulative", "delta"])
def test_temporality_is_what_the_standard_variable_prefers(
    collector: Collector, programs: Programs, service: str, protocol: str, preference: str
) -> None:
    """Ours and the SDK's histograms alike: each export has the news, or everything so far."""
    preferred = {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": preference}
    where = {"endpoint": collector.rotel.endpoint(protocol), "protocol": protocol}
    programs.start(TWICE, preferred, **where).ends()
    arrived = collector.arrived(service, lambda now: len(now.spans) == 2 and now.points)
    spans = sorted(arrived.spans, key=lambda span: int(span["start_time_unix_nano"]))
    streams = gaps(spans[:1]), gaps(spans[1:]), gaps(spans)
    for name, (before, news, everything) in {
        "llmwatch.stream.inter_chunk_time": streams,
        "gen_ai.client.operation.time_per_output_chunk": streams,
        "gen_ai.client.operation.duration": ([1], [1], [2]),
    }.items():
        first, second, *more = arrived.of(name)
        kind = f"AGGREGATION_TEMPORALITY_{preference.upper()}"
        assert {first["temporality"], second["temporality"]} == {kind}
        assert int(first["count"]) in before
        if preference == "delta":
            assert int(second["count"]) in news
            assert int(second["start_time_unix_nano"]) >= int(first["time_unix_nano"])
            assert more == []
        else:
            assert int(second["count"]) in everything
            assert second["start_time_unix_nano"] == first["start_time_unix_nano"]
            assert all(point["count"] == second["count"] for point in more)  # sent at the end


def test_the_example_sends_to_an_existing_collector(collector: Collector, protocol: str) -> None:
    """It says that its telemetry was delivered, and it was."""
    service = "collector-example"
    before = collector.arrived(service, lambda now: True).spans
    ran = subprocess.run(
        [sys.executable, EXAMPLE, collector.rotel.endpoint(protocol), protocol],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "one span and its metrics are at http://127.0.0.1" in ran.stdout
    arrived = collector.arrived(service, lambda now: len(now.spans) > len(before))
    assert len(arrived.spans) == len(before) + 1
    assert arrived.of("gen_ai.client.operation.time_to_first_chunk")
