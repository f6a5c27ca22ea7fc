"""Continuous batching: each request is one operation with true times, however it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from time import monotonic, perf_counter, sleep
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import StatusCode
from transformers import ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching import continuous_api, scheduler

from llmwatch import _guard, semconv
from llmwatch import semconv_models as models
from llmwatch import semconv_tasks as names
from llmwatch.sources.transformers import batching, books
from llmwatch.testing import capture
from tests.sources.transformers import words

NEW = 6
PROMPTS = [[4, 5, 6], [7, 8]]
LONG = 200
"""More tokens than a test waits for."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The library tells of failures that tests cause."""
    log = logging.getLogger("ContinuousBatchingLogger")
    before, log.disabled = log.disabled, True
    yield
    log.disabled = before


def settings() -> Any:
    return ContinuousBatchingConfig(page_size=16, num_blocks=64, max_batch_tokens=64)


def wanted(tokens: int = NEW, **more: Any) -> Any:
    return GenerationConfig(max_new_tokens=tokens, eos_token_id=-1, do_sample=False, **more)


def batch(**more: Any) -> Any:
    config = more.pop("config", None) or wanted()
    return words.speaker().generate_batch(
        PROMPTS,
        generation_config=config,
        continuous_batching_config=settings(),
        warmup=False,
        **more,
    )


@contextmanager
def running(tokens: int = LONG, **more: Any) -> Iterator[Any]:
    manager = words.speaker().init_continuous_batching(
        generation_config=wanted(tokens, **more), continuous_batching_config=settings()
    )
    manager.start()
    try:
        yield manager
    finally:
        if manager.is_running():
            manager.stop(hard_stop=True)


def wait_for(what: Any, seconds: float = 30.0) -> None:
    deadline = monotonic() + seconds
    while not what():
        assert monotonic() < deadline
        sleep(0.005)


def answer(manager: Any, key: str) -> Any:
    """The final output of one request."""
    found: list[Any] = []

    def got() -> bool:
        output = manager.get_result(timeout=0.1)
        if output is not None and output.request_id == key and output.is_finished():
            found.append(output)
        return bool(found)

    wait_for(got)
    return found[0]


def test_each_request_is_an_operation_and_results_are_the_same() -> None:
    plain = batch()
    with capture() as seen:
        watched = batch()
    assert list(watched) == list(plain)
    for key, output in watched.items():
        assert output.generated_tokens == plain[key].generated_tokens
        assert output.timestamps is None  # nobody asked
        assert vars(output).keys() == vars(plain[key]).keys()
    assert len(seen.spans) == 2
    for span in seen.spans:
        found = span.attributes
        prompt = PROMPTS[int(found[names.REQUEST_KEY].removeprefix("req_"))]
        assert span.name.startswith("text_completion ")
        assert found[semconv.USAGE_INPUT_TOKENS] == len(prompt)
        assert found[semconv.USAGE_OUTPUT_TOKENS] == NEW
        assert found[semconv.REQUEST_MAX_TOKENS] == NEW
        assert found[semconv.RESPONSE_FINISH_REASONS] == ("length",)
        assert found[names.CONTINUOUS_BATCHING]
    assert sum(point.count for point in seen.metrics()["llmwatch.request.queue_time"]) == 2


def test_times_are_those_that_the_library_keeps() -> None:
    """Queue, first token and gaps, as the timestamps of a user who asked for them say."""
    with capture() as seen:
        outputs = batch(record_timestamps=True)
    for span in seen.spans:
        found = span.attributes
        output = outputs[found[names.REQUEST_KEY]]
        times = output.timestamps
        assert len(times) == NEW
        gaps = sorted(late - early for early, late in pairwise(times))
        assert found[models.GENERATION_GAP_MAX] == pytest.approx(gaps[-1])
        assert found[models.GENERATION_DECODE_TIME] == pytest.approx(times[-1] - times[0])
        assert found[models.GENERATION_PREFILL_TIME] == pytest.approx(times[0] - output.lifespan[0])
        first, queued = found[models.GENERATION_TIME_TO_FIRST_TOKEN], found[names.QUEUE_TIME]
        assert first - queued == pytest.approx(times[0] - output.lifespan[0], abs=1e-6)
        # The operation began just before the library noted the request.
        assert 0 <= queued - (output.lifespan[0] - output.created_time) < 0.5
        assert (span.end_time - span.start_time) / 1e9 >= times[-1] - output.created_time


def test_an_end_is_told_from_a_limit() -> None:
    plain = batch()
    ends = plain["req_0"].generated_tokens[0]
    config = GenerationConfig(max_new_tokens=NEW, eos_token_id=ends, do_sample=False)
    with capture() as seen:
        batch(config=config)
    reasons = {
        span.attributes[names.REQUEST_KEY]: span.attributes[semconv.RESPONSE_FINISH_REASONS]
        for span in seen.spans
    }
    assert reasons["req_0"] == ("stop",)


def test_several_answers_are_one_operation() -> None:
    config = GenerationConfig(
        max_new_tokens=NEW, eos_token_id=-1, do_sample=True, num_return_sequences=3
    )
    with capture() as seen:
        outputs = batch(config=config)
    assert len(outputs) == 6
    assert len(seen.spans) == 2
    for span in seen.spans:
        assert span.attributes[semconv.USAGE_OUTPUT_TOKENS] == 3 * NEW
        assert span.attributes[models.GENERATION_OUTPUTS] == (NEW,) * 3


def test_a_request_belongs_to_whoever_added_it() -> None:
    with capture() as seen, running(NEW) as manager:
        parents = {}
        for prompt in PROMPTS:
            with seen.tracer_provider.get_tracer("test").start_as_current_span("request") as span:
                parents[manager.add_request(prompt)] = span.get_span_context().span_id
        for _ in PROMPTS:
            wait_for(lambda: manager.get_result(timeout=0.1) is not None)
    operations = [span for span in seen.spans if span.name != "request"]
    assert len(operations) == 2
    for span in operations:
        assert span.parent.span_id == parents[span.attributes[names.REQUEST_KEY]]


def test_a_cancelled_request_ends_where_it_was_cancelled() -> None:
    with capture() as seen, running() as manager:
        cancelled = manager.add_request(PROMPTS[0], streaming=True)
        wait_for(lambda: manager.get_result(timeout=0.1) is not None)
        manager.cancel_request(cancelled)
        wait_for(lambda: seen.spans)
    (span,) = seen.spans
    assert span.attributes[semconv.STREAM_ENDING] == "cancelled"
    assert span.status.status_code is StatusCode.UNSET
    assert 0 < span.attributes[semconv.USAGE_OUTPUT_TOKENS] < LONG
    assert semconv.RESPONSE_FINISH_REASONS not in span.attributes


def test_streamed_outputs_have_no_times_unless_asked_for() -> None:
    with capture(), running(NEW) as manager:
        for asked in (False, True):
            manager.add_request(PROMPTS[0], streaming=True, record_timestamps=asked)
            outputs: list[Any] = []

            def got(outputs: list[Any] = outputs) -> bool:
                if (output := manager.get_result(timeout=0.1)) is not None:
                    outputs.append(output)
                return bool(outputs) and outputs[-1].is_finished()

            wait_for(got)
            assert all((output.timestamps is not None) is asked for output in outputs)


def test_a_manager_that_is_stopped_ends_its_requests() -> None:
    with capture() as seen, running() as manager:
        manager.add_request(PROMPTS[0], streaming=True)
        wait_for(lambda: manager.get_result(timeout=0.1) is not None)
        manager.stop(hard_stop=True)
        assert manager.add_request(PROMPTS[1]) is None
    first, second = seen.spans
    assert first.attributes[semconv.ERROR_TYPE] == "RuntimeError"
    assert first.attributes[semconv.USAGE_OUTPUT_TOKENS] > 0
    assert second.attributes[semconv.ERROR_TYPE] == "refused"


def test_a_loop_that_breaks_fails_its_requests_with_its_error() -> None:
    def broken(*_: Any) -> None:
        raise MemoryError("no memory left")

    handle = words.speaker().register_forward_pre_hook(broken)
    try:
        with capture() as seen, running() as manager:
            key = manager.add_request(PROMPTS[0])
            assert answer(manager, key).error == "no memory left"
    finally:
        handle.remove()
    (span,) = seen.spans
    assert span.attributes[semconv.ERROR_TYPE] == "MemoryError"


def test_two_managers_have_requests_of_the_same_name() -> None:
    with capture() as seen, running(NEW) as one:
        first = one.add_request(PROMPTS[0])
        answer(one, first)
        with running(NEW + 2) as other:
            second = other.add_request(PROMPTS[1])
            answer(other, second)
    assert first == second
    assert [span.attributes[semconv.USAGE_OUTPUT_TOKENS] for span in seen.spans] == [NEW, NEW + 2]


def test_what_is_under_way_goes_on_when_watching_ends() -> None:
    """Nobody learns of times that only llmwatch wanted, and the span ends."""
    with running(40) as manager:
        with capture() as seen:
            key = manager.add_request(PROMPTS[0], streaming=True)
            wait_for(lambda: manager.get_result(timeout=0.1) is not None)
        output = answer(manager, key)
    assert output.timestamps is None
    assert len(output.generated_tokens) == 40
    (span,) = seen.spans
    assert span.attributes[semconv.STREAM_ENDING] == "abandoned"


def test_a_generation_that_is_batched_underneath_counts_once() -> None:
    """``cache_implementation="paged"`` is an older way to ask for it."""
    with capture() as seen, small_defaults():
        words.speaker().generate(
            torch.tensor(PROMPTS[:1]), cache_implementation="paged", generation_config=wanted()
        )
    assert len(seen.spans) == 1


@contextmanager
def small_defaults() -> Iterator[None]:
    """Small ones: by default, the cache takes as much memory as there is."""
    original = words.speaker().init_continuous_batching

    def small(**given: Any) -> Any:
        return original(**given | {"continuous_batching_config": settings()})

    words.speaker().init_continuous_batching = small
    try:
        yield
    finally:
        del words.speaker().init_continuous_batching


# --- harm ------------------------------------------------------------------------------------------

FAULTS = [
    (batching, "describe"),
    (batching, "read_parameters"),
    (batching, "told"),
    (batching.Batching, "_start"),
    (batching.Batching, "_added"),
    (books.Books, "of"),
    (books.Books, "known"),
    (books.Book, "take"),
    (books, "read_timing"),
]


@pytest.mark.parametrize(("owner", "name"), FAULTS)
def test_our_failure_is_not_the_users(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    plain = batch()
    monkeypatch.setattr(owner, name, broken)
    monkeypatch.setattr(_guard, "strict", False)
    with capture():
        watched = batch()
    assert [each.generated_tokens for each in watched.values()] == [
        each.generated_tokens for each in plain.values()
    ]


def test_undo_is_exact() -> None:
    places = [
        (continuous_api.ContinuousBatchingManager, "add_request"),
        (continuous_api.OutputRouter, "deliver"),
        (continuous_api.OutputRouter, "deliver_batch"),
        (continuous_api.OutputRouter, "fail_and_deliver"),
        (scheduler.Scheduler, "clear_cancelled_requests"),
    ]
    before = [vars(owner)[name] for owner, name in places]
    with capture():
        during = [vars(owner)[name] for owner, name in places]
    after = [vars(owner)[name] for owner, name in places]
    assert all(now is not then for now, then in zip(during, before, strict=True))
    assert all(now is then for now, then in zip(after, before, strict=True))


# --- outputs that come before their request is noted -----------------------------------------------


def output(key: str, tokens: int, *, done: bool = True) -> Any:
    return SimpleNamespace(
        request_id=key,
        prompt_ids=[1, 2],
        generated_tokens=[3] * tokens,
        timestamps=[5.0 + step for step in range(tokens)],
        lifespan=(4.0, 9.0),
        created_time=1.0,
        error=None,
        is_finished=lambda: done,
    )


class Ended:
    """An operation that says how it ended."""

    started, queue_time, decodings, error_type = 0.5, None, None, None

    def __init__(self) -> None:
        self.ends: list[Any] = []

    def finish(self, error: Any, *, ending: Any) -> None:
        self.ends.append((error, ending))


@given(st.booleans(), st.integers(1, 3), st.booleans())
def test_an_early_output_finds_its_request(asked: bool, sequences: int, early: bool) -> None:
    book = books.Book(_Manager())
    operation: Any = Ended()
    keys = ["a", *(f"a__child#{child}" for child in range(sequences - 1))]
    entry = books.Entry(operation, 2.0, asked, sequences, frozenset([3]))
    outputs = [output(key, 4) for key in keys]
    with book.adding(wanted=asked):
        if early:
            for each in outputs:
                book.take(each)
        book.put("a", entry)
    if not early:
        for each in outputs:
            book.take(each)
    assert operation.ends == [(None, None)]
    assert operation.decodings[0].outputs == (4,) * sequences
    assert operation.finish_reasons == ["stop"] * sequences
    assert operation.queue_time == 3.5
    assert all((each.timestamps is not None) is asked for each in outputs)


class _Manager:
    """Somebody who can be referred to weakly."""


def test_outputs_of_requests_from_before_are_left_alone() -> None:
    book = books.Book(_Manager())
    given = output("a", 3)
    book.take(given)
    assert given.timestamps is not None
    assert not book._early


def test_times_that_are_not_all_there_are_not_told() -> None:
    """A request that was put off lost the times of its first tokens."""
    given = output("a", 5)
    given.timestamps = given.timestamps[2:]
    decoding = books.read_timing(given)
    assert list(decoding.arrivals) == []
    assert len(decoding.lengths) == 5


def test_nothing_waits_for_the_event_loop() -> None:
    """Requests of a server are handed to callbacks, not to a queue."""

    async def serve() -> Any:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with running(NEW) as manager:
            manager.register_result_handler("mine", done.set_result)
            manager.add_request(PROMPTS[0], request_id="mine")
            return await asyncio.wait_for(done, 30)

    begun = perf_counter()
    with capture() as seen:
        result = asyncio.run(serve())
    assert result.timestamps is None
    (span,) = seen.spans
    assert span.attributes[names.QUEUE_TIME] < perf_counter() - begun
