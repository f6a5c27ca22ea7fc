"""The Responses API: plain, streamed, in the background, compacted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from llmwatch.demo.answers.common import (
    JSON,
    SERVER_ERROR,
    Call,
    called,
    detailed_usage,
    events,
    named,
    new_id,
    not_found,
    now,
    reply,
    tokens,
    words,
)
from llmwatch.demo.wire import Answer, Event


def create(call: Call) -> Answer:
    """``POST /responses``."""
    final = _final(call)
    if call.body.get("background"):
        queued = _unfinished(final, "queued")
        call.store.put(queued, _unfinished(final, "in_progress"), final)
        return _stream(final) if call.stream else reply(queued)
    call.store.put(final)
    return _stream(final) if call.stream else reply(final)


def retrieve(call: Call) -> Answer:
    """``GET /responses/{id}``, streamed from an event on where asked."""
    key = call.path[0]
    if call.exchange.query.get("stream") == "true":
        found, after = call.store.last(key), int(call.exchange.query.get("starting_after", "-1"))
        return _stream(found, after) if found else not_found("Response", key)
    found = call.store.get(key)
    return reply(found) if found else not_found("Response", key)


def cancel(call: Call) -> Answer:
    """``POST /responses/{id}/cancel``."""
    found = call.store.last(call.path[0])
    if found is None:
        return not_found("Response", call.path[0])
    return reply(call.store.put(_unfinished(found, "cancelled")))


def delete(call: Call) -> Answer:
    """``DELETE /responses/{id}``."""
    call.store.drop(call.path[0])
    return reply({"id": call.path[0], "object": "response", "deleted": True})


def compact(call: Call) -> Answer:
    """``POST /responses/compact``."""
    item = {"id": new_id("cmp_"), "type": "compaction", "encrypted_content": "gAAAAABo" + "A" * 64}
    body = {
        "id": new_id("resp_"),
        "object": "response.compaction",
        "created_at": now(),
        "output": [item],
        "usage": _usage(call, len(call.pieces())),
    }
    return reply(body)


def input_tokens(call: Call) -> Answer:
    """``POST /responses/input_tokens``."""
    found = tokens(call.body.get("input")) + tokens(call.body.get("instructions"))
    return reply({"object": "response.input_tokens", "input_tokens": found})


def _usage(call: Call, output: int) -> JSON:
    found = tokens(call.body.get("input")) + tokens(call.body.get("instructions"))
    return detailed_usage(call, found, output)


def _schema(call: Call) -> JSON | None:
    form = (call.body.get("text") or {}).get("format") or {}
    return {"type": "object"} if form.get("type") == "json_object" else form.get("schema")


def _output(call: Call) -> list[JSON]:
    items: list[JSON] = []
    if call.script.reasoning:
        summary = {"type": "summary_text", "text": "".join(call.thoughts())}
        items.append({"id": new_id("rs_"), "type": "reasoning", "summary": [summary]})
    calls = called(call)
    for function in calls:
        keys = {"id": new_id("fc_"), "call_id": new_id("call_"), "type": "function_call"}
        items.append({**keys, **function, "status": "completed"})
    if not calls:
        items.append(_message("".join(call.pieces(_schema(call)))))
    return items


def _message(text: str) -> JSON:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "id": new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def _final(call: Call) -> JSON:
    """The response as it stands in the end, with what it repeats of the request."""
    body, output = call.body, _output(call)
    cut = {"length": "max_output_tokens", "content_filter": "content_filter"}
    reason = cut.get(call.script.finish_reason)
    visible = sum(len(words(text)) for item in output for text in _texts(item))
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": now(),
        "status": "incomplete" if reason else "completed",
        "background": bool(body.get("background")),
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": body.get("metadata") or {},
        "model": call.model,
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": body.get("previous_response_id"),
        "conversation": _conversation(body.get("conversation")),
        "reasoning": body.get("reasoning") or {"effort": None, "summary": None},
        "service_tier": "default",
        "store": body.get("store") is not False,
        "temperature": body.get("temperature") or 1.0,
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": [{"parameters": {}, "strict": True, **tool} for tool in body.get("tools") or []],
        "top_p": body.get("top_p") or 1.0,
        "truncation": "disabled",
        "usage": _usage(call, visible + call.script.reasoning) if call.script.usage else None,
    }


def _conversation(given: Any) -> JSON | None:
    return {"id": given} if isinstance(given, str) else given


def _texts(item: JSON) -> list[str]:
    """The visible output of one item."""
    if item["type"] == "function_call":
        return [item["arguments"]]
    return [part["text"] for part in item["content"]] if item["type"] == "message" else []


def _unfinished(final: JSON, status: str) -> JSON:
    return {**final, "status": status, "output": [], "usage": None, "incomplete_details": None}


def _stream(final: JSON, after: int = -1) -> Answer:
    """The events of a response; a fault is an ``error`` event and then ``response.failed``."""
    error = SERVER_ERROR["error"]
    details = {"code": "server_error", "message": error["message"]}
    failed = {**_unfinished(final, "failed"), "error": details}
    numbers = count(1000)  # after whatever was sent
    return events(
        (event for number, event in enumerate(_events(final)) if number > after),
        _event("error", numbers, code="server_error", message=error["message"], param=None).data,
        _event("response.failed", numbers, response=failed).data,
    )


def _event(kind: str, numbers: Iterator[int], *, output: bool = False, **fields: Any) -> Event:
    return named(kind, {"type": kind, "sequence_number": next(numbers), **fields}, output=output)


def _events(final: JSON) -> Iterator[Event]:
    numbers = count()
    running = _unfinished(final, "in_progress")
    yield _event("response.created", numbers, response=running)
    yield _event("response.in_progress", numbers, response=running)
    streamed = {"message": _text_item, "function_call": _call_item, "reasoning": _reasoning_item}
    for index, item in enumerate(final["output"]):
        begun = {**item, **_EMPTY[item["type"]]}
        yield _event("response.output_item.added", numbers, output_index=index, item=begun)
        yield from streamed[item["type"]](item, index, numbers)
        yield _event("response.output_item.done", numbers, output_index=index, item=item)
    yield _event(f"response.{final['status']}", numbers, response=final)


_EMPTY: dict[str, JSON] = {
    "message": {"status": "in_progress", "content": []},
    "function_call": {"status": "in_progress", "arguments": ""},
    "reasoning": {"summary": []},
}


def _text_item(item: JSON, index: int, numbers: Iterator[int]) -> Iterator[Event]:
    at = {"item_id": item["id"], "output_index": index, "content_index": 0}
    part, name = item["content"][0], "response.output_text"
    yield _event("response.content_part.added", numbers, **at, part={**part, "text": ""})
    for piece in words(part["text"]):
        yield _event(f"{name}.delta", numbers, output=True, **at, delta=piece, logprobs=[])
    yield _event(f"{name}.done", numbers, **at, text=part["text"], logprobs=[])
    yield _event("response.content_part.done", numbers, **at, part=part)


def _call_item(item: JSON, index: int, numbers: Iterator[int]) -> Iterator[Event]:
    at = {"item_id": item["id"], "output_index": index}
    name = "response.function_call_arguments"
    for piece in words(item["arguments"]):
        yield _event(f"{name}.delta", numbers, output=True, **at, delta=piece)
    yield _event(f"{name}.done", numbers, **at, arguments=item["arguments"], name=item["name"])


def _reasoning_item(item: JSON, index: int, numbers: Iterator[int]) -> Iterator[Event]:
    at = {"item_id": item["id"], "output_index": index, "summary_index": 0}
    part, name = item["summary"][0], "response.reasoning_summary"
    yield _event(f"{name}_part.added", numbers, **at, part={**part, "text": ""})
    for piece in words(part["text"]):
        yield _event(f"{name}_text.delta", numbers, output=True, **at, delta=piece)
    yield _event(f"{name}_text.done", numbers, **at, text=part["text"])
    yield _event(f"{name}_part.done", numbers, **at, part=part)
