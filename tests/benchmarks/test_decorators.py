"""What `@llmwatch.watch` adds to a call and to an item, as ratios to baselines of the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, wraps
from time import perf_counter
from timeit import timeit
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import SpanKind

from llmwatch import semconv
from llmwatch.sources.decorators import watch
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


def seconds(*functions: Callable[[], Any], number: int) -> list[float]:
    """The best of many short rounds of each, by turns, for one call."""
    best = [float("inf")] * len(functions)
    for _ in range(150):
        for index, function in enumerate(functions):
            best[index] = min(best[index], timeit(function, number=number))
    return [each / number for each in best]


def report(benchmark: Any, ours: float, baseline: float, bare: float, unit: str) -> float:
    """Put the ratio and what is added beside the benchmark's own figures."""
    benchmark.extra_info[f"added_ns_per_{unit}"] = round((ours - bare) * 1e9)
    benchmark.extra_info["ratio_to_baseline"] = round(ours / baseline, 2)
    return ours / baseline


def drain(items: Iterator[Any]) -> None:
    for _ in items:
        pass


@pytest.mark.benchmark(group="decorators: not instrumented")
def test_a_call_that_nobody_watches(benchmark):
    """About what any decorator costs."""
    ours, baseline = watch(answer), thinnest(answer)
    benchmark(ours, "a")
    times = seconds(*(partial(each, "a") for each in (ours, baseline, answer)), number=1000)
    assert report(benchmark, *times, "call") < 1.5


@pytest.mark.benchmark(group="decorators: not instrumented")
def test_a_stream_that_nobody_watches(benchmark):
    """Nothing stands between the generator and its consumer."""
    ours = watch(stream)
    benchmark(lambda: drain(ours(MANY)))
    ours_takes, bare = seconds(lambda: drain(ours(MANY)), lambda: drain(stream(MANY)), number=10)
    assert report(benchmark, ours_takes, bare, bare, "stream") < 1.2


@pytest.mark.benchmark(group="decorators: watched")
def test_a_watched_call(benchmark):
    """Span, record and metrics, against one span and one histogram by hand."""
    with watched() as seen:
        ours, baseline = watch(answer), by_hand(seen)
        benchmark(ours, "a")
        times = seconds(*(partial(each, "a") for each in (ours, baseline, answer)), number=20)
    assert report(benchmark, *times, "call") < 4


@pytest.mark.benchmark(group="decorators: watched")
def test_an_item_of_a_watched_stream(benchmark):
    """Context put in place and taken away, two readings kept; no span and no metric per item."""
    with watched():
        ours = watch(stream)
        benchmark(lambda: drain(ours(MANY)))
        streams = [(each, items) for each in (ours, timed_by_hand, stream) for items in (FEW, MANY)]
        times = seconds(*(lambda each=each, n=n: drain(each(n)) for each, n in streams), number=1)
    items = MANY - FEW
    few, many = times[::2], times[1::2]
    each_item = [(long - short) / items for short, long in zip(few, many, strict=True)]
    assert report(benchmark, *each_item, "item") < 6
