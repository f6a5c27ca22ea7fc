"""Read a request's body into span attributes: an allow-list of fields, never content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmwatch import semconv
from llmwatch.sources.openai.routes import Route

_NUMBER, _TEXT = (int, float), (str,)
_FIELDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "temperature": (semconv.REQUEST_TEMPERATURE, _NUMBER),
    "top_p": (semconv.REQUEST_TOP_P, _NUMBER),
    "top_k": (semconv.REQUEST_TOP_K, _NUMBER),
    "frequency_penalty": (semconv.REQUEST_FREQUENCY_PENALTY, _NUMBER),
    "presence_penalty": (semconv.REQUEST_PRESENCE_PENALTY, _NUMBER),
    "max_tokens": (semconv.REQUEST_MAX_TOKENS, _NUMBER),
    "max_completion_tokens": (semconv.REQUEST_MAX_TOKENS, _NUMBER),
    "max_output_tokens": (semconv.REQUEST_MAX_TOKENS, _NUMBER),
    "seed": (semconv.REQUEST_SEED, _NUMBER),
    "dimensions": (semconv.EMBEDDINGS_DIMENSION_COUNT, _NUMBER),
    "service_tier": (semconv.OPENAI_REQUEST_SERVICE_TIER, _TEXT),
    "reasoning_effort": (semconv.REQUEST_REASONING_LEVEL, _TEXT),
    "previous_response_id": (semconv.REQUEST_PREVIOUS_RESPONSE_ID, _TEXT),
}
"""Field of the body, its attribute, and the types it may have."""
_FORMATS = {"json_object": "json", "json_schema": "json", "text": "text"}
_PLAIN = frozenset(("model", "messages", "input", "stream", "prompt", "stream_options"))
"""Fields that say nothing more than every request does."""


def read_request(route: Route, body: Mapping[str, Any], *, streamed: bool) -> dict[str, Any]:
    """Span attributes of a request.

    Args:
        route: What kind of request it is.
        body: The JSON body as it will be sent; nothing of it is kept or changed.
        streamed: True if the answer will be streamed.
    """
    found: dict[str, Any] = {}
    if route.api is not None:
        found[semconv.OPENAI_API_TYPE] = route.api
    if route.output is not None:
        found[semconv.OUTPUT_TYPE] = route.output
    if streamed:
        found[semconv.REQUEST_STREAM] = True
    rarer = False
    for field, value in body.items():
        if (rule := _FIELDS.get(field)) is not None:
            key, kinds = rule
            if isinstance(value, kinds):
                found[key] = value
        elif field not in _PLAIN:
            rarer = True
    if rarer:
        _read_rarer(route, body, found)
    if route.counts_input and (count := _input_count(body)) is not None:
        found[semconv.INPUT_COUNT] = count
    return found


def _read_rarer(route: Route, body: Mapping[str, Any], found: dict[str, Any]) -> None:
    if isinstance(count := body.get("n"), int) and count != 1:
        found[semconv.REQUEST_CHOICE_COUNT] = count
    stop = body.get("stop")
    if isinstance(stop, str):
        found[semconv.REQUEST_STOP_SEQUENCES] = [stop]
    elif isinstance(stop, list) and all(isinstance(each, str) for each in stop):
        found[semconv.REQUEST_STOP_SEQUENCES] = stop
    if isinstance(encoding := body.get("encoding_format"), str):
        found[semconv.REQUEST_ENCODING_FORMATS] = [encoding]
    reasoning = body.get("reasoning")
    if isinstance(reasoning, Mapping) and isinstance(effort := reasoning.get("effort"), str):
        found[semconv.REQUEST_REASONING_LEVEL] = effort
    if (output := _output_type(route, body)) is not None:
        found[semconv.OUTPUT_TYPE] = output
    if (conversation := _conversation(body)) is not None:
        found[semconv.CONVERSATION_ID] = conversation
    _read_tools(body, found)


def _output_type(route: Route, body: Mapping[str, Any]) -> str | None:
    if route.output is not None:
        return None
    wanted = body.get("response_format")
    if wanted is None and isinstance(text := body.get("text"), Mapping):
        wanted = text.get("format")
    if isinstance(wanted, Mapping):
        wanted = wanted.get("type")
    return _FORMATS.get(wanted) if isinstance(wanted, str) else None


def _conversation(body: Mapping[str, Any]) -> str | None:
    conversation = body.get("conversation")
    if isinstance(conversation, Mapping):
        conversation = conversation.get("id")
    return conversation if isinstance(conversation, str) else None


def _read_tools(body: Mapping[str, Any], found: dict[str, Any]) -> None:
    tools = body.get("tools")
    if isinstance(tools, Sequence) and tools:
        found[semconv.TOOLS_OFFERED] = [_tool_name(tool) for tool in tools[:64]]
    if (choice := body.get("tool_choice")) is not None:
        found[semconv.TOOL_CHOICE] = choice if isinstance(choice, str) else _tool_name(choice)


def _tool_name(tool: Any) -> str:
    if not isinstance(tool, Mapping):
        return type(tool).__name__
    function = tool.get("function")
    name = function.get("name") if isinstance(function, Mapping) else tool.get("name")
    return str(name or tool.get("server_label") or tool.get("type") or "unknown")


def _input_count(body: Mapping[str, Any]) -> int | None:
    """How many inputs an embeddings or moderation request carries; a list of tokens is one."""
    given = body.get("input")
    if isinstance(given, str):
        return 1
    if isinstance(given, Sequence):
        return 1 if given and isinstance(given[0], int) else len(given)
    return None
