"""An application that sets global providers after llmwatch was there is followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry import _logs, metrics, trace
from opentelemetry.metrics import set_meter_provider as imported_earlier
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llmwatch.export.providers import Providers
from tests.export.conftest import emit
from tests.receivers import HttpReceiver, flushed


class Application:
    """Somebody's own providers, set as the global ones."""

    def __init__(self) -> None:
        self.spans, self.logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
        self.reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self.meter_provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.logger_provider = LoggerProvider(shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self.logs))

    def set_globals(self) -> None:
        trace.set_tracer_provider(self.tracer_provider)
        imported_earlier(self.meter_provider)
        _logs.set_logger_provider(self.logger_provider)


def test_what_comes_later_goes_there_and_what_came_before_is_flushed(pipeline: Any) -> None:
    application = Application()
    with HttpReceiver() as receiver:
        running = pipeline(endpoint=receiver.endpoint)
        seen: list[Providers] = []
        running.on_change(seen.append)
        emit(running.providers, "before")
        application.set_globals()
        assert running.providers.tracer_provider is application.tracer_provider
        assert running.providers.meter_provider is application.meter_provider
        assert running.providers.logger_provider is application.logger_provider
        assert not running.providers.owned
        assert seen[-1] == running.providers
        assert len(seen) == 3
        emit(running.providers, "after")
        assert flushed(running)
        running.undo()
        assert receiver.names() == ["before"]
        assert len(receiver.points("before")) >= 1
        assert receiver.points("after") == []
        assert [event.event_name for event in receiver.events()] == ["before"]
        assert [span.name for span in application.spans.get_finished_spans()] == ["after"]
        assert len(application.logs.get_finished_logs()) == 1


def test_a_span_in_flight_still_ends_in_the_provider_it_began_in(pipeline: Any) -> None:
    with HttpReceiver() as receiver:
        running = pipeline(endpoint=receiver.endpoint)
        span = running.providers.tracer_provider.get_tracer("tests").start_span("long")
        trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
        span.end()
        running.undo()
        assert receiver.names() == ["long"]


def test_given_providers_are_never_given_up(pipeline: Any) -> None:
    given = TracerProvider(shutdown_on_exit=False)
    running = pipeline(tracer_provider=given)
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
    assert running.providers.tracer_provider is given


def test_ours_as_the_global_ones_stay(pipeline: Any) -> None:
    running = pipeline(set_global=True)
    ours = running.providers.tracer_provider
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))  # refused by the API
    assert running.providers.tracer_provider is ours
    assert trace.get_tracer_provider() is ours


def test_following_is_undone_exactly(pipeline: Any, tmp_path: Path) -> None:
    setters = trace._set_tracer_provider, metrics._internal._set_meter_provider
    running = pipeline()
    running.undo()
    assert trace._set_tracer_provider is setters[0]
    assert metrics._internal._set_meter_provider is setters[1]
    built = running.providers
    Application().set_globals()
    assert running.providers == built


@pytest.mark.timing
def test_a_dead_collector_hardly_holds_up_the_application(pipeline: Any) -> None:
    from time import monotonic

    from tests.receivers import black_hole

    with black_hole() as endpoint:
        running = pipeline(endpoint=endpoint, flush_timeout=0.2)
        emit(running.providers)
        started = monotonic()
        Application().set_globals()
        assert monotonic() - started < 1.5
        running.undo()
