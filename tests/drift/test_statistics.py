"""Each statistic is what a naive computation of its definition says."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwatch.drift.calibration import Tail
from llmwatch.drift.sequential import ShiryaevRoberts, ratios
from llmwatch.drift.statistics import berk_jones, centroid_shift, mahalanobis_shift
from llmwatch.drift.subspace import fit, twins

counts = st.lists(st.integers(0, 50), min_size=2, max_size=12).filter(any)
seeds = st.integers(0, 2**32 - 1)


def naive_berk_jones(window: list[int], reference: list[int]) -> float:
    best, many, all_of = 0.0, sum(window), sum(reference)
    for edge in range(1, len(window)):
        seen = sum(window[edge:]) / many
        expected = (sum(reference[edge:]) + 1) / (all_of + 1)
        if seen > expected:
            found = seen * log(seen / expected)
            if seen < 1:
                found += (1 - seen) * log((1 - seen) / (1 - expected))
            best = max(best, many * found)
    return best


@given(st.data())
def test_berk_jones(data):
    window = data.draw(counts)
    size = len(window)
    reference = data.draw(st.lists(st.integers(0, 50), min_size=size, max_size=size).filter(any))
    found = float(berk_jones(np.array(window), np.array(reference)))
    assert found == pytest.approx(naive_berk_jones(window, reference), abs=1e-9)


@given(seeds)
def test_the_shifts_are_distances_under_the_identity_and_under_the_whole_covariance(seed):
    """The naive Mahalanobis distance inverts the model's whole covariance matrix."""
    random = np.random.default_rng(seed)
    rows = (random.normal(size=(200, 12)) * np.geomspace(2, 0.1, 12)).astype(np.float32)
    model = fit(rows, rows.mean(axis=0))
    inside = model.directions.astype(np.float64)
    outside = np.eye(12) - inside @ inside.T
    covariance = inside @ np.diag(model.variances) @ inside.T + model.noise * outside
    shift = random.normal(size=12)
    assert float(centroid_shift(shift)) == pytest.approx(np.linalg.norm(shift) ** 2)
    naive = shift @ np.linalg.inv(covariance) @ shift
    assert float(mahalanobis_shift(shift, shift @ inside, model)) == pytest.approx(naive, rel=1e-3)


@settings(max_examples=20)
@given(seeds, st.sampled_from([(40, 100), (300, 30)]), st.sampled_from([0, 1, 100]))
def test_the_residual_is_the_distance_from_the_subspace(seed, shape, away):
    """With fewer rows than dimensions, too, however far the centre is from zero, and however the
    product is cut into pieces."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=shape).astype(np.float32) + np.float32(away)
    model = fit(rows, rows.mean(axis=0))
    inside, lengths, residuals = model.residuals(rows)
    centred = rows - model.centre
    along = inside / model.scales
    projected = along @ model.directions.T
    naive = ((centred - projected) ** 2).sum(axis=1)
    assert residuals == pytest.approx(naive, rel=1e-3, abs=1e-3)
    assert along == pytest.approx(centred @ model.directions, rel=1e-3, abs=1e-3)
    assert lengths == pytest.approx((rows**2).sum(axis=1), rel=1e-4)
    assert np.allclose(model.directions.T @ model.directions, np.eye(inside.shape[1]), atol=1e-4)


def test_dimensions_that_never_vary_change_nothing():
    """1/0 is nowhere: not even where three dimensions of a model are dead."""
    random = np.random.default_rng(1)
    alive = random.normal(size=(300, 10)).astype(np.float32)
    dead = np.concatenate([alive, np.full((300, 3), 0.5, np.float32)], axis=1)
    one, other = fit(alive, alive.mean(axis=0)), fit(dead, dead.mean(axis=0))
    assert other.noise == pytest.approx(one.noise, rel=1e-4)
    assert other.variances == pytest.approx(one.variances, rel=1e-4)
    assert other.residuals(dead)[2] == pytest.approx(one.residuals(alive)[2], rel=1e-3, abs=1e-4)


@given(st.lists(st.floats(0, 100), min_size=50, max_size=200), st.floats(0, 100))
def test_a_p_value_is_the_share_of_replicates_that_are_as_large(replicates, value):
    """Beyond the last few replicates it goes on falling, and is never zero."""
    ordered = np.sort(replicates)
    found = float(Tail(ordered).survival(np.float64(value)))
    naive = (sum(each >= value for each in replicates) + 1) / (len(replicates) + 1)
    edge = ordered[len(ordered) - max(int(len(ordered) * 0.025), 1)]
    if value <= edge:
        assert found == pytest.approx(naive)
    else:
        assert 0 < found <= float(Tail(ordered).survival(edge)) + 1e-12


@given(counts)
def test_the_sequential_ratios_have_mean_one_under_the_reference(reference):
    """So the detector's level grows by one an item while nothing drifts: that is its guarantee."""
    found = ratios(np.array(reference))
    shares = (np.array(reference) + 0.5) / (sum(reference) + 0.5 * len(reference))
    assert float(found @ shares) == pytest.approx(1)


def test_the_sequential_detector_is_shiryaev_and_roberts_recursion():
    reference = np.array([500, 300, 150, 40, 10])
    random = np.random.default_rng(3)
    bins = random.choice(5, size=200, p=reference / 1000)
    detector, level = ShiryaevRoberts(reference, 1e12), 0.0
    for start in range(0, 200, 7):
        detector.add(bins[start : start + 7])
    for index in bins:
        level = (1 + level) * ratios(reference)[index]
    assert detector.level == pytest.approx(level)


def test_near_duplicates_are_found_as_pairs_by_how_far_apart_they_are():
    random = np.random.default_rng(4)
    rows = random.normal(size=(64, 40)).astype(np.float32)
    assert twins(rows) == (0, 0)
    rows[1] = rows[0]
    rows[60] = rows[20] * 1.001
    assert twins(rows) == (1, 1)
