"""Baselines of activations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwatch.errors import ConfigError
from llmwatch.measure.baseline import Baseline, Moments


def moments(rows: np.ndarray, pieces: int = 1) -> Moments:
    found = Moments()
    for piece in np.array_split(rows, pieces):
        found.add(piece)
    return found


@given(st.integers(2, 40), st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_moments_are_those_of_all_rows_however_they_come(many, pieces, seed):
    rows = np.random.default_rng(seed).normal(3, 2, (many, 5))
    found = moments(rows, pieces)
    assert found.count == many
    np.testing.assert_allclose(found.mean, rows.mean(0))
    np.testing.assert_allclose(found.variance, rows.var(0, ddof=1))


def test_rows_with_no_numbers_in_them_and_of_other_lengths_are_left_out():
    found = moments(np.array([[1.0, 2.0], [np.nan, 1.0], [np.inf, 1.0]]))
    found.add(np.ones((3, 5)))
    assert found.count == 1


@pytest.mark.parametrize("moved", [0.0, 0.5, 3.0])
def test_the_shift_is_in_standard_deviations_without_what_is_chance(moved):
    random = np.random.default_rng(0)
    spread = random.uniform(0.1, 10, 200)
    old = Baseline({"h.0": moments(random.normal(0, spread, (500, 200)))})
    new = Baseline({"h.0": moments(random.normal(moved * spread, spread, (300, 200)))})
    (shift,) = old.compare(new)
    assert shift.shift == pytest.approx(moved, abs=0.05)
    assert (shift.layer, shift.items, shift.baseline_items) == ("h.0", 300, 500)


def test_a_baseline_outlives_the_process(tmp_path):
    rows = np.random.default_rng(0).normal(size=(10, 3))
    saved = Baseline({"a.0": moments(rows), "a.1": moments(rows * 2)})
    saved.save(tmp_path / "activations.npz")
    loaded = Baseline.load(tmp_path / "activations.npz")
    assert list(loaded.layers) == ["a.0", "a.1"]
    np.testing.assert_array_equal(loaded.layers["a.1"].variance, saved.layers["a.1"].variance)


def test_what_cannot_be_used_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="empty"):
        Baseline({}).save(tmp_path / "none.npz")
    (tmp_path / "other.npz").write_bytes(b"no zip file")
    with pytest.raises(ConfigError, match="no baseline"):
        Baseline.load(tmp_path / "other.npz")
