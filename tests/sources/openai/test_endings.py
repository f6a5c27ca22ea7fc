"""A stream ends its span once, at once, with the right status, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable
from typing import Any

import openai
import pytest
from opentelemetry.trace import StatusCode

from llmwatch import semconv
from llmwatch.testing import Captured
from tests.sources.openai import transport

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
Chat = Any
Open = Callable[[Any, dict[str, str]], Any]


def create(client: Chat, headers: dict[str, str]) -> Any:
    return client.chat.completions.create(**ASK, stream=True, extra_headers=headers)


def parsed_raw(client: Chat, headers: dict[str, str]) -> Any:
    raw = client.chat.completions.with_raw_response.create(
        **ASK, stream=True, extra_headers=headers
    )
    return raw.parse()


def responses(client: Chat, headers: dict[str, str]) -> Any:
    return client.responses.create(model="m", input="hi", stream=True, extra_headers=headers)


def completions(client: Chat, headers: dict[str, str]) -> Any:
    return client.completions.create(model="m", prompt="hi", stream=True, extra_headers=headers)


WAYS = [create, parsed_raw, responses, completions]


def exhausted(stream: Any) -> None:
    assert len(list(stream)) >= 6


def exhausted_by_next(stream: Any) -> None:
    while next(stream, None) is not None:
        pass


def closed(stream: Any) -> None:
    next(iter(stream))
    stream.close()


def closed_unread(stream: Any) -> None:
    stream.close()


def left_by_break(stream: Any) -> None:
    with stream:
        for _ in stream:
            break


def left_by_the_consumers_error(stream: Any) -> None:
    with contextlib.suppress(KeyError), stream:
        for _ in stream:
            raise KeyError("consumer")


ENDINGS = [
    (exhausted, "exhausted"),
    (exhausted_by_next, "exhausted"),
    (closed, "closed"),
    (closed_unread, "closed"),
    (left_by_break, "closed"),
    (left_by_the_consumers_error, "closed"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("use", "ending"), ENDINGS, ids=lambda each: getattr(each, "__name__", each)
)
def test_a_stream_ends_its_span_when_its_consumer_is_done(
    seen: Captured, way: Open, use: Callable[[Any], None], ending: str
) -> None:
    """While somebody still holds the stream, the span has ended: once, and without an error."""
    with transport.client() as client:
        stream = way(client, {})
        assert isinstance(stream, openai.Stream)
        assert seen.spans == []
        use(stream)
        (span,) = seen.spans
        assert span.attributes[semconv.STREAM_ENDING] == ending
        assert span.status.status_code is StatusCode.UNSET
        assert semconv.ERROR_TYPE not in span.attributes
        stream.close()
        del stream
        gc.collect()
        assert len(seen.spans) == 1


@pytest.mark.parametrize("way", [create, responses, completions])
@pytest.mark.parametrize("read", [0, 1, 3])
def test_a_dropped_stream_ends_its_span_by_reference_counting(
    seen: Captured, way: Open, read: int
) -> None:
    """No cycle keeps a stream alive: its span ends with the last reference, without the collector."""
    gc.disable()
    try:
        with transport.client() as client:
            stream = way(client, {})
            for _ in range(read):
                next(stream)
            assert seen.spans == []
            del stream
            (span,) = seen.spans
    finally:
        gc.enable()
    assert span.attributes[semconv.STREAM_ENDING] == "abandoned"
    assert span.attributes[semconv.STREAM_CHUNKS] <= read
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("way", WAYS)
def test_a_broken_connection_ends_the_span_with_its_error(seen: Captured, way: Open) -> None:
    """The user meets the client's own exception, and the span tells its class."""
    with transport.client() as client:
        stream = way(client, {"x-fail-at": "3"})
        with pytest.raises(Exception, match=r"Connection error|connection reset") as caught:
            list(stream)
        (span,) = seen.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes[semconv.ERROR_TYPE] == caught.type.__qualname__
    assert span.attributes[semconv.STREAM_ENDING] == "failed"


@pytest.mark.parametrize("helper", ["chat", "responses"])
@pytest.mark.parametrize("broken_off", [False, True])
def test_the_stream_helpers_end_one_span(seen: Captured, helper: str, broken_off: bool) -> None:
    """``.stream()`` makes the request inside: one span, ended when the block is left."""
    with transport.client() as client:
        if helper == "chat":
            manager: Any = client.chat.completions.stream(**ASK)
        else:
            manager = client.responses.stream(model="m", input="hi")
        with manager as stream:
            for _ in stream:
                if broken_off:
                    break
        (span,) = seen.spans
    assert span.attributes[semconv.STREAM_ENDING] == ("closed" if broken_off else "exhausted")


@pytest.mark.parametrize("ending", ["exhausted", "closed", "left"])
def test_a_raw_stream_that_is_never_parsed_ends_its_span(seen: Captured, ending: str) -> None:
    """Whoever reads the lines alone still ends the span, by reading to the end or closing."""
    with transport.client() as client:
        opened = client.chat.completions.with_streaming_response.create(**ASK, stream=True)
        with opened as response:
            if ending == "exhausted":
                assert sum(line.startswith("data:") for line in response.iter_lines()) == 9
            elif ending == "closed":
                response.close()
            assert len(seen.spans) == (ending != "left")
        (span,) = seen.spans
    assert semconv.RESPONSE_TIME_TO_FIRST_CHUNK not in span.attributes


# --- asynchronous -------------------------------------------------------------------------------


async def acreate(client: Chat, headers: dict[str, str]) -> Any:
    return await client.chat.completions.create(**ASK, stream=True, extra_headers=headers)


async def aparsed_raw(client: Chat, headers: dict[str, str]) -> Any:
    raw = await client.chat.completions.with_raw_response.create(
        **ASK, stream=True, extra_headers=headers
    )
    return raw.parse()


async def aresponses(client: Chat, headers: dict[str, str]) -> Any:
    return await client.responses.create(model="m", input="hi", stream=True, extra_headers=headers)


AWAYS = [acreate, aparsed_raw, aresponses]


async def aexhausted(stream: Any) -> None:
    assert len([chunk async for chunk in stream]) >= 6


async def aclosed(stream: Any) -> None:
    async for _ in stream:
        break
    await stream.close()


async def aleft_by_break(stream: Any) -> None:
    async with stream:
        async for _ in stream:
            break


async def aleft_by_the_consumers_error(stream: Any) -> None:
    with contextlib.suppress(KeyError):
        async with stream:
            async for _ in stream:
                raise KeyError("consumer")


@pytest.mark.parametrize("way", AWAYS)
@pytest.mark.parametrize(
    ("use", "ending"),
    [
        (aexhausted, "exhausted"),
        (aclosed, "closed"),
        (aleft_by_break, "closed"),
        (aleft_by_the_consumers_error, "closed"),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
async def test_an_async_stream_ends_its_span_when_its_consumer_is_done(
    seen: Captured, way: Any, use: Any, ending: str
) -> None:
    """As for synchronous streams."""
    async with transport.aclient() as client:
        stream = await way(client, {})
        assert isinstance(stream, openai.AsyncStream)
        await use(stream)
        (span,) = seen.spans
        assert span.attributes[semconv.STREAM_ENDING] == ending
        assert span.status.status_code is StatusCode.UNSET
        await stream.close()
        assert len(seen.spans) == 1


@pytest.mark.parametrize("way", AWAYS)
async def test_a_cancelled_task_ends_the_span(seen: Captured, way: Any) -> None:
    """Cancelling whoever waits for a chunk is an error of the operation, and passes through."""
    async with transport.aclient() as client:

        async def consume() -> None:
            stream = await way(client, {"x-chunks": "5000"})
            async for _ in stream:
                await asyncio.sleep(0)

        task = asyncio.create_task(consume())
        for _ in range(60):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)
        (span,) = seen.spans
    assert span.attributes[semconv.STREAM_ENDING] in ("cancelled", "abandoned")


async def test_an_async_stream_cancelled_while_it_waits_says_so(seen: Captured) -> None:
    """Where the cancellation meets the wait itself, the span is marked as cancelled."""
    async with transport.aclient() as client:
        stream = await acreate(client, {"x-chunks": "5000"})
        waiting = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        (span,) = seen.spans
    assert span.attributes[semconv.STREAM_ENDING] == "cancelled"
    assert span.attributes[semconv.ERROR_TYPE] == "CancelledError"
    assert span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("way", [acreate, aresponses])
@pytest.mark.parametrize("read", [0, 2])
async def test_a_dropped_async_stream_ends_its_span(seen: Captured, way: Any, read: int) -> None:
    """Dropped asynchronous generators are closed by the loop, a moment later."""
    async with transport.aclient() as client:
        stream = await way(client, {})
        for _ in range(read):
            await stream.__anext__()
        del stream
        for _ in range(5):
            await asyncio.sleep(0)
        (span,) = seen.spans
    assert span.attributes[semconv.STREAM_ENDING] == "abandoned"


async def test_a_broken_async_connection_ends_the_span_with_its_error(seen: Captured) -> None:
    """As for synchronous streams."""
    async with transport.aclient() as client:
        stream = await acreate(client, {"x-fail-at": "3"})
        with pytest.raises(Exception, match=r"Connection error|connection reset"):
            async for _ in stream:
                pass
        (span,) = seen.spans
    assert span.attributes[semconv.STREAM_ENDING] == "failed"
    assert span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_a_refused_request_ends_its_span_with_status_and_code(seen: Captured, status: int) -> None:
    """The user gets the client's exception; the span its class, HTTP status, code and request id."""
    with transport.client() as client, pytest.raises(openai.APIStatusError) as caught:
        create(client, {"x-status": str(status)})
    (span,) = seen.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes[semconv.ERROR_TYPE] == caught.type.__qualname__
    assert span.attributes[semconv.HTTP_STATUS_CODE] == status
    assert span.attributes[semconv.ERROR_CODE] == "rate_limit_exceeded"
    assert span.attributes[semconv.REQUEST_ID] == "req_1"
