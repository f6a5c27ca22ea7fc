"""Whatever exports OTLP over HTTP ends up in the store; whatever is not OTLP is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import _logs
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from llmwatch.config import Config
from llmwatch.errors import ConfigError
from llmwatch.export.local_store import StoreSpanExporter, to_json
from llmwatch.export.pipeline import Pipeline
from llmwatch.export.store_reader import read_logs, read_metrics, read_spans
from llmwatch.view import receive
from llmwatch.view.receive import Receiver
from llmwatch.view.records import Filter
from llmwatch.view.store import open_view
from tests.stores import batches

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path, 0) as running:
        yield running


def post(
    receiver: Receiver, path: str, body: Any, headers: dict[str, str], **more: Any
) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", receiver.port, timeout=20)
    try:
        connection.request("POST", path, body, headers, **more)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def some_spans(where: Path, number: int) -> bytes:
    """Lines of a store."""
    exporter = StoreSpanExporter(Config.load(store_path=where))
    exporter.export(next(batches(number))[:number])
    return next(where.glob("traces-*")).read_bytes()


def test_nothing_is_taken_from_a_page_in_a_browser(receiver: Receiver, tmp_path: Path) -> None:
    """Browsers name the page; a name of its own that it moved to 127.0.0.1 would let it in else."""
    status, _ = post(receiver, "/v1/traces", b"{}", {**JSON, "Origin": "http://example.com"})
    assert status == 403
    assert list(tmp_path.glob("traces-*")) == []


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_all_signals_arrive_from_the_exporters_of_the_sdk(
    receiver: Receiver, tmp_path: Path, compression: Compression
) -> None:
    url, resource = f"http://127.0.0.1:{receiver.port}/v1", Resource({"service.name": "other"})
    tracing = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracing.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(f"{url}/traces", compression=compression))
    )
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(f"{url}/metrics", compression=compression)
    )
    metering = MeterProvider([reader], resource, shutdown_on_exit=False)
    logging = LoggerProvider(resource, shutdown_on_exit=False)
    logging.add_log_record_processor(
        SimpleLogRecordProcessor(OTLPLogExporter(f"{url}/logs", compression=compression))
    )
    with tracing.get_tracer("t").start_as_current_span("hello", attributes={"a": [1, 2]}) as span:
        logging.get_logger("t").emit(_logs.LogRecord(body="said", timestamp=1))
    metering.get_meter("t").create_counter("many").add(3)
    for provider in (tracing, metering, logging):
        provider.shutdown()
    (found,) = read_spans(tmp_path)
    assert (found.name, found.attributes) == ("hello", {"a": [1, 2]})
    assert int(found.span_id, 16) == span.get_span_context().span_id
    assert found.resource["service.name"] == "other"
    (log,) = read_logs(tmp_path)
    assert (log.body, log.trace_id) == ("said", found.trace_id)
    assert [point.value for point in read_metrics(tmp_path) if point.metric == "many"] == [3]


def test_a_view_shows_a_program_that_llmwatch_watches_elsewhere(
    receiver: Receiver, tmp_path: Path
) -> None:
    pipeline = Pipeline(Config.load(endpoint=f"http://127.0.0.1:{receiver.port}", flush_timeout=5))
    pipeline.install()
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    tracer = pipeline.providers.tracer_provider.get_tracer("t")
    tracer.start_span("chat m", attributes=attributes).end()
    assert pipeline.flush(10)
    pipeline.undo()
    view = open_view(tmp_path)
    assert [(row.operation, row.model) for row in view.requests(Filter())] == [("chat", "m")]
    view.close()


def test_json_arrives_as_it_was_sent(receiver: Receiver, tmp_path: Path) -> None:
    sent = some_spans(tmp_path / "other", 20)
    (line,) = sent.splitlines()
    assert post(receiver, "/v1/traces", line, JSON) == (200, b"{}")
    assert list(read_spans(tmp_path)) == list(read_spans(tmp_path / "other"))


def test_a_large_request_becomes_lines_that_can_be_read_one_by_one(
    receiver: Receiver, tmp_path: Path
) -> None:
    lines = some_spans(tmp_path / "other", 300).splitlines()
    spans = [each for line in lines for each in json.loads(line)["resourceSpans"]]
    body = gzip.compress(json.dumps({"resourceSpans": spans}).encode())
    chunks = (body[begin : begin + 1000] for begin in range(0, len(body), 1000))
    headers = {**JSON, "Content-Encoding": "gzip"}
    status, _ = post(receiver, "/v1/traces", chunks, headers, encode_chunked=True)
    assert status == 200
    assert list(read_spans(tmp_path)) == list(read_spans(tmp_path / "other"))
    written = next(tmp_path.glob("traces-*")).read_bytes().splitlines()
    assert len(written) >= len(lines)


def test_bytes_that_are_unknown_yet_are_left_out(receiver: Receiver, tmp_path: Path) -> None:
    """The specification: receivers ignore fields of later versions."""
    line = json.loads(some_spans(tmp_path / "other", 1))
    line["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["of2030"] = {"deep": [1]}
    assert post(receiver, "/v1/traces", json.dumps(line), JSON)[0] == 200
    assert list(read_spans(tmp_path)) == list(read_spans(tmp_path / "other"))


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/v1/traces", b"{", JSON, 400),
        ("/v1/traces", b"[]", JSON, 400),
        ("/v1/traces", b'{"resourceSpans": 1}', JSON, 400),
        (
            "/v1/traces",
            b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "x"}]}]}]}',
            JSON,
            400,
        ),
        ("/v1/traces", b"[" * 100_000, JSON, 400),
        ("/v1/metrics", b"\xff\xff", PROTOBUF, 400),
        ("/v1/logs", b"not gzip", {**JSON, "Content-Encoding": "gzip"}, 400),
        ("/v1/logs", gzip.compress(b"{}", mtime=0)[:-9], {**JSON, "Content-Encoding": "gzip"}, 400),
        (
            "/v1/logs",
            gzip.compress(b" " * 21_000_000, mtime=0),
            {**JSON, "Content-Encoding": "gzip"},
            413,
        ),
        ("/v1/logs", b"{}", {**JSON, "Content-Encoding": "br"}, 415),
        ("/v1/logs", b"{}", {"Content-Type": "text/plain"}, 415),
        ("/v1/elsewhere", b"{}", JSON, 404),
        ("/v1/logs", b"", {**JSON, "Content-Length": "21000000"}, 413),
        ("/v1/logs", b"", {**JSON, "Content-Length": "many"}, 411),
        ("/v1/logs", b"xyz\r\n", {**JSON, "Transfer-Encoding": "chunked"}, 400),
        ("/v1/logs", b"fffffff\r\n", {**JSON, "Transfer-Encoding": "chunked"}, 413),
    ],
)
def test_what_is_not_otlp_is_refused(
    receiver: Receiver, tmp_path: Path, path: str, body: bytes, headers: Any, status: int
) -> None:
    found, answer = post(receiver, path, body, headers)
    assert found == status
    if headers["Content-Type"] == "application/json":
        assert json.loads(answer)["message"]
    assert not list(tmp_path.glob("*.jsonl"))


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=300) | st.text(max_size=100).map(str.encode),
    headers=st.sampled_from([JSON, PROTOBUF]),
    path=st.sampled_from(["/v1/traces", "/v1/metrics", "/v1/logs"]),
)
def test_any_bytes_are_taken_or_refused_and_never_break_it(
    receiver: Receiver, body: bytes, headers: Any, path: str
) -> None:
    assert post(receiver, path, body, headers)[0] in (200, 400)


ids = st.sampled_from([b"", b"\0" * 8, b"\0" * 16, b"x", b"1" * 8, b"2" * 16])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(named=st.lists(st.tuples(ids, ids), max_size=4), as_json=st.booleans())
def test_messages_with_nothing_in_them_can_be_read_back(
    receiver: Receiver, tmp_path: Path, named: list[tuple[bytes, bytes]], as_json: bool
) -> None:
    """Every field of protobuf may be missing; spans without ids are told as rejected."""
    for each in tmp_path.glob("*.jsonl"):
        each.unlink()
    sent = ExportTraceServiceRequest()
    sent.resource_spans.add().resource.attributes.add()
    spans = sent.resource_spans.add().scope_spans.add().spans
    for trace_id, span_id in named:
        span = spans.add(trace_id=trace_id, span_id=span_id)
        span.attributes.add()
        span.attributes.add(key="a").value.array_value.values.add()
        span.attributes.add(key="b").value.kvlist_value.values.add()
        span.events.add().attributes.add()
    body: bytes = to_json(sent) if as_json else sent.SerializeToString()
    status, answer = post(receiver, "/v1/traces", body, JSON if as_json else PROTOBUF)
    assert status == 200
    good = sum(trace_id == b"2" * 16 and span_id == b"1" * 8 for trace_id, span_id in named)
    found = list(read_spans(tmp_path))
    assert len(found) == good
    assert all(span.attributes == {"": None, "a": [None], "b": {"": None}} for span in found)
    if not as_json:
        rejected = ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans
        assert rejected == len(named) - good
    view = open_view(tmp_path)
    assert view.requests(Filter()) == []
    view.close()


def test_a_browser_cannot_write_by_itself(receiver: Receiver) -> None:
    """What a page may send without being asked for leave is refused; leave is not given."""
    simple = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x")
    for content_type in simple:
        assert post(receiver, "/v1/traces", b"{}", {"Content-Type": content_type})[0] == 415
    connection = HTTPConnection("127.0.0.1", receiver.port, timeout=20)
    connection.request("OPTIONS", "/v1/traces", headers={"Origin": "http://example.com"})
    answer = connection.getresponse()
    assert answer.status >= 400
    assert "Access-Control-Allow-Origin" not in answer.headers
    connection.close()


def test_what_is_larger_than_the_store_is_told_as_rejected(tmp_path: Path) -> None:
    sent = ExportTraceServiceRequest()
    for size in (10, 5000):
        spans = sent.resource_spans.add().scope_spans.add().spans
        for _ in range(64):
            spans.add(trace_id=b"1" * 16, span_id=b"2" * 8, name="x" * size)
    with Receiver(tmp_path, 0, limit=100_000) as receiver:
        status, answer = post(receiver, "/v1/traces", sent.SerializeToString(), PROTOBUF)
    assert status == 200
    assert ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans == 64
    assert {span.name for span in read_spans(tmp_path)} == {"x" * 10}


def test_a_store_that_cannot_be_written_asks_to_try_again(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    body = some_spans(tmp_path / "other", 1)
    with Receiver(blocker / "store", 0) as receiver:
        assert post(receiver, "/v1/traces", body, JSON)[0] == 503


def test_what_the_environment_says_of_the_store_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMWATCH_STORE_LIMIT", "1000000")
    line = some_spans(tmp_path / "other", 64)
    with Receiver(tmp_path, 0) as receiver:
        for _ in range(20):
            assert post(receiver, "/v1/traces", line, JSON)[0] == 200
    assert 900_000 < sum(each.stat().st_size for each in tmp_path.glob("*.jsonl")) <= 1_000_000


def test_a_port_that_is_taken_is_told(receiver: Receiver, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f":{receiver.port} .*another port"):
        Receiver(tmp_path, receiver.port).__enter__()


def test_a_connection_that_is_kept_alive_ends_with_the_receiver(tmp_path: Path) -> None:
    with Receiver(tmp_path, 0) as receiver:
        connection = HTTPConnection("127.0.0.1", receiver.port, timeout=20)
        for _ in range(2):
            connection.request("POST", "/v1/traces", b"{}", JSON)
            assert connection.getresponse().read() == b"{}"
        held = connection.sock
    assert held.recv(1) == b""
    connection.close()


def test_only_this_machine_can_reach_it(receiver: Receiver) -> None:
    assert receiver._server is not None
    assert receiver._server.server_address[0] == "127.0.0.1"
    assert receive.PORT == 4318
