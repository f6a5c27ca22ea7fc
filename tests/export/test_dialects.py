"""What a backend's own words add to the conventions', and that nothing else changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import llmwatch
from llmwatch import semconv
from llmwatch.backends import PRESETS
from llmwatch.export.dialects import DIALECTS, Speaking, mlflow, openinference
from llmwatch.measure.record import Usage
from llmwatch.signals import active
from tests.receivers import HttpReceiver

CHAT = {semconv.OPERATION_NAME: "chat"}


def messages(*parts: dict[str, Any], role: str = "user") -> str:
    return json.dumps([{"role": role, "parts": list(parts)}])


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


def test_presets_speak_dialects_that_there_are() -> None:
    assert {each.dialect for each in PRESETS.values()} - {None} == set(DIALECTS)


def test_openinference_tells_what_phoenix_does_not_find() -> None:
    """The texts in short, costs, and the kinds of tokens that it does not read."""
    call = {"type": "tool_call", "id": "c1", "name": "f", "arguments": {"a": 1}}
    said = openinference(
        {
            **CHAT,
            semconv.INPUT_MESSAGES: json.dumps(
                [
                    {"role": "system", "parts": [text("Be brief.")]},
                    {"parts": [text("a"), text("b")]},
                ]
            ),
            semconv.OUTPUT_MESSAGES: messages(call),
            semconv.USAGE_REASONING_OUTPUT_TOKENS: 7,
            semconv.USAGE_AUDIO_INPUT_TOKENS: 0,
            semconv.COST: 0.25,
        }
    )
    assert said == {
        "openinference.span.kind": "LLM",
        "input.value": "a\nb",
        "output.value": json.dumps([call]),
        "llm.token_count.completion_details.reasoning": 7,
        "llm.token_count.prompt_details.audio": 0,
        "llm.cost.total": 0.25,
    }


def test_mlflow_tells_what_mlflow_does_not_find() -> None:
    """The system's instructions among the messages, the cost, and a total where it has no output."""
    said = mlflow(
        {
            **CHAT,
            semconv.SYSTEM_INSTRUCTIONS: json.dumps([text("Be brief.")]),
            semconv.INPUT_MESSAGES: messages(text("é")),
            semconv.USAGE_INPUT_TOKENS: 3,
            semconv.COST: 0.25,
        }
    )
    inputs = json.loads(said.pop("mlflow.spanInputs"))
    assert inputs == [
        {"role": "system", "parts": [text("Be brief.")]},
        {"role": "user", "parts": [text("é")]},
    ]
    assert said == {
        "mlflow.llm.cost": {"total_cost": 0.25},
        "mlflow.chat.tokenUsage": {"input_tokens": 3, "total_tokens": 3},
    }
    assert mlflow({**CHAT, semconv.USAGE_INPUT_TOKENS: 3, semconv.USAGE_OUTPUT_TOKENS: 1}) == {}


@pytest.mark.parametrize(
    ("operation", "kind", "span_type"),
    [
        ("chat", "LLM", None),
        ("embeddings", "EMBEDDING", None),
        ("invoke_agent", "AGENT", None),
        ("execute_tool", "TOOL", None),
        ("invoke_workflow", "CHAIN", "CHAIN"),
        ("transcription", "LLM", "LLM"),
    ],
)
def test_every_operation_has_a_kind(operation: str, kind: str, span_type: str | None) -> None:
    said = {semconv.OPERATION_NAME: operation}
    assert openinference(said)["openinference.span.kind"] == kind
    assert mlflow(said).get("mlflow.spanType") == span_type


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("broken", ["", "[", "{}", "null", "[]", 7, "[1]", '["a"]'])
def test_content_that_is_none_adds_none(dialect: str, broken: Any) -> None:
    """Such as `redact` may leave, a limit on attributes cut, or another instrumentation write."""
    keys = (semconv.INPUT_MESSAGES, semconv.OUTPUT_MESSAGES, semconv.SYSTEM_INSTRUCTIONS)
    said = DIALECTS[dialect]({**CHAT, **dict.fromkeys(keys, broken)})
    assert not {"input.value", "output.value", "mlflow.spanInputs"} & said.keys()


@pytest.mark.parametrize("parts", [None, 7, "text", {"a": 1}, [7, "text"]])
def test_messages_of_others_may_have_any_parts(parts: Any) -> None:
    said = openinference({**CHAT, semconv.INPUT_MESSAGES: json.dumps([{"parts": parts}])})
    assert said == {"openinference.span.kind": "LLM"}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_the_program_said_stays(dialect: str) -> None:
    """Its own attributes win, and spans that are no operations pass as they are."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(Speaking(lambda: exporter, dialect)))
    tracer = provider.get_tracer("tests")
    tracer.start_span("plain", attributes={"a": 1}).end()
    theirs = {"llm.cost.total": 7, "mlflow.llm.cost": "theirs"}
    tracer.start_span("call", attributes={**CHAT, semconv.COST: 0.25, **theirs}).end()
    plain, call = exporter.get_finished_spans()
    assert plain.attributes == {"a": 1}
    assert call.attributes is not None
    assert {key: call.attributes[key] for key in theirs} == theirs
    assert call.attributes[semconv.COST] == 0.25
    provider.shutdown()


@pytest.mark.parametrize(
    ("backend", "variable", "key"),
    [
        ("phoenix", "PHOENIX_COLLECTOR_ENDPOINT", "llm.cost.total"),
        ("mlflow", "MLFLOW_TRACKING_URI", "mlflow.llm.cost"),
        ("collector", None, None),
    ],
)
def test_a_preset_speaks_its_dialect_over_the_wire(
    backend: str, variable: str | None, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HttpReceiver() as receiver:
        if variable is not None:
            monkeypatch.setenv(variable, receiver.endpoint)
        more = {} if variable else {"endpoint": receiver.endpoint}
        llmwatch.instrument(backend=backend, sources=(), **more)
        operation = active.signals.start("chat", "openai", "gpt-4o", {})
        operation.attributes[semconv.COST] = 0.25
        operation.usage = Usage(10, 5)
        operation.finish()
        llmwatch.uninstrument()
        (span,) = receiver.spans()
        said = {each.key: each.value for each in span.attributes}
        assert said[semconv.COST].double_value > 0
        assert {"llm.cost.total", "mlflow.llm.cost"} & said.keys() == ({key} if key else set())
        if key == "mlflow.llm.cost":
            (pair,) = said[key].kvlist_value.values
            assert (pair.key, pair.value.double_value) == (
                "total_cost",
                said[semconv.COST].double_value,
            )
