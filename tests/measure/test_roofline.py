"""Where work lies under a roof."""

from __future__ import annotations

import pytest

from llmwatch.measure.roofline import Roof, best, place

ROOF = Roof("cpu", "float32", flops=100e9, bandwidth=20e9, flops_error=0.0, bandwidth_error=0.0)


def test_left_of_the_ridge_memory_is_the_limit_and_right_of_it_arithmetic():
    assert ROOF.ridge == 5
    left = place(ROOF, flops=1e9, moved=1e9, seconds=0.1)
    right = place(ROOF, flops=10e9, moved=1e9, seconds=0.2)
    assert left is not None
    assert right is not None
    assert (left.bound, left.rate, left.bandwidth, left.intensity) == ("memory", 1e10, 1e10, 1)
    assert left.efficiency == pytest.approx(0.5)
    assert (right.bound, right.efficiency) == ("compute", pytest.approx(0.5))


@pytest.mark.parametrize("work", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_nothing_has_no_place(work):
    assert place(ROOF, *work) is None


def test_the_error_is_how_far_the_median_repetition_falls_short_of_the_best():
    assert best([8.0, 10.0, 5.0]) == (10.0, pytest.approx(0.2))
