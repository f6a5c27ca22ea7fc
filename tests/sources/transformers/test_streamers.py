"""A generation for a streamer belongs to the trace of whoever built the streamer."""

from __future__ import annotations

import gc
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
from opentelemetry import trace
from transformers import AsyncTextIteratorStreamer, TextIteratorStreamer, TextStreamer
from transformers.generation.streamers import BaseStreamer

import llmwatch
from llmwatch import _guard, semconv
from llmwatch.sources.transformers import streamers
from llmwatch.testing import Captured, capture
from tests.sources.transformers import words

NEW = 6
ASK = words.TEXTS[0]


def run(streamer: Any, target: Callable[..., Any] | None = None) -> Thread:
    """Generate for *streamer* on a thread of its own, as everybody does."""
    tokenizer = words.tokenizer()
    model = words.speaker()
    given = dict(tokenizer(ASK, return_tensors="pt"), streamer=streamer, max_new_tokens=NEW)
    thread = Thread(target=target or model.generate, kwargs=given)
    thread.start()
    return thread


def request(seen: Captured) -> Any:
    return seen.tracer_provider.get_tracer("test").start_as_current_span("request")


def operation(seen: Captured) -> Any:
    (found,) = [span for span in seen.spans if span.name.startswith("text_completion")]
    return found


def test_a_thread_works_for_whoever_built_the_streamer() -> None:
    plain = TextIteratorStreamer(words.tokenizer())
    run(plain).join()
    said = "".join(plain)
    with capture() as seen:
        with request(seen) as span, llmwatch.attributes(session="s1"):
            streamer = TextIteratorStreamer(words.tokenizer())
        thread = run(streamer)  # when that span has ended already
        assert "".join(streamer) == said
        thread.join()
    found = operation(seen)
    assert found.parent.span_id == span.get_span_context().span_id
    assert found.attributes[semconv.SESSION_ID] == "s1"
    assert found.attributes[semconv.USAGE_OUTPUT_TOKENS] == NEW


async def test_asynchronous_streamers_too() -> None:
    with capture() as seen:
        with request(seen) as span:
            streamer = AsyncTextIteratorStreamer(words.tokenizer())
            thread = run(streamer)
        assert [text async for text in streamer]
        thread.join()
    assert operation(seen).parent.span_id == span.get_span_context().span_id


def test_a_thread_with_a_span_of_its_own_stays_in_it() -> None:
    with capture() as seen:
        with request(seen):
            streamer = TextIteratorStreamer(words.tokenizer())
        inner: list[Any] = []

        def work(**given: Any) -> None:
            tracer = seen.tracer_provider.get_tracer("test")
            with tracer.start_as_current_span("job") as span:
                inner.append(span.get_span_context().span_id)
                words.speaker().generate(**given)

        run(streamer, work).join()
    assert operation(seen).parent.span_id == inner[0]


def test_a_pipeline_on_a_thread_too() -> None:
    with capture() as seen:
        with request(seen) as span:
            streamer = TextIteratorStreamer(words.tokenizer())
        thread = Thread(target=words.writer(), args=(ASK,), kwargs={"streamer": streamer})
        thread.start()
        thread.join()
    assert operation(seen).parent.span_id == span.get_span_context().span_id


class Own:
    """A streamer that derives from nothing."""

    def put(self, value: Any) -> None:
        """Take tokens."""

    def end(self) -> None:
        """No more."""


class Derived(BaseStreamer, Own):  # type: ignore[misc]
    """One that derives from the library's, and builds itself."""

    put, end = Own.put, Own.end


class Odd(TextIteratorStreamer):  # type: ignore[misc]
    """Equal to everything, and not hashable."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True


@pytest.mark.parametrize("kind", [Own, Derived])
def test_streamers_that_are_not_the_librarys_are_left_alone(kind: Any) -> None:
    with capture() as seen:
        with request(seen):
            streamer = kind()
        run(streamer).join()
    assert operation(seen).parent is None


def test_a_streamer_may_compare_as_it_likes() -> None:
    with capture() as seen:
        with request(seen) as span:
            streamer = Odd(words.tokenizer())
        run(streamer).join()
    assert operation(seen).parent.span_id == span.get_span_context().span_id


def test_no_streamer_is_kept_alive() -> None:
    homes = streamers.Homes()
    with capture() as seen, request(seen):
        streamer = TextIteratorStreamer(words.tokenizer())
        homes._keep(streamer, streamers.otel_context.get_current())
        assert homes._kept
        del streamer
        gc.collect()
    assert not homes._kept


def test_our_failure_is_not_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(streamers.Homes, "_keep", broken)
    monkeypatch.setattr(_guard, "strict", False)
    with capture() as seen, request(seen):
        streamer = TextIteratorStreamer(words.tokenizer(), skip_prompt=True)
        assert streamer.skip_prompt
        run(streamer).join()
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_undo_is_exact() -> None:
    before = vars(TextStreamer)["__init__"]
    with capture():
        assert vars(TextStreamer)["__init__"] is not before
    assert vars(TextStreamer)["__init__"] is before
