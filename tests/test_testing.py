"""`llmwatch.testing.capture`: what a block produced, and nothing left behind."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

import llmwatch
from llmwatch import session
from llmwatch.errors import ConfigError
from llmwatch.export.store_reader import read_spans
from llmwatch.signals import active
from llmwatch.testing import capture


def call(name: str = "chat") -> None:
    operation = active.signals.start(name, "openai", "gpt-4o", {})
    operation.finish(ValueError("no"))


def test_spans_metrics_and_events_of_the_block() -> None:
    with capture(sources=()) as seen:
        call()
        assert [span.name for span in seen.spans] == ["chat gpt-4o"]
    assert seen.spans[0].attributes["gen_ai.request.model"] == "gpt-4o"
    (point,) = seen.metrics()["gen_ai.client.operation.duration"]
    assert point.count == 1
    assert point.attributes["error.type"] == "ValueError"
    assert [event.event_name for event in seen.events] == ["gen_ai.client.operation.exception"]


def test_spans_keep_their_own_ids_where_the_block_seeds_random_numbers() -> None:
    with capture(sources=()) as seen:
        for _ in range(2):
            random.seed(7)
            call()
    one, other = (span.context for span in seen.spans)
    assert one.span_id != other.span_id
    assert one.trace_id != other.trace_id


def test_metrics_may_be_read_during_the_block_as_often_as_one_likes() -> None:
    with capture(sources=()) as seen:
        assert set(seen.metrics()) == {"llmwatch.telemetry.dropped"}
        for count in (1, 2):
            call()
            (point,) = seen.metrics()["gen_ai.client.operation.duration"]
            assert point.count == count


def test_what_was_seen_can_be_forgotten() -> None:
    with capture(sources=()) as seen:
        call("one")
        seen.clear()
        call("two")
    assert [span.name for span in seen.spans] == ["two gpt-4o"]
    assert len(seen.events) == 1


def test_nothing_stays_instrumented() -> None:
    with capture(sources=()):
        assert session.current() is not None
    assert session.current() is None
    assert active.signals is None


def test_blocks_do_not_see_each_other() -> None:
    with capture(sources=()) as first:
        call("first")
    with capture(sources=()) as second:
        call("second")
    assert [span.name for span in first.spans] == ["first gpt-4o"]
    assert [span.name for span in second.spans] == ["second gpt-4o"]


def test_a_running_instrumentation_is_redirected_and_goes_on(tmp_path: Path) -> None:
    llmwatch.instrument(sources=(), store_path=tmp_path)
    call("before")
    with capture(sources=()) as seen:
        call("inside")
    call("after")
    llmwatch.uninstrument()
    assert [span.name for span in seen.spans] == ["inside gpt-4o"]
    assert [span.name for span in read_spans(tmp_path)] == ["before gpt-4o", "after gpt-4o"]


def test_a_block_that_fails_restores_too(tmp_path: Path) -> None:
    given = TracerProvider(shutdown_on_exit=False)
    llmwatch.instrument(sources=(), store_path=tmp_path, tracer_provider=given)

    @capture(sources=())
    def broken() -> None:
        call()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert session.current().config.tracer_provider is given


def test_wrong_settings_restore_too(tmp_path: Path) -> None:
    llmwatch.instrument(sources=(), store_path=tmp_path)
    before = session.current().config
    with pytest.raises(ConfigError), capture(semconv="2.0"):
        pass
    assert session.current().config == before


def test_settings_are_those_of_instrument() -> None:
    with capture(sources=(), semconv="genai-0.1") as seen:
        call()
    assert "gen_ai.client.inference.duration" in seen.metrics()
