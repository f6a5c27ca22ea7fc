"""Assistants, threads and their runs: deprecated by OpenAI, still in the client."""

from __future__ import annotations

from collections.abc import Iterator

from llmwatch.demo.answers.common import (
    DONE,
    JSON,
    SERVER_ERROR,
    Call,
    called,
    events,
    named,
    new_id,
    not_found,
    now,
    reply,
    tokens,
    words,
)
from llmwatch.demo.answers.media import POLL_AFTER
from llmwatch.demo.wire import Answer, Event


def assistants(call: Call) -> Answer:
    """``POST /assistants``."""
    body = {
        "id": new_id("asst_"),
        "object": "assistant",
        "created_at": now(),
        "model": call.body["model"],
        "name": call.body.get("name"),
        "description": None,
        "instructions": call.body.get("instructions"),
        "tools": call.body.get("tools") or [],
        "metadata": {},
    }
    return reply(call.store.put(body))


def threads(call: Call) -> Answer:
    """``POST /threads``."""
    return reply(_thread(call))


def messages(call: Call) -> Answer:
    """``POST /threads/{id}/messages``."""
    return reply(_message(call.path[0], "user", str(call.body["content"])))


def message_list(call: Call) -> Answer:
    """``GET /threads/{id}/messages``."""
    answer = _message(call.path[0], "assistant", "".join(call.pieces()))
    ends = {"first_id": answer["id"], "last_id": answer["id"], "has_more": False}
    return reply({"object": "list", "data": [answer], **ends})


def create_and_run(call: Call) -> Answer:
    """``POST /threads/runs``."""
    thread = _thread(call)
    first = named("thread.created", thread) if call.stream else None
    return _run(call, thread["id"], first)


def run(call: Call) -> Answer:
    """``POST /threads/{id}/runs``."""
    return _run(call, call.path[0])


def retrieve(call: Call) -> Answer:
    """``GET /threads/{id}/runs/{run}``."""
    found = call.store.get(call.path[1])
    return reply(found, POLL_AFTER) if found else not_found("Run", call.path[1])


def cancel(call: Call) -> Answer:
    """``POST /threads/{id}/runs/{run}/cancel``."""
    found = call.store.last(call.path[1])
    if found is None:
        return not_found("Run", call.path[1])
    return reply(call.store.put({**found, "status": "cancelled", "usage": None}))


def submit(call: Call) -> Answer:
    """``POST /threads/{id}/runs/{run}/submit_tool_outputs``."""
    found = call.store.last(call.path[1])
    if found is None:
        return not_found("Run", call.path[1])
    return _continue(call, {**found, "required_action": None})


def _thread(call: Call) -> JSON:
    thread = {"id": new_id("thread_"), "object": "thread", "created_at": now()}
    return call.store.put(thread | {"metadata": {}, "tool_resources": {}})


def _message(thread: str, role: str, text: str, run: JSON | None = None) -> JSON:
    return {
        "id": new_id("msg_"),
        "object": "thread.message",
        "created_at": now(),
        "thread_id": thread,
        "assistant_id": run["assistant_id"] if run else None,
        "run_id": run["id"] if run else None,
        "role": role,
        "status": "completed",
        "content": [{"type": "text", "text": {"value": text, "annotations": []}}],
        "attachments": [],
        "metadata": {},
    }


def _run(call: Call, thread: str, first: Event | None = None) -> Answer:
    body = call.body
    begun = {
        "id": new_id("run_"),
        "object": "thread.run",
        "created_at": now(),
        "thread_id": thread,
        "assistant_id": body["assistant_id"],
        "status": "queued",
        "instructions": body.get("instructions") or "",
        "model": call.model,
        "tools": body.get("tools") or [],
        "parallel_tool_calls": True,
        "required_action": None,
        "metadata": {},
        "usage": None,
    }
    return _continue(call, begun, first)


def _continue(call: Call, begun: JSON, first: Event | None = None) -> Answer:
    """Take a run to its end, or to the tool calls that it asks for."""
    queued = {**begun, "status": "queued", "usage": None}
    final = _final(call, queued)
    call.store.put(queued, {**queued, "status": "in_progress"}, final)
    if not call.stream:
        return reply(queued, POLL_AFTER)
    failure = named("error", SERVER_ERROR["error"] | {"code": "server_error"})
    return events(_events(call, queued, final, first), failure.data)


def _final(call: Call, queued: JSON) -> JSON:
    calls = called(call)
    if not calls:
        used, made = tokens(call.body), len(call.pieces())
        usage = {"prompt_tokens": used, "completion_tokens": made, "total_tokens": used + made}
        return {**queued, "status": "completed", "completed_at": now(), "usage": usage}
    wanted = [
        {"id": new_id("call_"), "type": "function", "function": function} for function in calls
    ]
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": wanted}}
    return {**queued, "status": "requires_action", "required_action": action}


def _events(call: Call, queued: JSON, final: JSON, first: Event | None) -> Iterator[Event]:
    if first is not None:
        yield first
    yield named("thread.run.created", queued)
    yield named("thread.run.queued", queued)
    yield named("thread.run.in_progress", {**queued, "status": "in_progress"})
    if final["status"] == "completed":
        yield from _message_events(call, final)
    yield named(f"thread.run.{final['status']}", final)
    yield DONE


def _message_events(call: Call, run: JSON) -> Iterator[Event]:
    text = "".join(call.pieces())
    message = _message(run["thread_id"], "assistant", text, run)
    made = {"type": "message_creation", "message_creation": {"message_id": message["id"]}}
    step = {
        "id": new_id("step_"),
        "object": "thread.run.step",
        "created_at": now(),
        "assistant_id": run["assistant_id"],
        "thread_id": run["thread_id"],
        "run_id": run["id"],
        "type": "message_creation",
        "status": "in_progress",
        "step_details": made,
    }
    empty = {**message, "status": "in_progress", "content": []}
    yield named("thread.run.step.created", step)
    yield named("thread.run.step.in_progress", step)
    yield named("thread.message.created", empty)
    yield named("thread.message.in_progress", empty)
    for piece in words(text):
        part = {"index": 0, "type": "text", "text": {"value": piece, "annotations": []}}
        delta = {"id": message["id"], "object": "thread.message.delta"}
        yield named("thread.message.delta", delta | {"delta": {"content": [part]}}, output=True)
    yield named("thread.message.completed", message)
    yield named("thread.run.step.completed", {**step, "status": "completed", "completed_at": now()})
