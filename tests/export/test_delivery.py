"""All three signals arrive whole over every protocol, and nothing else does."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from llmwatch.config import Config
from llmwatch.errors import ConfigError
from llmwatch.export.dropped import dropped_counts
from tests.export.conftest import emit
from tests.receivers import GrpcReceiver, HttpReceiver, closed_endpoint, flushed, self_signed

RECEIVERS = [(HttpReceiver, "http/protobuf"), (GrpcReceiver, "grpc")]


@pytest.mark.parametrize(("kind", "protocol"), RECEIVERS)
def test_all_three_signals_arrive_with_headers_and_resource(
    kind: Any, protocol: str, pipeline: Any
) -> None:
    with kind() as receiver:
        running = pipeline(
            endpoint=receiver.endpoint,
            protocol=protocol,
            headers={"X-Api-Key": "secret"},
            service_name="shop",
            resource_attributes={"team": "search"},
        )
        emit(running.providers)
        assert flushed(running)
        assert receiver.names() == ["hello"]
        assert [point.as_int for _, point in receiver.points("hello")] == [1]
        assert [event.event_name for event in receiver.events()] == ["hello"]
        assert {each.headers["x-api-key"] for each in receiver.received} == {"secret"}
        resource = receiver.of("traces")[0].message.resource_spans[0].resource
        named = {each.key: each.value.string_value for each in resource.attributes}
        assert named["service.name"] == "shop"
        assert named["team"] == "search"
        assert named["service.instance.id"]
        running.undo()


@pytest.mark.parametrize(("kind", "protocol"), RECEIVERS)
def test_the_standard_variables_alone_are_enough(
    kind: Any, protocol: str, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kind() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=secret")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=search")
        running = pipeline()
        emit(running.providers)
        assert flushed(running)
        assert {each.signal for each in receiver.received} == {"traces", "metrics", "logs"}
        assert {each.headers["x-api-key"] for each in receiver.received} == {"secret"}
        resource = receiver.of("traces")[0].message.resource_spans[0].resource
        named = {each.key: each.value.string_value for each in resource.attributes}
        assert (named["service.name"], named["team"]) == ("shop", "search")
        running.undo()


def test_each_signal_may_have_its_own_protocol_and_endpoint(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HttpReceiver() as http, GrpcReceiver() as grpc:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", http.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", grpc.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")
        running = pipeline()
        emit(running.providers)
        assert flushed(running)
        assert {each.signal for each in grpc.received} == {"traces"}
        assert {each.signal for each in http.received} == {"metrics", "logs"}
        running.undo()


KINDS = [(HttpReceiver, "http/protobuf"), (GrpcReceiver, "grpc")]


@pytest.mark.parametrize(("kind", "protocol"), KINDS)
def test_tls_with_a_certificate_of_ones_own(
    kind: Any, protocol: str, pipeline: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(certificate[0]))
    with kind(certificate=certificate) as receiver:
        running = pipeline(endpoint=receiver.endpoint, protocol=protocol)
        emit(running.providers)
        assert flushed(running)
        assert receiver.names() == ["hello"]
        running.undo()


@pytest.mark.parametrize(("kind", "protocol"), KINDS)
def test_nothing_is_sent_to_a_certificate_that_nobody_vouches_for(
    kind: Any, protocol: str, pipeline: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Done with its tries before the receiver goes: a reset amid a handshake leaves a socket open.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
    with kind(certificate=self_signed(tmp_path)) as receiver:
        running = pipeline(endpoint=receiver.endpoint, protocol=protocol)
        emit(running.providers)
        assert not running.flush(5)
        assert receiver.received == []
        running.undo()


def test_the_sample_ratio_decides_which_traces_leave(pipeline: Any) -> None:
    with HttpReceiver() as receiver:
        running = pipeline(endpoint=receiver.endpoint, sample_ratio=0)
        emit(running.providers)
        assert flushed(running)
        assert receiver.spans() == []
        assert len(receiver.points("hello")) == 1
        running.undo()


def test_the_export_interval_is_kept_without_a_flush(pipeline: Any) -> None:
    with HttpReceiver() as receiver:
        running = pipeline(endpoint=receiver.endpoint, export_interval=0.05)
        emit(running.providers)
        receiver.wait_for(lambda: len(receiver.points("hello")) >= 2)
        running.undo()


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_no_secret_in_any_log_line_or_repr(
    protocol: str, pipeline: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "sk-very-secret"
    settings = {"protocol": protocol, "headers": {"authorization": f"Bearer {secret}"}}
    with HttpReceiver(status=401, body=lambda headers: headers["authorization"].encode()) as mirror:
        for endpoint in (closed_endpoint(), mirror.endpoint):
            running = pipeline(endpoint=endpoint, **settings, flush_timeout=0.3)
            emit(running.providers)
            running.flush(1.5)
            shown = repr(running.config) + repr(running.providers) + str(vars(running))
            assert secret not in shown
            running.undo()
    assert secret not in caplog.text


def test_a_failed_export_is_counted_item_by_item(pipeline: Any) -> None:
    with HttpReceiver(status=400) as receiver:
        running = pipeline(endpoint=receiver.endpoint)
        emit(running.providers)
        emit(running.providers)
        assert not running.flush(5)
        running.undo()
        counts = dropped_counts()
        assert counts["traces"] == 2
        assert counts["logs"] == 2
        assert counts["metrics"] >= 1


def test_what_a_full_queue_refuses_is_counted(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    with HttpReceiver() as receiver:
        running = pipeline(endpoint=receiver.endpoint)
        tracer = running.providers.tracer_provider.get_tracer("tests")
        for _ in range(500):
            tracer.start_span("hello").end()
        running.flush(5)
        surplus = len(receiver.spans()) + dropped_counts()["traces"] - 500
        assert 0 <= surplus <= len(receiver.of("traces"))
        running.undo()


@pytest.mark.parametrize(
    ("settings", "environment", "words"),
    [
        ({"endpoint": "localhost:4317"}, {}, "localhost:4317"),
        ({}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "http/json"),
        ({}, {"OTEL_TRACES_EXPORTER": "carrier_pigeon"}, "carrier_pigeon"),
        ({"endpoint": "ftp://localhost"}, {}, "ftp://localhost"),
        ({"endpoint": "localhost"}, {}, "localhost"),
        ({"endpoint": "http://localhost:port"}, {}, "port"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    settings: Any, environment: Any, words: str, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(ConfigError, match=words):
        pipeline(**settings)


def test_an_endpoint_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load(endpoint="https://me:hunter2@example.com")
    assert "hunter2" not in str(caught.value)
    assert "headers" in str(caught.value)


def test_a_header_that_a_transport_would_refuse_is_refused_without_showing_it() -> None:
    """requests and grpc put the whole value in their errors."""
    for headers in ({"authorization": "Bearer sk-1\nx"}, {"a b": "sk-1"}, {"key": "sk-1\u00e9"}):
        with pytest.raises(ConfigError) as caught:
            Config.load(headers=headers)
        assert "sk-1" not in str(caught.value)
    assert Config.load(headers={"authorization": "Bearer sk-1\n"}).headers == {
        "authorization": "Bearer sk-1"
    }


def test_grpc_endpoints_may_lack_a_scheme() -> None:
    assert Config.load(endpoint="localhost:4317").endpoint == "localhost:4317"
