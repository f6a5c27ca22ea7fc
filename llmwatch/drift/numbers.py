"""Numbers instead of vectors: lengths, latencies, confidences, refusals.

A number counts by its rank among those of the reference, so that neither its unit nor a heavy tail
matters, and a reference of equal numbers is as good as any. Everything follows from a histogram
that is finest in both tails and ends, on both sides, with a bin where the reference has nothing.

What the reference never showed may still be rare rather than new. So the calibration draws what is
true before it draws a reference and a window from it, with one observation more in either end bin:
of n + 1 independent numbers, the last is the largest one time in n + 1.

Sources: Mann & Whitney 1947, Annals of Mathematical Statistics 18 (ranks); Rubin 1981, Annals of
Statistics 9 (the Bayesian bootstrap); Hill 1968, Journal of the American Statistical Association 63
(what lies beyond a sample).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmwatch.drift.calibration import CHUNK, Null, null_of
from llmwatch.drift.statistics import statistics
from llmwatch.drift.subspace import Doubles, Floats, Subspace

FINEST = 31
"""Quantiles of either tail that are edges."""
LEAST_BEYOND = 4
"""Numbers of the reference beyond the last of them."""
STEP = 1e-5
"""How far beyond the extremes the end bins begin, relatively: more than six digits can tell."""
UNIT = 12**0.5
"""One over the deviation of a rank between 0 and 1."""


def subspace(values: Floats) -> Subspace:
    """The model of numbers: one direction, along which ranks vary by 1."""
    mean = np.full(1, values.mean(dtype=np.float64), np.float32)
    return Subspace(mean, mean, np.ones((1, 1), np.float32), np.ones(1), 1.0)


def edges(values: Floats) -> Doubles:
    """Inner edges of the histogram; they lie between values, not on them.

    Args:
        values: The reference's, shape ``(n,)``.
    """
    known = np.unique(values).astype(np.float64)
    tail = np.geomspace(0.5, min(LEAST_BEYOND / len(values), 0.5), FINEST)
    picked = np.quantile(values, np.concatenate([tail, 1 - tail]), method="lower")
    index = np.minimum(known.searchsorted(np.unique(picked)), len(known) - 2)
    between = (known[index] + known[index + 1]) / 2 if len(known) > 1 else known[:0]
    found = [_beyond(known[0], -1), *between.tolist(), _beyond(known[-1], 1)]
    return np.unique([float(f"{edge:.6g}") for edge in found])


def _beyond(value: float, sign: int) -> float:
    return float(value + sign * max(abs(value) * STEP, 1e-9))


def scores(counts: NDArray[np.int64]) -> Doubles:
    """The rank of each bin's numbers, about the middle, in units of its deviation.

    Args:
        counts: Of references, shape ``(…, bins)``.
    """
    upto = counts.cumsum(-1)
    ranks = (upto - counts / 2) / np.maximum(upto[..., -1:], 1)
    return np.asarray(UNIT * (ranks - 0.5))


def calibrate(
    counts: NDArray[np.int64], model: Subspace, *, window: int, seed: int, replicates: int
) -> Null:
    """What the statistics are when nothing has drifted.

    Args:
        counts: Of the reference, by bins; none in the first and the last one.
        model: See `subspace`.
        window: Size of a window.
        seed: Makes the result reproducible.
        replicates: How many.

    Cost: 0.1 s.
    """
    random = np.random.default_rng(seed)
    size, likely = int(counts.sum()), counts.astype(np.float64)
    likely[[0, -1]] += 1
    found = []
    for start in range(0, replicates, CHUNK):
        many = min(CHUNK, replicates - start)
        truth = random.standard_gamma(np.broadcast_to(likely, (many, len(likely))))
        truth /= truth.sum(axis=1, keepdims=True)
        reference = random.multinomial(size, truth)
        drawn = random.multinomial(window, truth)
        shift = (drawn * scores(reference)).sum(axis=1, keepdims=True) / window
        found.append(statistics(shift, shift, drawn, reference, model))
    return null_of(window, np.concatenate(found))
