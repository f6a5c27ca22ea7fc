"""Units of work for the worker processes: the real client over a transport in memory.

Answers are made once, as bytes, so that the bare client's own work is what is compared with.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache, partial
from typing import Any

import openai

from tests.sources.openai.transport import USAGE, answer, httpx, stream_events

MODEL = "gpt-4o-mini"
MESSAGES = [
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": "Say hello seventeen times."},
]
CHAT: dict[str, Any] = {
    "model": MODEL,
    "messages": MESSAGES,
    "temperature": 0.2,
    "max_tokens": 64,
}
STREAMED: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
CHUNKS_EACH = 64
"""Pieces of output of each of many streams at once."""

Unit = Callable[[], object]


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, events: tuple[bytes, ...]) -> None:
        self.events = events

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.events)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in self.events:
            await asyncio.sleep(0)  # the others go on meanwhile, as they would with sockets
            yield event


@cache
def _events(path: str, chunks: int) -> tuple[bytes, ...]:
    return tuple(stream_events(path, {"model": MODEL, **STREAMED}, chunks))


@cache
def _whole(path: str) -> bytes:
    return json.dumps(answer(path, {"model": MODEL}, "POST")).encode()


@cache
def _vectors(count: int, length: int, encoded: bool) -> bytes:
    floats = [(index * 37 % 1000) / 1000 - 0.5 for index in range(length)]
    packed = base64.b64encode(struct.pack(f"<{length}f", *floats)).decode()
    vector = packed if encoded else [round(each, 7) for each in floats]
    data = [{"object": "embedding", "index": i, "embedding": vector} for i in range(count)]
    usage = {"prompt_tokens": USAGE["prompt_tokens"], "total_tokens": USAGE["prompt_tokens"]}
    return json.dumps({"object": "list", "data": data, "model": MODEL, "usage": usage}).encode()


def _handler(request: httpx.Request) -> httpx.Response:
    """Answer by the path and what ``x-size`` asks for: chunks, or vectors and their length."""
    path, size = request.url.path, request.headers.get("x-size")
    headers = {"x-request-id": "req_1", "content-type": "application/json"}
    if size is None:
        return httpx.Response(200, headers=headers, content=_whole(path))
    if path.endswith("/embeddings"):
        count, length = map(int, size.split("x"))
        encoded = b'"base64"' in request.content
        return httpx.Response(200, headers=headers, content=_vectors(count, length, encoded))
    headers["content-type"] = "text/event-stream"
    return httpx.Response(200, headers=headers, stream=_Body(_events(path, int(size))))


_SETTINGS: dict[str, Any] = {
    "api_key": "sk-bench",
    "base_url": "http://mock.invalid/v1",
    "max_retries": 0,
}


def _client() -> openai.OpenAI:
    http = httpx.Client(transport=httpx.MockTransport(_handler))
    return openai.OpenAI(**_SETTINGS, http_client=http)


def _aclient() -> openai.AsyncOpenAI:
    http = httpx.AsyncClient(transport=httpx.MockTransport(_handler))
    return openai.AsyncOpenAI(**_SETTINGS, http_client=http)


def _size(size: object) -> dict[str, Any]:
    return {"extra_headers": {"x-size": str(size)}}


# --- the units -----------------------------------------------------------------------------------


# Each looks its method up anew: it is a watcher's, then nobody's again.


def _chat() -> Unit:
    completions = _client().chat.completions
    return lambda: completions.create(**CHAT)


def _responses() -> Unit:
    responses = _client().responses
    return lambda: responses.create(model=MODEL, input="Say hello.")


def _chat_stream(chunks: int) -> Unit:
    completions, request = _client().chat.completions, {**CHAT, **STREAMED, **_size(chunks)}

    def unit() -> None:
        for _ in completions.create(**request):
            pass

    return unit


def _responses_stream(chunks: int) -> Unit:
    responses = _client().responses
    request = {"model": MODEL, "input": "Say hello.", "stream": True, **_size(chunks)}

    def unit() -> None:
        for _ in responses.create(**request):
            pass

    return unit


def _streams_at_once(many: int, chunks: int = CHUNKS_EACH) -> Unit:
    client, loop = _aclient(), asyncio.new_event_loop()

    async def one() -> None:
        request = {**CHAT, **STREAMED, **_size(chunks)}
        async for _ in await client.chat.completions.create(**request):
            pass

    async def all_of_them() -> None:
        await asyncio.gather(*(one() for _ in range(many)))

    return lambda: loop.run_until_complete(all_of_them())


def _embeddings(count: int, length: int, encoding: str) -> Unit:
    texts = [f"text {index}" for index in range(count)]
    request = {"model": MODEL, "input": texts, "encoding_format": encoding}
    request |= _size(f"{count}x{length}")
    embeddings = _client().embeddings
    return lambda: embeddings.create(**request)


WORK: dict[str, Callable[[], Unit]] = {
    "chat": _chat,
    "responses": _responses,
    "stream of 16": partial(_chat_stream, 16),
    "stream of 256": partial(_chat_stream, 256),
    "responses stream of 256": partial(_responses_stream, 256),
    "4 streams at once": partial(_streams_at_once, 4),
    "4 streams of 512 at once": partial(_streams_at_once, 4, 512),
    "64 streams at once": partial(_streams_at_once, 64),
    "1 vector of 8": partial(_embeddings, 1, 8, "float"),
    "16 vectors of 8": partial(_embeddings, 16, 8, "float"),
    "1 vector of 1536": partial(_embeddings, 1, 1536, "float"),
    "16 vectors of 1536": partial(_embeddings, 16, 1536, "float"),
    "64 vectors of 1536": partial(_embeddings, 64, 1536, "float"),
    "64 encoded vectors of 1536": partial(_embeddings, 64, 1536, "base64"),
}
"""What makes each unit; the client, and the answers, are made before anything is measured."""
