"""Streams that pass through are timed, and end their operation exactly once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.trace import StatusCode

from llmwatch import _guard, semconv
from llmwatch.measure.record import OperationRecord
from llmwatch.signals.operation import Operation, ending_of
from llmwatch.signals.streams import atimed, timed
from tests.watched import Watched, watched


class Finishes:
    """A listener that counts."""

    def __init__(self) -> None:
        self.records: list[OperationRecord] = []

    def started(self, operation: Operation) -> None: ...

    def finished(self, operation: Operation, record: OperationRecord) -> None:
        self.records.append(record)


@pytest.fixture
def seen() -> Iterator[Watched]:
    """What streams send during the test."""
    with watched() as seen:
        yield seen


def ignore(chunk: Any) -> None:
    """Learn nothing."""


class BrokenError(Exception):
    """The producer's failure."""


def produce(count: int, error: BaseException | None) -> Iterator[int]:
    yield from range(count)
    if error is not None:
        raise error


async def aproduce(count: int, error: BaseException | None) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number
    if error is not None:
        raise error


def consume(stream: Any, most: int, leave: str) -> list[int]:
    """Read at most so many, then leave it in one of three ways; what was read."""
    found: list[int] = []
    while len(found) < most:
        try:
            found.append(next(stream))
        except StopIteration:
            break
    if leave == "close":
        stream.close()
    elif leave == "throw":
        with pytest.raises(LookupError):
            stream.throw(LookupError())
    return found


async def aconsume(stream: Any, most: int, leave: str) -> list[int]:
    found: list[int] = []
    while len(found) < most:
        try:
            found.append(await anext(stream))
        except StopAsyncIteration:
            break
    if leave == "throw":
        with suppress(LookupError, StopAsyncIteration):
            await stream.athrow(LookupError())
    else:
        await stream.aclose()
    return found


ERRORS = st.sampled_from([None, BrokenError(), asyncio.CancelledError(), KeyboardInterrupt()])
ENDINGS = {
    "count": st.integers(0, 4),
    "most": st.integers(0, 6),
    "error": ERRORS,
    "leave": st.sampled_from(["close", "drop", "throw"]),
}


def check(
    seen: Watched, finishes: Finishes, count: int, most: int, error: Any, leave: str, raised: Any
) -> None:
    """One span, one record, what was read, and how it ended."""
    (record,) = finishes.records
    found = seen.span.attributes
    assert not seen.signals.live
    assert found[semconv.STREAM_CHUNKS] == min(count, most)
    ended = most > count  # the producer was asked once more after its last chunk
    if not ended and most > 0:
        expected = "failed" if leave == "throw" else "abandoned"
    elif ended:
        expected = "exhausted" if error is None else ending_of(error)
    else:
        return  # never asked: what a generator that has not started does
    assert found[semconv.STREAM_ENDING] == expected
    failed = expected in ("failed", "cancelled")
    assert (seen.span.status.status_code is StatusCode.ERROR) == failed
    assert (record.series.error_type is not None) == failed
    assert raised is (error if ended else None)


@settings(deadline=None, max_examples=60)
@given(**ENDINGS)
def test_a_stream_finishes_once_however_it_ends(count, most, error, leave):
    with watched() as seen:
        finishes = Finishes()
        seen.signals.listeners = (finishes,)
        raised = None
        operation = seen.start()
        operation.stream()
        stream = timed(operation, produce(count, error), ignore)
        del operation
        try:
            found = consume(stream, most, leave)
        except BaseException as caught:  # noqa: BLE001 - whatever the producer raised
            raised = caught
        else:
            assert found == list(range(min(count, most)))
        stream = None
        gc.collect(0)
        check(seen, finishes, count, most, error, leave, raised)


@settings(deadline=None, max_examples=60)
@given(**ENDINGS)
def test_an_async_stream_finishes_once_however_it_ends(count, most, error, leave):
    with watched() as seen:
        finishes = Finishes()
        seen.signals.listeners = (finishes,)
        raised = None

        async def go() -> None:
            nonlocal raised
            operation = seen.start()
            operation.stream()
            stream = atimed(operation, aproduce(count, error), ignore)
            del operation
            try:
                found = await aconsume(stream, most, leave)
            except BaseException as caught:  # noqa: BLE001 - whatever the producer raised
                raised = caught
            else:
                assert found == list(range(min(count, most)))

        asyncio.run(go())
        gc.collect(0)
        check(seen, finishes, count, most, error, leave, raised)


def test_finishing_again_changes_nothing(seen):
    finishes = Finishes()
    seen.signals.listeners = (finishes,)
    operation = seen.start()
    stream = timed(operation, iter([1]), ignore)
    next(stream)
    operation.finish(ending="closed")
    with pytest.raises(StopIteration):
        next(stream)
    operation.finish(BrokenError())
    operation.abandon()
    assert len(finishes.records) == 1
    assert seen.span.attributes[semconv.STREAM_ENDING] == "closed"
    assert seen.span.status.status_code is StatusCode.UNSET


def test_every_chunk_is_read_as_it_passes_and_a_reader_may_name_its_successor(seen):
    read: list[tuple[str, int]] = []

    def first(chunk: int) -> Any:
        read.append(("first", chunk))
        return then

    def then(chunk: int) -> None:
        read.append(("then", chunk))

    assert list(timed(seen.start(), iter(range(3)), first)) == [0, 1, 2]
    assert read == [("first", 0), ("then", 1), ("then", 2)]


def test_a_reader_that_fails_is_asked_no_more_and_the_stream_goes_on(seen, monkeypatch):
    monkeypatch.setattr(_guard, "strict", False)
    read: list[int] = []

    def fail(chunk: int) -> None:
        read.append(chunk)
        raise ValueError

    assert list(timed(seen.start(), iter(range(3)), fail)) == [0, 1, 2]
    assert read == [0]
    assert seen.span.attributes[semconv.STREAM_CHUNKS] == 3
    assert seen.span.status.status_code is StatusCode.UNSET
    assert _guard.error_counts() == {"streams.read": 1}


def test_the_producers_exception_is_passed_on_as_it_is(seen):
    error = BrokenError("secret")
    with pytest.raises(BrokenError) as caught:
        list(timed(seen.start(), produce(1, error), ignore))
    assert caught.value is error
    assert seen.span.attributes[semconv.ERROR_TYPE] == "BrokenError"
    assert "secret" not in seen.span.to_json()


def test_a_stream_that_is_never_read_ends_when_it_is_dropped(seen):
    stream = timed(seen.start(), iter([1]), ignore)
    assert not seen.spans
    del stream
    gc.collect(0)
    assert seen.span.end_time


@pytest.mark.parametrize("name", ["CancelledError", "Cancelled"])
def test_a_cancellation_is_known_by_its_name(name):
    """asyncio's and trio's, without importing either."""
    assert ending_of(type(name, (BaseException,), {})()) == "cancelled"
    assert ending_of(BrokenError()) == "failed"
