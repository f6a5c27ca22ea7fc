"""Events tell what was asked for, beside their span, and no secret."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import openai
import pytest
from opentelemetry import trace
from opentelemetry._logs import Logger, NoOpLogger, NoOpLoggerProvider, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import llmwatch
from llmwatch import semconv
from llmwatch.config import CaptureContent, Config
from llmwatch.measure.record import Usage
from llmwatch.signals.content import Content
from llmwatch.signals.events import Events
from llmwatch.signals.metrics import Metrics
from llmwatch.signals.operation import Operation, Signals

SAID = [{"role": "user", "parts": [{"type": "text", "content": "What rains?"}]}]


class Bench:
    """Signals over the real SDK, kept in memory."""

    def __init__(self, *, sampler: Any = None, logs: Any = None, **settings: Any) -> None:
        self.config = Config(cost=False, **settings)
        self.exporter = InMemoryLogRecordExporter()
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(SimpleLogRecordProcessor(self.exporter))
        self.events = Events(self.config, logs or provider)
        self.meter_provider = MeterProvider(shutdown_on_exit=False)
        self.metrics = Metrics(self.config, self.meter_provider)
        tracer = TracerProvider(sampler=sampler, shutdown_on_exit=False).get_tracer("test")
        self.signals = Signals(self.config, tracer, self.metrics, self.events)

    def run(self, error: BaseException | None = None, **attributes: Any) -> Operation:
        operation = self.signals.start(
            "chat",
            "openai",
            "gpt-4o",
            {semconv.REQUEST_TEMPERATURE: 0.5},
            server_address="api.openai.com",
            server_port=443,
        )
        assert operation is not None
        operation.attributes.update(attributes)
        operation.response_model, operation.response_id = "gpt-4o-2024-08-06", "chatcmpl-1"
        operation.usage = Usage(10, 20)
        operation.content = Content(self.config)
        operation.content.input_messages = SAID
        operation.finish(error)
        return operation

    def close(self) -> None:
        self.metrics.close()

    def told(self) -> list[Any]:
        return [each.log_record for each in self.exporter.get_finished_logs()]


@pytest.fixture
def bench():
    made = []

    def make(**settings: Any) -> Bench:
        made.append(Bench(**settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


REQUEST = httpx2.Request("POST", "https://api.openai.com/v1/chat/completions")


def api_error(status: int = 401) -> openai.APIStatusError:
    return openai.AuthenticationError(
        "Incorrect API key provided: sk-proj-abcdef1234567890. In: 'What rains?'",
        response=httpx2.Response(status, request=REQUEST),
        body=None,
    )


def test_nothing_is_told_by_default(bench) -> None:
    quiet = bench()
    quiet.run()
    assert quiet.told() == []
    assert not quiet.events.details


@pytest.mark.parametrize(
    ("mode", "operation_events", "told", "has_content"),
    [
        (CaptureContent.NO_CONTENT, False, False, False),
        (CaptureContent.SPAN_ONLY, False, False, False),
        (CaptureContent.EVENT_ONLY, False, True, True),
        (CaptureContent.SPAN_AND_EVENT, False, True, True),
        (CaptureContent.NO_CONTENT, True, True, False),
        (CaptureContent.SPAN_ONLY, True, True, False),
    ],
)
def test_the_mode_decides_whether_and_with_what(bench, mode, operation_events, told, has_content):
    made = bench(capture_content=mode, operation_events=operation_events)
    made.run()
    assert len(made.told()) == told
    for event in made.told():
        assert (semconv.INPUT_MESSAGES in event.attributes) == has_content


def test_details_say_what_the_span_says_and_lie_in_it(bench) -> None:
    made = bench(capture_content=CaptureContent.SPAN_AND_EVENT)
    operation = made.run(**{semconv.OPENAI_RESPONSE_SERVICE_TIER: "default"})
    (event,) = made.told()
    assert event.event_name == "gen_ai.client.inference.operation.details"
    assert (event.severity_number, event.severity_text) == (SeverityNumber.INFO, "INFO")
    context = operation.span.get_span_context()
    assert (event.trace_id, event.span_id) == (context.trace_id, context.span_id)
    assert event.timestamp > 1e18
    on_span = dict(operation.span.attributes)
    assert isinstance(on_span.pop(semconv.INPUT_MESSAGES), str)
    on_event = dict(event.attributes)
    (message,) = on_event.pop(semconv.INPUT_MESSAGES)
    assert message["parts"][0] == SAID[0]["parts"][0]
    assert on_event == on_span
    assert on_event[semconv.USAGE_OUTPUT_TOKENS] == 20
    assert on_event[semconv.REQUEST_TEMPERATURE] == 0.5


def test_details_are_whole_where_the_span_is_not_sampled(bench) -> None:
    full = bench(operation_events=True)
    full.run()
    unsampled = bench(operation_events=True, sampler=ALWAYS_OFF)
    unsampled.run()
    ((first,), (second,)) = full.told(), unsampled.told()
    assert first.attributes == second.attributes


def test_attributes_of_the_block_are_on_both_events(bench) -> None:
    made = bench(operation_events=True)
    with llmwatch.attributes(route="/ask", session="s1", flavour="sweet"):
        made.run(ValueError("x"))
    for event in made.told():
        assert event.attributes[semconv.ROUTE] == "/ask"
        assert event.attributes[semconv.SESSION_ID] == "s1"
        assert event.attributes["flavour"] == "sweet"
    assert len(made.told()) == 2


def test_a_failure_is_told_without_its_message(bench) -> None:
    made = bench()
    operation = made.run(api_error())
    (event,) = made.told()
    assert event.event_name == "gen_ai.client.operation.exception"
    assert (event.severity_number, event.severity_text) == (SeverityNumber.WARN, "WARN")
    assert event.span_id == operation.span.get_span_context().span_id
    assert dict(event.attributes) == {
        semconv.OPERATION_NAME: "chat",
        semconv.PROVIDER_NAME: "openai",
        semconv.REQUEST_MODEL: "gpt-4o",
        semconv.RESPONSE_MODEL: "gpt-4o-2024-08-06",
        semconv.RESPONSE_ID: "chatcmpl-1",
        semconv.SERVER_ADDRESS: "api.openai.com",
        semconv.SERVER_PORT: 443,
        semconv.EXCEPTION_TYPE: "openai.AuthenticationError",
        semconv.ERROR_TYPE: "AuthenticationError",
        semconv.HTTP_STATUS_CODE: 401,
    }


def test_a_message_is_told_where_content_is_but_never_a_key(bench) -> None:
    made = bench(
        capture_content=CaptureContent.EVENT_ONLY,
        redact=lambda text: text.replace("What rains?", "(question)"),
    )
    made.run(api_error())
    _, event = made.told()
    message = event.attributes[semconv.EXCEPTION_MESSAGE]
    assert message == "Incorrect (secret) In: '(question)'"


@pytest.mark.parametrize(
    "secret",
    [
        "Authorization: Bearer abcdefghijk",
        "bad key sk-abc123",
        "api_key=abcdefghijk",
        "api-key: 'abcdefghijk'",
        "Incorrect API key provided: abcdefghijk.",
    ],
)
def test_no_form_of_a_key_gets_out(bench, secret) -> None:
    made = bench(capture_content=CaptureContent.EVENT_ONLY)
    made.run(RuntimeError(secret))
    said = made.told()[1].attributes[semconv.EXCEPTION_MESSAGE]
    assert "(secret)" in said
    assert "abc" not in said


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ValueError("x"), "ValueError"),
        (asyncio.CancelledError(), "asyncio.exceptions.CancelledError"),
        (openai.APITimeoutError(REQUEST), "openai.APITimeoutError"),
    ],
)
def test_the_type_is_told_in_full(bench, error, name) -> None:
    made = bench()
    made.run(error)
    (event,) = made.told()
    assert event.attributes[semconv.EXCEPTION_TYPE] == name
    assert semconv.EXCEPTION_MESSAGE not in event.attributes
    assert semconv.HTTP_STATUS_CODE not in event.attributes


@pytest.mark.parametrize("logs", [NoOpLoggerProvider(), NoOpLogger("x")])
def test_without_an_sdk_there_is_nothing_to_do(bench, logs) -> None:
    made = bench(capture_content=CaptureContent.SPAN_AND_EVENT, logs=logs)
    assert not made.events.details
    made.run(ValueError("x"))


@pytest.mark.skipif(not hasattr(Logger, "enabled"), reason="this API cannot be asked")
def test_what_no_processor_wants_is_not_made(bench) -> None:
    made = bench(
        capture_content=CaptureContent.EVENT_ONLY, logs=LoggerProvider(shutdown_on_exit=False)
    )
    operation = made.run(ValueError("x"))
    assert operation.content is not None
    assert operation.content._cleaned is None


def test_an_event_of_one_operation_lies_in_its_span_not_in_the_current_one(bench) -> None:
    made = bench(operation_events=True)
    with trace.use_span(trace.NonRecordingSpan(trace.INVALID_SPAN_CONTEXT)):
        operation = made.run()
    assert made.told()[0].span_id == operation.span.get_span_context().span_id
