"""Say the same in a backend's own words, beside those of the conventions.

Phoenix and MLflow read the GenAI conventions themselves; a dialect adds what they do not find
there. It looks at operations only, llmwatch's and those of whoever else uses the provider, on the
thread that exports.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from llmwatch import semconv
from llmwatch._guard import Guard
from llmwatch.export.added import Added

Attributes = Mapping[str, Any]
Dialect = Callable[[Attributes], dict[str, Any]]

_SAY = Guard("export.dialect")


def openinference(said: Attributes) -> dict[str, Any]:
    """The attributes of OpenInference that Phoenix does not make of the conventions'.

    Its own ``output.value`` would be the id of the response.
    """
    operation, usage = said[semconv.OPERATION_NAME], "llm.token_count"
    audio_in, audio_out = semconv.USAGE_AUDIO_INPUT_TOKENS, semconv.USAGE_AUDIO_OUTPUT_TOKENS
    reasoning = said.get(semconv.USAGE_REASONING_OUTPUT_TOKENS)
    return _known(
        {
            "openinference.span.kind": _KINDS.get(operation, "LLM"),
            "input.value": _text(said.get(semconv.INPUT_MESSAGES), last=True),
            "output.value": _text(said.get(semconv.OUTPUT_MESSAGES)),
            f"{usage}.prompt_details.audio": said.get(audio_in),
            f"{usage}.prompt_details.cache_write": said.get(semconv.USAGE_CACHE_WRITE_INPUT_TOKENS),
            f"{usage}.completion_details.audio": said.get(audio_out),
            f"{usage}.completion_details.reasoning": reasoning,
            "llm.cost.total": said.get(semconv.COST),
        }
    )


def mlflow(said: Attributes) -> dict[str, Any]:
    """The attributes of MLflow that it does not make of the conventions'.

    It sums tokens up only where input and output are both there, reckons costs by prices of its
    own, and looks for the system's instructions among the messages.
    """
    more: dict[str, Any] = {}
    if (operation := said[semconv.OPERATION_NAME]) not in _KNOWN_TO_MLFLOW:
        more["mlflow.spanType"] = "CHAIN" if operation == "invoke_workflow" else "LLM"
    if (cost := said.get(semconv.COST)) is not None:
        more["mlflow.llm.cost"] = {"total_cost": cost}
    tokens = said.get(semconv.USAGE_INPUT_TOKENS)
    if tokens is not None and semconv.USAGE_OUTPUT_TOKENS not in said:
        more["mlflow.chat.tokenUsage"] = {"input_tokens": tokens, "total_tokens": tokens}
    if instructions := _read(said.get(semconv.SYSTEM_INSTRUCTIONS)):
        system = {"role": "system", "parts": instructions}
        messages = [system, *_read(said.get(semconv.INPUT_MESSAGES))]
        more["mlflow.spanInputs"] = json.dumps(messages, ensure_ascii=False)
    return more


DIALECTS: Mapping[str, Dialect] = {"openinference": openinference, "mlflow": mlflow}

_KINDS = {
    "embeddings": "EMBEDDING",
    "execute_tool": "TOOL",
    "invoke_agent": "AGENT",
    "create_agent": "AGENT",
    "invoke_workflow": "CHAIN",
    "retrieval": "RETRIEVER",
}
_KNOWN_TO_MLFLOW = {
    "chat",
    "text_completion",
    "generate_content",
    "embeddings",
    "execute_tool",
    "invoke_agent",
    "create_agent",
}


class Speaking(SpanExporter):
    """An exporter that is given spans in a dialect.

    Args:
        factory: Builds the exporter.
        dialect: One of `DIALECTS`.
    """

    def __init__(self, factory: Callable[[], SpanExporter], dialect: str) -> None:
        self._exporter = factory()
        self._dialect = DIALECTS[dialect]

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export. Cost: about 10 µs an operation, and what its content takes to be read."""
        return self._exporter.export([self._said(span) for span in spans])

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter."""
        return self._exporter.force_flush(timeout_millis)

    def _said(self, span: ReadableSpan) -> ReadableSpan:
        with _SAY:
            said = span.attributes or {}
            if semconv.OPERATION_NAME in said:
                more = self._dialect(said)
                return Added(span, {key: more[key] for key in more.keys() - said.keys()})
        return span


def _known(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if value is not None}


def _read(text: Any) -> list[Any]:
    """What was captured, as it was before it was written for a span, where it can still be read."""
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except ValueError:  # a limit on the length of attributes has cut it
        found = None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _text(text: Any, *, last: bool = False) -> str | None:
    """Messages for reading: their texts, or their parts as JSON where there is something else."""
    messages = _read(text)[-1:] if last else _read(text)
    listed = [each for message in messages if isinstance(each := message.get("parts"), list)]
    parts = [part for each in listed for part in each if isinstance(part, dict)]
    if not parts:
        return None
    if all(part.get("type") == "text" for part in parts):
        return "\n".join(str(part.get("content", "")) for part in parts)
    return json.dumps(parts, ensure_ascii=False)
