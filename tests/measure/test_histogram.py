"""Counting into buckets, against the naive way."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwatch.measure.histogram import Histogram, Origin

BOUNDS = st.lists(st.integers(0, 50), unique=True, max_size=12).map(
    lambda bounds: tuple(float(bound) for bound in sorted(bounds))
)
VALUES = st.lists(st.integers(0, 60).map(float) | st.floats(0, 60), max_size=40)
"""Whole numbers too, so that values fall on bounds."""


def naive(bounds: tuple[float, ...], values: list[float]) -> list[int]:
    """One pass over all buckets for each value."""
    edges = [-math.inf, *bounds, math.inf]
    return [sum(1 for value in values if low < value <= high) for low, high in pairwise(edges)]


def histogram(bounds: tuple[float, ...], values: list[float], made: int = 1) -> Histogram:
    counted = Histogram(bounds, made)
    for value in values:
        counted.add(value)
    return counted


def facts(counted: Histogram) -> tuple[object, ...]:
    return counted.counts, counted.low, counted.high, counted.made, counted.samples


@given(BOUNDS, VALUES)
def test_each_value_is_counted_in_the_bucket_that_holds_it(bounds, values):
    counted = histogram(bounds, values)
    assert counted.counts == naive(bounds, values)
    assert counted.count == len(values)
    assert counted.total == pytest.approx(math.fsum(values))
    assert (counted.low, counted.high) == (
        min(values, default=math.inf),
        max(values, default=-math.inf),
    )


@given(BOUNDS, VALUES, VALUES)
def test_many_sorted_values_count_as_they_would_one_by_one(bounds, before, values):
    together = histogram(bounds, before)
    together.add_sorted(sorted(values))
    assert facts(together) == facts(histogram(bounds, before + values))
    assert together.total == pytest.approx(math.fsum(before + values))


SAMPLES = st.lists(
    st.tuples(st.integers(0, 60).map(float), st.integers(1, 10**6)),
    max_size=20,
    unique_by=lambda pair: pair[1],
)


def sampled(bounds: tuple[float, ...], samples: list[tuple[float, int]]) -> Histogram:
    counted = Histogram(bounds, made=len(samples))
    for value, at in sorted(samples, key=lambda pair: pair[1]):
        counted.add(value, Origin(at, trace_id=at, span_id=at))
    return counted


@given(BOUNDS, SAMPLES, SAMPLES, SAMPLES)
def test_merging_is_associative_and_commutative(bounds, one, two, three):
    one, two, three = (
        [(value, 3 * at + turn) for value, at in samples]  # no two at the same time
        for turn, samples in enumerate((one, two, three))
    )
    left = sampled(bounds, one)
    left.merge(sampled(bounds, two))
    left.merge(sampled(bounds, three))

    right = sampled(bounds, three)
    right.merge(sampled(bounds, two))
    other = sampled(bounds, one)
    other.merge(right)

    assert facts(left) == facts(other)
    assert left.total == pytest.approx(other.total)


@given(BOUNDS, VALUES, VALUES)
def test_merging_parts_gives_the_whole(bounds, one, two):
    merged = histogram(bounds, one)
    merged.merge(histogram(bounds, two))
    assert facts(merged) == facts(histogram(bounds, one + two))


@given(BOUNDS, SAMPLES)
def test_each_bucket_keeps_the_latest_sample(bounds, samples):
    latest = {}
    for value, at in sorted(samples, key=lambda pair: pair[1]):
        latest[sum(1 for bound in bounds if bound < value)] = (value, at)
    kept = sampled(bounds, samples).samples
    assert {index: (value, origin.at) for index, (value, origin) in kept.items()} == latest


@given(BOUNDS, VALUES.filter(bool))
def test_of_many_values_the_greatest_is_the_sample(bounds, values):
    counted, origin = Histogram(bounds, 1), Origin(5, 6, 7)
    counted.add_sorted(sorted(values), origin)
    greatest = max(values)
    assert counted.samples == {sum(1 for bound in bounds if bound < greatest): (greatest, origin)}


@given(st.lists(st.integers(0, 10**9)))
def test_without_bounds_it_is_a_counter_and_stays_whole(values):
    counter = Histogram((), 1)
    for value in values:
        counter.add(value)
    assert counter.total == sum(values)
    assert isinstance(counter.total, int)
    assert counter.counts == [len(values)]


@pytest.mark.parametrize("value", [-1.0, math.inf, -math.inf, math.nan])
def test_what_is_no_measurement_is_not_counted(value):
    counted = histogram((1.0, 2.0), [1.5, value])
    assert counted.count == 1
    assert counted.total == 1.5


def test_histograms_of_different_bounds_do_not_merge():
    with pytest.raises(ValueError, match="bounds differ"):
        Histogram((1.0,), 1).merge(Histogram((2.0,), 1))
