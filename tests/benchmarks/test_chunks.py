"""What the timing of one chunk costs inside a process, the summary at the end of its stream included.

The difference between a long and a short stream is what chunks cost, not calls.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter
from typing import Any

import pytest
from openai.resources.responses.responses import ResponsesConnection
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseTextDeltaEvent

from llmwatch.signals.streams import timed
from llmwatch.sources.openai.chunks import reader_for
from llmwatch.sources.openai.dialects import CHANNELS
from llmwatch.sources.openai.neighbours import Neighbours
from llmwatch.sources.openai.provider import Server
from tests.benchmarks.interleaved import seconds as seconds_of
from tests.benchmarks.table import seconds
from tests.watched import Watched, watched

FEW, MANY = 256, 2304


def chat_chunk(content: str | None, reason: str | None = None) -> ChatCompletionChunk:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": reason}
    return ChatCompletionChunk.model_validate(
        {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        | {"choices": [choice]}
    )


CHAT = [chat_chunk(""), *(chat_chunk("tok") for _ in range(MANY - 2)), chat_chunk(None, "stop")]
DELTA = {"type": "response.output_text.delta", "delta": "tok", "item_id": "msg_1"} | {
    "output_index": 0,
    "content_index": 0,
    "sequence_number": 7,
    "logprobs": [],
}
RESPONSES = [ResponseTextDeltaEvent.model_validate(DELTA)] * MANY


def drain(items: Iterator[Any]) -> None:
    for _ in items:
        pass


def one_reading(chunks: Iterator[Any]) -> Iterator[Any]:
    add, now = array("d").append, perf_counter
    for chunk in chunks:
        add(now())
        yield chunk


def two_readings(chunks: Iterator[Any]) -> Iterator[Any]:
    ask, get, now = array("d").append, array("d").append, perf_counter
    ask(now())
    for chunk in chunks:
        get(now())
        yield chunk
        ask(now())


def ours(seen: Watched, shape: Any, chunks: Iterator[Any]) -> Iterator[Any]:
    """As `watch_stream` puts it together; plain text cannot be interrupted by anything else."""
    operation = seen.start()
    operation.stream()
    return timed(operation, chunks, reader_for(shape, operation, eventful=False))


def each_chunk(make: Callable[[Iterator[Any]], Iterator[Any]], chunks: list[Any]) -> list[Any]:
    """A short and a long stream."""
    return [partial(lambda n: drain(make(iter(chunks[:n]))), n) for n in (FEW, MANY)]


@pytest.mark.benchmark(group="streams")
@pytest.mark.parametrize(
    ("what", "shape", "chunks", "most"),
    [("chat", "chat", CHAT, 2.5), ("responses", "responses", RESPONSES, 4.0)],
    ids=["chat", "responses"],
)
def test_a_chunk(benchmark, overhead, turns, what, shape, chunks, most):
    """TTFT, gaps and their summary, beside a generator that only reads the clock twice."""
    with watched() as seen:
        watch = partial(ours, seen, shape)
        benchmark.pedantic(lambda: drain(watch(iter(chunks))), rounds=turns)
        ways = (iter, one_reading, two_readings, watch)
        times = seconds_of(
            *(each for way in ways for each in each_chunk(way, chunks)), number=1, rounds=2 * turns
        )
    bare, one, two, full = (
        (long - short) / (MANY - FEW) for short, long in zip(times[::2], times[1::2], strict=True)
    )
    overhead(
        "Inside",
        f"{what}: CPU added to a chunk, its share of the summary included",
        seconds(full - bare),
        f"two clock readings, kept: {seconds(two - bare)} (one: {seconds(one - bare)})",
        (full - bare) / (two - bare),
        most,
    )


@pytest.mark.benchmark(group="streams")
def test_an_event_on_a_websocket(benchmark, overhead, turns):
    """Finding out what an event is, and timing it, beside the client's own parsing of it."""
    data = json.dumps(DELTA).encode()
    parse = ResponsesConnection.parse_event
    with watched() as seen:
        channel = CHANNELS["responses"](
            seen.signals, Neighbours(False), Server("openai", "h", 1), None
        )
        channel.sent({"type": "response.create", "model": "m"})

        def received() -> None:
            now = perf_counter()
            channel.received(data, now, now)

        benchmark.pedantic(received, rounds=turns, iterations=100)
        full, theirs = seconds_of(
            received, partial(parse, None, data), number=200, rounds=2 * turns
        )
        channel.end(ending="closed")
    overhead(
        "Inside",
        "responses on a websocket: CPU added to an event",
        seconds(full),
        f"the client's parsing of it: {seconds(theirs)}",
        full / theirs,
        0.5,
    )
