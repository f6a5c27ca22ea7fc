"""What the statistics are when nothing has drifted: a double bootstrap, and p-values from it.

The reference is a sample, too. Compared with it as if it were the truth, clean windows alarm 10 to
100 % of the time at a nominal 5 %. So each replicate draws a reference *and* a window from the
calibration rows. The weighted harmonic mean of the three p-values is itself referred to its own
replicates.

Sources: Efron & Tibshirani 1993, An Introduction to the Bootstrap; Wilson 2019, Proceedings of the
National Academy of Sciences 116 (the harmonic mean of p-values that depend on each other);
Westfall & Young 1993, Resampling-Based Multiple Testing (referring it to the same replicates);
Pickands 1975, Annals of Statistics 3 (the exponential tail).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from llmwatch.drift.statistics import statistics
from llmwatch.drift.subspace import Doubles, Floats, Subspace

WEIGHTS = np.array([2.0, 0.25, 1.0])
"""Of the centroid, Mahalanobis and residual p-values. With equal ones a topic that grows inside the
reference's own domain would be found much less often than by the centroid alone; these cost the
finding of foreign items little. How they were chosen is told in the docs."""
REPLICATES = 4000
TAIL = 0.025
"""Share of the replicates beyond which p-values follow a fitted exponential tail."""
TIE = 1e-6
"""Values that differ by this share are equal: of numbers many are, and rounding must not decide."""
USUAL = 0.975
"""Shifts up to this quantile of those without drift have no effect."""
CHUNK = 200
"""Replicates made at once: bounds memory."""


class Tail:
    """The distribution of one statistic: its replicates, extended by an exponential tail.

    Args:
        replicates: Ascending, shape ``(r,)``.
    """

    def __init__(self, replicates: Doubles) -> None:
        many = len(replicates)
        start = many - max(int(many * TAIL), 1)
        self.replicates = replicates
        self.edge = float(replicates[start])
        least = 1e-12 * max(abs(self.edge), 1e-12)
        self.scale = max(float((replicates[start:] - self.edge).mean()), least)
        self.share = (many - start + 1) / (many + 1)

    def survival(self, values: Doubles) -> Doubles:
        """How often a value is at least as large as each of *values*; never zero."""
        many = len(self.replicates)
        values = values - TIE * np.abs(values)
        beyond = np.minimum(np.maximum(values - self.edge, 0) / self.scale, 600)
        above = many - np.searchsorted(self.replicates, values, "left")
        share = self.share * np.exp(-beyond)
        return np.where(values > self.edge, share, (above + 1) / (many + 1))

    def of(self, value: float) -> float:
        """The same of one value, in a tenth of the time."""
        value -= TIE * abs(value)
        if value > self.edge:
            return self.share * exp(-min((value - self.edge) / self.scale, 600.0))
        many = len(self.replicates)
        return (many - int(self.replicates.searchsorted(value, "left")) + 1) / (many + 1)

    def reached(self, share: float) -> float:
        """The value that is reached or exceeded that often; the inverse of `of`."""
        if share < self.share:
            return self.edge + self.scale * log(self.share / share)
        many = len(self.replicates)
        return float(self.replicates[max(many - int(share * (many + 1)), 0)])


@dataclass(frozen=True, eq=False)
class Null:
    """Replicates of the three statistics where nothing has drifted."""

    window: int
    """Size of the windows they hold for."""
    replicates: Doubles
    """Each statistic ascending, shape ``(3, replicates)``."""
    together: Doubles
    """``-log`` of the harmonic mean of the p-values of each replicate, ascending."""

    @cached_property
    def tails(self) -> list[Tail]:
        """The distribution of each of the three statistics."""
        return [Tail(each) for each in self.replicates]

    @cached_property
    def _together(self) -> Tail:
        return Tail(self.together)

    @cached_property
    def usual(self) -> float:
        """Shifts of the centroid up to this one are nothing unusual, squared."""
        return float(np.quantile(self.replicates[0], USUAL))

    def p_values(self, values: Doubles) -> Doubles:
        """The p-value of each of the three statistics, along the last axis."""
        found = [tail.survival(values[..., i]) for i, tail in enumerate(self.tails)]
        return np.stack(found, axis=-1)

    def combined(self, p_values: Sequence[float]) -> float:
        """One p-value of three: how often their mean would be so small by chance."""
        total = sum(weight / p for weight, p in zip(WEIGHTS.tolist(), p_values, strict=True))
        return self._together.of(log(total))


def _evidence(p_values: Doubles) -> Doubles:
    return np.asarray(np.log((WEIGHTS / p_values).sum(-1)))


def calibrate(
    rows: Floats,
    bins: NDArray[np.int64],
    bin_count: int,
    subspace: Subspace,
    *,
    reference_size: int,
    window: int,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Null:
    """Draw references and windows from the calibration rows, and compare them.

    Args:
        rows: Those that the model was not fitted on, centred, shape ``(n, d)``.
        bins: The residual's bin of each row.
        bin_count: How many bins there are.
        subspace: The model fitted on the others.
        reference_size: Size of the whole reference: its mean is taken over all of it.
        window: Size of a window.
        seed: Makes the result reproducible.
        replicates: How many.

    Cost: 1 s at 1000 rows of 384 dimensions, 4 s at 1536, on one core.
    """
    random = np.random.default_rng(seed)
    columns = np.concatenate(
        [rows, np.eye(bin_count, dtype=np.float32)[bins]], axis=1, dtype=np.float32
    )
    many, dimension = rows.shape
    found = []
    for start in range(0, replicates, CHUNK):
        size = min(CHUNK, replicates - start)
        # Those that the histogram comes from, and the rest that only the mean knows.
        counted = _drawn(random, size, many, many) @ columns
        rest = _drawn(random, size, max(reference_size - many, 0), many) @ rows
        drawn = _drawn(random, size, window, many) @ columns
        mean = (counted[:, :dimension] + rest) / max(reference_size, many)
        shift = drawn[:, :dimension] / window - mean
        found.append(
            statistics(
                shift.astype(np.float64),
                (shift @ subspace.directions).astype(np.float64),
                np.rint(drawn[:, dimension:]).astype(np.int64),
                np.rint(counted[:, dimension:]).astype(np.int64),
                subspace,
            )
        )
    return null_of(window, np.concatenate(found))


def null_of(window: int, values: Doubles) -> Null:
    """Of replicates of the three statistics, shape ``(replicates, 3)``."""
    ordered = np.sort(values, axis=0).T.copy()
    alone = Null(window, ordered, np.zeros(1)).p_values(values)
    return Null(window, ordered, np.sort(_evidence(alone)))


def _drawn(random: np.random.Generator, times: int, size: int, many: int) -> Floats:
    """How often each of *many* rows is in each of *times* samples, with replacement."""
    picks = random.integers(0, many, (times, size)) + many * np.arange(times)[:, None]
    counts = np.bincount(picks.ravel(), minlength=times * many)
    return counts.reshape(times, many).astype(np.float32)
