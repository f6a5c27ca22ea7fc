"""Readings of a layer's numbers, put together."""

from __future__ import annotations

from math import inf, nan

import pytest

from llmwatch.measure.health import Reading, Readings


def sound(abs_max: float, cosine: float | None = 0.5, tokens: int = 1) -> Reading:
    return Reading(1.0, 0.5, abs_max, 0, 0, tokens, cosine, 0.1)


def test_the_largest_is_the_largest_and_cosines_are_means_over_tokens():
    readings = Readings()
    for abs_max, cosine, tokens in ((1.0, 0.1, 1), (9.0, 0.2, 1), (2.0, 0.9, 8)):
        readings.add(sound(abs_max, cosine, tokens))
    health = readings.health("h.0", 0, 0, "float16", 65504.0)
    assert (health.abs_max, health.forwards, health.tokens) == (9.0, 3, 10)
    assert health.cosine == pytest.approx(0.75)
    assert health.range_used == pytest.approx(9 / 65504)


def test_broken_forwards_are_counted_and_left_out_of_the_rest():
    readings = Readings()
    readings.add(sound(3.0))
    readings.add(Reading(nan, nan, nan, 4, 0), first=True)
    readings.add(Reading(inf, inf, inf, 0, 2))
    health = readings.health("h.0", 0, 0, "float32", 3e38)
    assert (health.nan, health.inf, health.broken, health.first_broken) == (4, 2, 2, 1)
    assert (health.abs_max, health.rms) == (3.0, 1.0)


def test_where_every_forward_is_broken_nothing_is_said_of_the_values():
    readings = Readings()
    readings.add(Reading(nan, nan, nan, 1, 0))
    health = readings.health("h.0", 0, 0, "float32", 3e38)
    assert (health.rms, health.typical, health.abs_max, health.range_used) == (None,) * 4


def test_only_the_latest_are_kept():
    readings = Readings(kept=2)
    for abs_max in (9.0, 1.0, 2.0):
        readings.add(sound(abs_max, None))
    health = readings.health("h.0", 0, 0, "float32", 3e38)
    assert (len(readings), health.abs_max, health.cosine) == (2, 2.0, None)
