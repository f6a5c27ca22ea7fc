"""Which provider each signal goes through."""

from __future__ import annotations

import logging
import random
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from llmwatch.config import Config
from llmwatch.export import global_providers
from llmwatch.export.builders import STORE, exporter_names
from llmwatch.export.dropped import SIGNALS
from llmwatch.export.store_reader import read_logs, read_metrics, read_spans
from tests.export.conftest import emit, globals_
from tests.receivers import HttpReceiver, flushed

SDK = {
    "tracer_provider": lambda: TracerProvider(shutdown_on_exit=False),
    "meter_provider": lambda: MeterProvider(shutdown_on_exit=False),
    "logger_provider": lambda: LoggerProvider(shutdown_on_exit=False),
}


def test_given_providers_are_used_and_nothing_is_built(pipeline: Any) -> None:
    given = {name: make() for name, make in SDK.items()}
    found = pipeline(**given).providers
    assert [found.tracer_provider, found.meter_provider, found.logger_provider] == list(
        given.values()
    )
    assert not found.owned
    assert found.store is None


def test_given_providers_are_not_shut_down(pipeline: Any) -> None:
    given = {name: make() for name, make in SDK.items()}
    pipeline(**given).undo()
    assert (
        given["meter_provider"].get_meter("m").__class__.__module__.startswith("opentelemetry.sdk")
    )


def test_the_applications_global_providers_are_used(pipeline: Any) -> None:
    theirs = TracerProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(theirs)
    found = pipeline().providers
    assert found.tracer_provider is theirs
    assert found.owned == {"metrics", "logs"}


def test_an_endpoint_that_a_global_provider_makes_useless_is_said_to_be(
    pipeline: Any, caplog: pytest.LogCaptureFixture
) -> None:
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
    with HttpReceiver() as receiver:
        pipeline(endpoint=receiver.endpoint).undo()
    said = [each.getMessage() for each in caplog.records if "endpoint=" in each.getMessage()]
    assert len(said) == 1
    assert "traces" in said[0]


def test_looking_does_not_make_the_api_configure_itself(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("TRACER", "METER", "LOGGER"):
        monkeypatch.setenv(f"OTEL_PYTHON_{kind}_PROVIDER", f"sdk_{kind.lower()}_provider")
    assert pipeline().providers.owned == {"traces", "metrics", "logs"}
    assert [global_providers.get(signal) for signal in SIGNALS] == [None] * 3


def test_with_nothing_configured_everything_goes_to_the_local_store(
    pipeline: Any, tmp_path: Path
) -> None:
    running = pipeline()
    assert running.providers.store == tmp_path / "state" / "llmwatch"
    emit(running.providers)
    assert flushed(running)
    store = running.providers.store
    assert [span.name for span in read_spans(store)] == ["hello"]
    assert [point.value for point in read_metrics(store)] == [1.0]
    assert [log.event_name for log in read_logs(store)] == ["hello"]


def test_a_disabled_sdk_makes_nothing_and_leaves_given_ones(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    given = TracerProvider(shutdown_on_exit=False)
    running = pipeline(tracer_provider=given)
    assert running.providers.tracer_provider is given
    assert not running.providers.owned
    emit(running.providers)
    assert flushed(running)
    running.undo()
    assert not (tmp_path / "state").exists()


OTLP, OURS = ["otlp"], [STORE]


@pytest.mark.parametrize(
    ("settings", "environment", "expected"),
    [
        ({}, {}, (OURS, OURS, OURS)),
        ({"endpoint": "http://localhost:1"}, {}, (OTLP, OTLP, OTLP)),
        ({"protocol": "grpc"}, {}, (OTLP, OTLP, OTLP)),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1"}, (OTLP, OTLP, OTLP)),
        ({}, {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://localhost:1"}, (OTLP, OTLP, OTLP)),
        ({}, {"OTEL_TRACES_EXPORTER": "otlp"}, (OTLP, OTLP, OTLP)),
        ({}, {"OTEL_TRACES_EXPORTER": "console"}, (["console"], OTLP, OTLP)),
        ({}, {"OTEL_TRACES_EXPORTER": "console, otlp"}, (["console", "otlp"], OTLP, OTLP)),
        ({}, {"OTEL_METRICS_EXPORTER": "none"}, (OTLP, [], OTLP)),
        (
            {"endpoint": "http://localhost:1"},
            {"OTEL_TRACES_EXPORTER": "console", "OTEL_LOGS_EXPORTER": "none"},
            (["console", "otlp"], OTLP, []),
        ),
    ],
)
def test_the_standard_variables_mean_what_they_always_mean(
    settings: Any, environment: Any, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    config = Config.load(**settings)
    found = tuple(exporter_names(config, signal) for signal in ("traces", "metrics", "logs"))
    assert found == expected


def test_installed_exporters_of_any_name_are_used(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for signal in ("TRACES", "METRICS", "LOGS"):
        monkeypatch.setenv(f"OTEL_{signal}_EXPORTER", "console")
    running = pipeline()
    emit(running.providers, "printed")
    running.flush(5)
    running.undo()
    assert running.providers.store is None


def test_ids_do_not_repeat_where_a_program_seeds_its_random_numbers_again(pipeline: Any) -> None:
    tracer = pipeline().providers.tracer_provider.get_tracer("test")
    contexts = []
    for _ in range(2):
        random.seed(7)
        contexts.append(tracer.start_span("request").get_span_context())
    first, second = contexts
    assert first.trace_id != second.trace_id
    assert first.span_id != second.span_id


def test_the_sampler_of_the_environment_is_the_sdks_business(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    assert pipeline().providers.tracer_provider.sampler is ALWAYS_OFF


def test_temporality_is_what_the_environment_prefers(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    with HttpReceiver() as receiver:
        running = pipeline(endpoint=receiver.endpoint)
        emit(running.providers)
        running.flush(5)
        found = receiver.of("metrics")[0].message.resource_metrics[0].scope_metrics[0].metrics[0]
        assert found.sum.aggregation_temporality == 1
        running.undo()


def test_global_providers_are_set_only_when_asked_and_unset_exactly(pipeline: Any) -> None:
    before = globals_()
    running = pipeline()
    assert globals_() == before
    running.undo()
    with HttpReceiver() as receiver:
        for _ in range(2):
            running = pipeline(endpoint=receiver.endpoint, set_global=True)
            found = running.providers
            assert globals_() == (
                found.tracer_provider,
                found.meter_provider,
                found.logger_provider,
            )
            with trace.get_tracer("app").start_as_current_span("manual"):
                metrics.get_meter("app").create_counter("manual").add(1)
            running.undo()
            assert globals_() == before
        assert receiver.names() == ["manual", "manual"]
        assert len(receiver.points("manual")) == 2


def test_the_applications_providers_are_never_replaced_or_unset(
    pipeline: Any, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = TracerProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(theirs)
    running = pipeline(set_global=True)
    assert trace.get_tracer_provider() is theirs
    running.undo()
    assert trace.get_tracer_provider() is theirs


def test_warnings_of_the_sdk_are_not_ours_to_cause(
    pipeline: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        running = pipeline(set_global=True)
        emit(running.providers)
        running.flush(5)
        running.undo()
        running.undo()
    said = [each for each in caplog.records if not each.name.startswith("opentelemetry.exporter")]
    assert said == []


@pytest.mark.skipif(
    "meter_provider" not in signature(BatchSpanProcessor).parameters,
    reason="this release of the SDK does not count itself",
)
def test_the_sdks_metrics_about_itself_come_along(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    with HttpReceiver() as receiver:
        running = pipeline(endpoint=receiver.endpoint)
        emit(running.providers)
        running.flush(5)
        assert receiver.points("otel.sdk.processor.span.queue.capacity")
        running.undo()
