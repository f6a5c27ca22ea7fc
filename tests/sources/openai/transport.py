"""The OpenAI API in memory, below the real client: httpx's own mock transport, no socket.

One server-sent event is one network read. What a test wants is said in request headers:
``x-chunks`` (how many), ``x-fail-at`` (break the connection before that event), ``x-status``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import openai

if int(openai.__version__.partition(".")[0]) >= 3:
    import httpx2 as httpx
else:
    import httpx  # type: ignore[no-redef]

USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
RESPONSES_USAGE = {
    "input_tokens": 9,
    "output_tokens": 5,
    "total_tokens": 14,
    "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 2},
}
HEADERS = {"x-request-id": "req_1", "x-ratelimit-remaining-requests": "99"}


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Events, one network read each, that may break before one of them."""

    def __init__(self, events: list[bytes], fail_at: int | None) -> None:
        self.events, self.fail_at = events, fail_at

    def __iter__(self) -> Iterator[bytes]:
        for index, event in enumerate(self.events):
            if index == self.fail_at:
                raise httpx.ReadError("connection reset")
            yield event

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in self:
            await asyncio.sleep(0)
            yield event


def handler(request: httpx.Request) -> httpx.Response:
    """Answer one request."""
    path = request.url.path
    if (status := int(request.headers.get("x-status", 200))) >= 400:
        error = {"error": {"message": "no", "type": "t", "code": "rate_limit_exceeded"}}
        return httpx.Response(status, headers=HEADERS, json=error)
    kind = request.headers.get("content-type", "")
    body = json.loads(request.content) if kind == "application/json" and request.content else {}
    if path.endswith("/audio/speech"):
        return httpx.Response(200, headers=HEADERS, content=b"RIFFdata")
    if body.get("stream"):
        fail_at = request.headers.get("x-fail-at")
        events = list(stream_events(path, body, int(request.headers.get("x-chunks", 6))))
        headers = {**HEADERS, "content-type": "text/event-stream"}
        return httpx.Response(
            200, headers=headers, stream=Body(events, int(fail_at) if fail_at else None)
        )
    return httpx.Response(200, headers=HEADERS, json=answer(path, body, request.method))


def answer(path: str, body: dict[str, Any], method: str) -> dict[str, Any]:
    """The JSON body of a plain answer."""
    model = body.get("model", "m")
    if path.endswith("/chat/completions"):
        message: dict[str, Any] = {"role": "assistant", "content": "hello"}
        if body.get("tools"):
            call = {
                "id": "call_1",
                "type": "function",
                "function": {"name": "look", "arguments": "{}"},
            }
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        reason = "tool_calls" if body.get("tools") else "stop"
        choices = [
            {"index": index, "message": message, "finish_reason": reason, "logprobs": None}
            for index in range(body.get("n") or 1)
        ]
        return chat_frame("chat.completion", model, choices) | {"usage": USAGE}
    if path.endswith("/completions"):
        choice = {"index": 0, "text": "hello", "finish_reason": "length", "logprobs": None}
        return chat_frame("text_completion", model, [choice]) | {"usage": USAGE}
    if path.endswith("/embeddings"):
        vector = [0.25] * 8
        encoded: Any = vector
        if body.get("encoding_format") == "base64":
            encoded = base64.b64encode(struct.pack("<8f", *vector)).decode()
        given = body["input"]
        count = 1 if isinstance(given, str) else len(given)
        data = [{"object": "embedding", "index": i, "embedding": encoded} for i in range(count)]
        usage = {"prompt_tokens": 4, "total_tokens": 4}
        return {"object": "list", "data": data, "model": model, "usage": usage}
    return next((make(model) for part, make in OTHERS.items() if part in path), thing(model))


def chat_frame(kind: str, model: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    """What whole and streamed chat answers share."""
    return {
        "id": "chatcmpl-1", "object": kind, "created": 1, "model": f"{model}-2026",
        "system_fingerprint": "fp_1", "service_tier": "default", "choices": choices,
    }  # fmt: skip


def response_object(model: str, status: str = "completed") -> dict[str, Any]:
    """A Responses API object."""
    text = {"type": "output_text", "text": "hello", "annotations": []}
    item = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [text],
    }
    done = status == "completed"
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "model": f"{model}-2026",
        "status": status, "output": [item] if done else [], "usage": RESPONSES_USAGE if done else None,
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }  # fmt: skip


def run_object() -> dict[str, Any]:
    """A completed run of an assistant."""
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
    return {
        "id": "run_1", "object": "thread.run", "created_at": 1, "thread_id": "thread_1", "assistant_id": "a",
        "status": "completed", "model": "gpt-4o", "instructions": "", "tools": [], "metadata": {}, "usage": usage,
        "parallel_tool_calls": True,
    }  # fmt: skip


def thing(model: str) -> dict[str, Any]:
    """Anything else."""
    return {"id": "thing_1", "object": "thing", "data": [], "model": model}


def video(model: str) -> dict[str, Any]:
    """A finished video."""
    return thing("sora-2") | {"status": "completed", "progress": 100, "seconds": "4"}


def images(model: str) -> dict[str, Any]:
    """One generated image."""
    usage = {"input_tokens": 7, "output_tokens": 100, "total_tokens": 107}
    return {"created": 1, "data": [{"b64_json": "QUJD"}], "usage": usage}


def moderation(model: str) -> dict[str, Any]:
    """One input, found harmless."""
    result = {"flagged": False, "categories": {}, "category_scores": {}}
    return {"id": "modr_1", "model": "omni", "results": [result]}


OTHERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "/responses": lambda model: response_object(model),
    "/threads": lambda model: run_object(),
    "/videos": video,
    "/images": images,
    "/audio": lambda model: {"text": "hello"},
    "/moderations": moderation,
}
"""Part of the path, and what makes the answer."""


def sse(data: Any, event: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {event}\n" if event else ""
    text = data if isinstance(data, str) else json.dumps(data)
    return f"{head}data: {text}\n\n".encode()


def stream_events(path: str, body: dict[str, Any], chunks: int) -> Iterator[bytes]:
    """The events of a streamed answer with *chunks* pieces of output."""
    model = body.get("model", "m")
    if path.endswith("/responses"):
        yield from response_events(model, chunks)
        return
    if path.endswith("/runs"):
        created = run_object() | {"status": "in_progress", "usage": None}
        yield sse(created, "thread.run.created")
        for _ in range(chunks):
            content = [{"index": 0, "type": "text", "text": {"value": "tok"}}]
            delta = {"id": "msg_1", "object": "thread.message.delta", "delta": {"content": content}}
            yield sse(delta, "thread.message.delta")
        yield sse(run_object(), "thread.run.completed")
        yield sse("[DONE]", "done")
        return
    chat = path.endswith("/chat/completions")

    def frame(choices: list[dict[str, Any]], **more: Any) -> bytes:
        return sse(
            chat_frame("chat.completion.chunk" if chat else "text_completion", model, choices)
            | more
        )

    if chat:
        yield frame(
            [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
        )
    for _ in range(chunks):
        piece = {"delta": {"content": "tok"}} if chat else {"text": "tok"}
        yield frame([{"index": 0, **piece, "finish_reason": None}])
    last = {"delta": {}} if chat else {"text": ""}
    yield frame([{"index": 0, **last, "finish_reason": "stop"}])
    if (body.get("stream_options") or {}).get("include_usage"):
        yield frame([], usage=USAGE)
    yield sse("[DONE]")


def response_events(model: str, chunks: int) -> Iterator[bytes]:
    """The event sequence of a streamed response."""
    item = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "in_progress",
        "content": [],
    }
    part = {"type": "output_text", "text": "", "annotations": []}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response_object(model, "in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": part},
        *(
            {"type": "response.output_text.delta", **place, "delta": "tok", "logprobs": []}
            for _ in range(chunks)
        ),
        {"type": "response.output_text.done", **place, "text": "tok" * chunks, "logprobs": []},
        {"type": "response.completed", "response": response_object(model)},
    ]
    for number, event in enumerate(events):
        yield sse({**event, "sequence_number": number}, str(event["type"]))


def client(**more: Any) -> openai.OpenAI:
    """A real client on this transport."""
    http = httpx.Client(transport=httpx.MockTransport(handler))
    return openai.OpenAI(**settings(more), http_client=http)


def aclient(**more: Any) -> openai.AsyncOpenAI:
    """A real asynchronous client on this transport."""
    http = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    return openai.AsyncOpenAI(**settings(more), http_client=http)


def settings(more: dict[str, Any]) -> dict[str, Any]:
    """What every client here is made with."""
    return {"api_key": "sk-secret", "base_url": "http://mock.invalid/v1", "max_retries": 0} | more
