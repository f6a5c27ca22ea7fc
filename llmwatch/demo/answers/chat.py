"""Chat completions and the old text completions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from llmwatch.demo.answers.common import (
    DONE,
    JSON,
    SERVER_ERROR,
    Call,
    called,
    data,
    error_body,
    events,
    new_id,
    now,
    reply,
    tokens,
    words,
)
from llmwatch.demo.wire import Answer, Event


def chat(call: Call) -> Answer:
    """``POST /chat/completions``."""
    if (refused := _refused(call)) is not None:
        return refused
    if call.stream:
        return events(_chat_events(call), data(SERVER_ERROR).data)
    choices = [
        {"index": index, "message": _message(call), "logprobs": None, "finish_reason": reason}
        for index, reason in enumerate([_reason(call)] * _choice_count(call))
    ]
    body = {**_head(call, "chat.completion", "chatcmpl-"), "choices": choices}
    return reply(body | _chat_usage(call))


def completions(call: Call) -> Answer:
    """``POST /completions``."""
    if (refused := _refused(call)) is not None:
        return refused
    if call.stream:
        return events(_text_events(call), data(SERVER_ERROR).data)
    text = "".join(call.pieces())
    choices = [
        {"index": index, "text": text, "logprobs": None, "finish_reason": call.script.finish_reason}
        for index in range(_choice_count(call))
    ]
    body = {**_head(call, "text_completion", "cmpl-"), "choices": choices}
    return reply(body | _usage(call, len(call.pieces()), call.body.get("prompt")))


def _refused(call: Call) -> Answer | None:
    if not (call.script.refuse_stream_options and "stream_options" in call.body):
        return None
    message = "Unrecognized request argument supplied: stream_options"
    return reply(error_body(message, "invalid_request_error"), status=400)


def _head(call: Call, kind: str, prefix: str) -> JSON:
    return {
        "id": new_id(prefix),
        "object": kind,
        "created": now(),
        "model": call.model,
        "service_tier": "default",
        "system_fingerprint": "fp_44709d6fcb",
    }


def _choice_count(call: Call) -> int:
    return call.body.get("n") or 1


def _reason(call: Call) -> str:
    return "tool_calls" if called(call) else call.script.finish_reason


def _schema(call: Call) -> JSON | None:
    form = call.body.get("response_format") or {}
    schema: JSON | None = form.get("json_schema", {}).get("schema")
    return {"type": "object"} if form.get("type") == "json_object" else schema


def _message(call: Call) -> JSON:
    message: JSON = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    if call.script.reasoning:
        message["reasoning_content"] = "".join(call.thoughts())
    if calls := called(call):
        message["tool_calls"] = [
            {"id": new_id("call_"), "type": "function", "function": function} for function in calls
        ]
    else:
        message["content"] = "".join(call.pieces(_schema(call)))
    return message


def _chat_usage(call: Call) -> JSON:
    texts = [words(each["arguments"]) for each in called(call)] or [call.pieces(_schema(call))]
    made = sum(len(pieces) for pieces in texts) + call.script.reasoning
    return _usage(call, made, call.body.get("messages"))


def _usage(call: Call, output: int, prompt: Any) -> JSON:
    """Usage of all choices together, or nothing where the script keeps it back."""
    if not call.script.usage:
        return {}
    prompt_tokens, total = tokens(prompt), output * _choice_count(call)
    cached = call.script.cached_tokens
    return {
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": total,
            "total_tokens": prompt_tokens + total,
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": call.script.reasoning * _choice_count(call),
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }
    }


def _wants_usage(call: Call) -> bool:
    return bool((call.body.get("stream_options") or {}).get("include_usage"))


def _chat_events(call: Call) -> Iterator[Event]:
    head = _head(call, "chat.completion.chunk", "chatcmpl-")
    if _wants_usage(call):
        head["usage"] = None  # on every chunk but the last
    if call.deployment is not None:
        filtered = [{"prompt_index": 0, "content_filter_results": {}}]
        yield data({**head, "id": "", "choices": [], "prompt_filter_results": filtered})

    def event(index: int, delta: JSON, reason: str | None = None, *, output: bool = False) -> Event:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return data({**head, "choices": [choice]}, output=output)

    indices = range(_choice_count(call))
    for index in indices:
        yield event(index, {"role": "assistant", "content": "", "refusal": None})
    for deltas in zip_longest(*(_deltas(call) for _ in indices)):
        for index, delta in enumerate(deltas):
            yield event(index, delta, output=True)
    for index in indices:
        yield event(index, {}, _reason(call))
    if _wants_usage(call) and call.script.usage:
        yield data({**head, "choices": []} | _chat_usage(call))
    yield DONE


def _deltas(call: Call) -> Iterator[JSON]:
    for piece in call.thoughts():
        yield {"reasoning_content": piece}
    calls = called(call)
    for index, function in enumerate(calls):
        opening = {"index": index, "id": new_id("call_"), "type": "function"}
        yield {"tool_calls": [opening | {"function": function | {"arguments": ""}}]}
        for piece in words(function["arguments"]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
    if not calls:
        for piece in call.pieces(_schema(call)):
            yield {"content": piece}


def _text_events(call: Call) -> Iterator[Event]:
    head = _head(call, "text_completion", "cmpl-")
    if _wants_usage(call):
        head["usage"] = None
    pieces = call.pieces()
    for number, piece in enumerate(pieces, 1):
        reason = call.script.finish_reason if number == len(pieces) else None
        for index in range(_choice_count(call)):
            choice = {"index": index, "text": piece, "logprobs": None, "finish_reason": reason}
            yield data({**head, "choices": [choice]}, output=True)
    if _wants_usage(call) and call.script.usage:
        yield data({**head, "choices": []} | _usage(call, len(pieces), call.body.get("prompt")))
    yield DONE
