"""From a window's state to a verdict: p-value, size of the difference, and what it rests on.

Windows that are larger or smaller than the reference was calibrated for, and windows whose items
are not independent, have their statistics scaled before they are referred to the calibration.

Source: Rao & Scott 1981, Journal of the American Statistical Association 76 (dividing by the
design effect).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmwatch.drift.reference import Reference
from llmwatch.drift.regions import Direction, direction
from llmwatch.drift.state import RUN, State
from llmwatch.drift.statistics import divergence, shares_above
from llmwatch.drift.subspace import NEAR, Doubles

LEAST_BLOCKS = 4
"""Blocks from which dependence can be estimated at all."""
NOTED = 0.05
"""p-values from which it is asked where the mean moved."""
ROUNDING = 1e-5
"""Share of the mean square that is no variance, but digits that float32 has not."""
NOTABLE = 1.25
"""Design effects below this one are taken for chance."""


@dataclass(frozen=True)
class Verdict:
    """What one window says."""

    p_value: float
    """How often a window from where the reference came from would differ as much. 0 to 1."""
    p_centroid: float
    """Of the Euclidean shift of the mean alone."""
    p_mahalanobis: float
    """Of the Mahalanobis shift of the mean alone."""
    p_residual: float
    """Of the residual's tail alone."""
    centroid: float
    """Distance of the means, as a share of the reference's root mean square radius; noise in it.
    Of numbers: of their mean ranks, in units of the deviation of ranks."""
    mahalanobis: float
    """Mahalanobis distance of the means."""
    foreign: float
    """At least this share of the window's items lies in excess in the residual's tail. 0 to 1."""
    effect: float
    """The larger of `foreign` and of `centroid` without what chance may explain of it; above 1
    where the mean moved further than the reference's radius."""
    dependence: float
    """Design effect: how many items of this window tell as much as one independent item. 1: all
    are independent."""
    size: int
    """Items in the window."""
    reference: str
    """Hash of the reference."""
    direction: Direction | None = None
    """Which way the mean moved; None where the p-value is above 5 %: chance, too, moves it
    somewhere. None for numbers."""


def judge(reference: Reference, state: State) -> Verdict:
    """Compare a window with the reference.

    Cost: 0.1 ms.

    Raises:
        ValueError: If the state belongs to another reference, or is empty.
    """
    if state.reference != reference.hash or not state.count:
        raise ValueError(
            f"a state of {state.count} embeddings for reference {state.reference} cannot be "
            f"compared with reference {reference.hash}."
        )
    many, null, model = state.count, reference.null, reference.subspace
    design = dependence(reference, state)
    inside = state.inside / many / model.scales - model.offset
    moved = inside if model.scalar else state.shift / many  # of numbers, ranks count
    shift = float(moved @ moved)
    weighted = max(float(inside**2 @ model.weights) + shift / model.noise, 0.0)
    sides = (state.counts, state.counts[::-1])
    tails = [(shares_above(side), each) for side, each in zip(sides, reference.expected)]  # noqa: B905
    tail = many * max(float(divergence(*each).max(initial=0.0)) for each in tails)
    scales = _scales(reference, many, design)
    values = zip(null.tails, (shift, weighted, tail), scales, strict=True)
    centroid, mahalanobis, residual = (each.of(value / scale) for each, value, scale in values)
    chance = design / many + 1 / reference.counted
    foreign = sum(_excess(*each, chance) for each in tails)
    real = max(shift - null.usual * scales[0], 0.0) / reference.spread
    p_value = null.combined((centroid, mahalanobis, residual))
    return Verdict(
        p_value,
        p_centroid=centroid,
        p_mahalanobis=mahalanobis,
        p_residual=residual,
        centroid=(shift / reference.spread) ** 0.5,
        mahalanobis=weighted**0.5,
        foreign=foreign,
        effect=max(foreign, real**0.5),
        dependence=design,
        size=many,
        reference=reference.hash,
        direction=direction(reference.regions, inside, shift**0.5) if p_value <= NOTED else None,
    )


def _excess(seen: Doubles, expected: Doubles, chance: float) -> float:
    """The largest excess above an edge, without two deviations of what is chance."""
    deviation = np.sqrt(expected * (1 - expected) * chance)
    return float(np.max(seen - expected - 2 * deviation, initial=0.0))


def dependence(reference: Reference, state: State) -> float:
    """The design effect of a window: the larger of what its blocks and its near-duplicates say.

    Where items are independent, the means of blocks of b items vary b times less than items do:
    what comes together and is alike makes them vary more. Near-duplicates that are scattered over
    the window do not, but are found as pairs, beyond those that the reference has, too. Numbers are
    also compared with the one before each.

    Returns:
        At least 1; exactly 1 where it may well be chance, or too few blocks tell.
    """
    if reference.subspace.scalar:
        # Short runs tell more surely of what is alike, long ones of what stays so for long.
        sums = (state.runs, state.between_runs), (state.blocks, state.between)
        return max(_of_neighbours(state), *(_of_runs(state, *each) for each in sums))
    found = max(_of_blocks(state, state.blocks, state.between), _of_twins(reference, state))
    return found if found > NOTABLE else 1.0


def _of_runs(state: State, runs: int, between: float) -> float:
    """Of numbers. One direction tells little: two deviations more, to find and to allow for it."""
    varies = 1 + 2 * (2 / max(runs - 1, 1)) ** 0.5
    found = _of_blocks(state, runs, between)
    return found * varies if found > max(NOTABLE, varies) else 1.0


def _of_blocks(state: State, blocks: int, between: float) -> float:
    many = state.count
    if blocks < LEAST_BLOCKS or many <= blocks:
        return 1.0
    of_mean = float(state.inside @ state.inside) / many
    each = (state.energy - of_mean) / many
    if each <= ROUNDING * state.energy / many:
        return 1.0
    return (between - of_mean) / ((blocks - 1) * each)


def _of_neighbours(state: State) -> float:
    """What numbers have that are each like the one before: runs end, and miss some of that."""
    many, pairs = state.count, state.neighbours
    varies = state.energy / many - (float(state.inside[0]) / many) ** 2
    if pairs < RUN or varies <= ROUNDING * state.energy / many:
        return 1.0
    alike = 1 - state.steps / (2 * pairs * varies)
    if alike <= 2 / pairs**0.5:
        return 1.0
    alike += 2 * (max(1 - alike**2, 0.0) / pairs) ** 0.5
    return float(min((1 + alike) / max(1 - alike, 1e-9), many))


def _of_twins(reference: Reference, state: State) -> float:
    """One, and the near-duplicates that an item has: counted if close, extrapolated if far."""
    many = state.count
    found = 1 + max(2 * state.near / many - 2 * NEAR * reference.twins, 0.0)
    if state.far_pairs:
        # Few pairs are seen, and too small an estimate makes false alarms: two deviations more.
        share = (state.far + 2 * state.far**0.5) / state.far_pairs - reference.twins
        found += max(many - 2 * NEAR, 0) * max(share, 0.0)
    return found


def _scales(reference: Reference, many: int, design: float) -> tuple[float, float, float]:
    """By how much chance alone makes each statistic larger than in the calibration."""
    window, counted = reference.window, reference.counted
    means = (design / many + 1 / reference.size) / (1 / window + 1 / reference.size)
    tails = (design + many / counted) / (1 + window / counted)
    return means, means, tails
