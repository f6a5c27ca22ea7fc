"""What `@llmwatch.watch` adds to a call and to an item, as ratios to baselines of the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, wraps
from time import perf_counter
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import SpanKind

from llmwatch import semconv
from llmwatch.sources.decorators import watch
from tests.benchmarks.interleaved import seconds as seconds_of
from tests.benchmarks.table import seconds
from tests.watched import Watched, watched

FEW, MANY = 100, 1100
"""Items of a short stream and of a long one: their difference is what items cost, not calls."""


def answer(prompt: str) -> str:
    return prompt


def stream(items: int) -> Iterator[int]:
    yield from range(items)


def thinnest(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that does nothing: what any decorator costs."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def by_hand(seen: Watched) -> Callable[[str], str]:
    """One span with the same attributes, one duration: what a careful engineer would write."""
    attributes = {semconv.OPERATION_NAME: "chat", semconv.PROVIDER_NAME: "custom"}
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    durations = meters.get_meter("by hand").create_histogram("duration", "s")
    on_span = {**attributes, semconv.CODE_FUNCTION_NAME: "answer"}

    def call(prompt: str) -> str:
        started = perf_counter()
        try:
            with seen.tracer.start_as_current_span("chat", None, SpanKind.INTERNAL, on_span):
                return answer(prompt)
        finally:
            durations.record(perf_counter() - started, attributes)

    return call


def timed_by_hand(items: int) -> Iterator[int]:
    """Two clock readings an item, kept."""
    asked, got = [], []
    made = stream(items)
    while True:
        asked.append(perf_counter())
        item = next(made, None)
        got.append(perf_counter())
        if item is None:
            return
        yield item


def drain(items: Iterator[Any]) -> None:
    for _ in items:
        pass


@pytest.fixture
def judge(benchmark, overhead):
    """Note what is added, and judge its ratio to a baseline."""

    def note(what: str, against: str, ours: float, baseline: float, bare: float, most: float):
        benchmark.extra_info["added"] = seconds(ours - bare)
        overhead(
            "Inside", what, seconds(ours - bare), f"{against}: {seconds(baseline - bare)}",
            ours / baseline, most,
        )  # fmt: skip

    return note


@pytest.mark.benchmark(group="decorators: not instrumented")
def test_a_call_that_nobody_watches(benchmark, judge):
    """About what any decorator costs."""
    ours, baseline = watch(answer), thinnest(answer)
    benchmark(ours, "a")
    times = seconds_of(*(partial(each, "a") for each in (ours, baseline, answer)), number=1000)
    judge("`@watch`, not instrumented: a call", "a decorator that does nothing", *times, most=1.5)


@pytest.mark.benchmark(group="decorators: not instrumented")
def test_a_stream_that_nobody_watches(benchmark, overhead):
    """Nothing stands between the generator and its consumer."""
    ours = watch(stream)
    benchmark(lambda: drain(ours(MANY)))
    takes, bare = seconds_of(lambda: drain(ours(MANY)), lambda: drain(stream(MANY)), number=10)
    overhead(
        "Inside",
        f"`@watch`, not instrumented: a stream of {MANY}",
        seconds(takes),
        f"bare: {seconds(bare)}",
        takes / bare,
        1.2,
    )


@pytest.mark.benchmark(group="decorators: watched")
def test_a_watched_call(benchmark, judge):
    """Span, record and metrics, against one span and one histogram by hand."""
    with watched() as seen:
        ours, baseline = watch(answer), by_hand(seen)
        benchmark(ours, "a")
        times = seconds_of(*(partial(each, "a") for each in (ours, baseline, answer)), number=20)
    judge("`@watch`: a call", "by hand", *times, most=4)


@pytest.mark.benchmark(group="decorators: watched")
def test_an_item_of_a_watched_stream(benchmark, judge):
    """Context put in place and taken away, two readings kept; no span and no metric per item."""
    with watched():
        ours = watch(stream)
        benchmark(lambda: drain(ours(MANY)))
        streams = [(each, items) for each in (ours, timed_by_hand, stream) for items in (FEW, MANY)]
        times = seconds_of(
            *(lambda each=each, n=n: drain(each(n)) for each, n in streams), number=1
        )
    items = MANY - FEW
    few, many = times[::2], times[1::2]
    each_item = [(long - short) / items for short, long in zip(few, many, strict=True)]
    judge("`@watch`: an item of a stream", "two clock readings, kept", *each_item, most=6)
