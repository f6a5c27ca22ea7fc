"""Three numbers that say how a window differs from the reference; each large where it does.

They complement each other: the Euclidean shift sees a change of topic, the Mahalanobis shift a
small move along a direction in which the reference hardly varies, and the residual's tail a few
foreign items that a mean hides. Each takes one window or many at once (leading axes are windows).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmwatch.drift.subspace import Doubles, Subspace

NAMES = ("centroid", "mahalanobis", "residual_tail")


def centroid_shift(shift: Doubles) -> Doubles:
    """Squared Euclidean distance of two means.

    Args:
        shift: Their difference, shape ``(…, d)``.
    """
    return np.asarray(np.einsum("...i,...i->...", shift, shift))


def mahalanobis_shift(shift: Doubles, inside: Doubles, subspace: Subspace) -> Doubles:
    """Squared Mahalanobis distance of two means, under a PPCA model.

    The inverse covariance is ``V (1/variances - 1/noise) V' + 1/noise``.

    Args:
        shift: The difference of the means, shape ``(…, d)``.
        inside: Its coordinates in the subspace, ``shift @ V``, shape ``(…, k)``.
        subspace: The model.
    """
    return np.asarray(inside**2 @ subspace.weights + centroid_shift(shift) / subspace.noise)


def shares_above(counts: NDArray[np.int64]) -> Doubles:
    """Shares above each inner edge of a window's histogram.

    Args:
        counts: Shape ``(…, bins)``.
    """
    above = counts[..., ::-1].cumsum(-1)[..., ::-1]
    return np.asarray(above[..., 1:] / np.maximum(above[..., :1], 1))


def expected_above(counts: NDArray[np.int64]) -> Doubles:
    """The same of a reference's, with one observation more above every edge: none is zero."""
    above = counts[..., ::-1].cumsum(-1)[..., ::-1]
    return np.asarray((above[..., 1:] + 1) / (above[..., :1] + 1))


def divergence(seen: Doubles, expected: Doubles) -> Doubles:
    """Kullback-Leibler divergence above each edge; 0 where there is no more than expected."""
    seen = np.maximum(seen, expected)
    below = np.maximum(1 - seen, 1e-300)
    rest = np.maximum(1 - expected, 1e-300)
    return np.asarray(seen * np.log(seen / expected) + below * np.log(below / rest))


def berk_jones(counts: NDArray[np.int64], reference: NDArray[np.int64]) -> Doubles:
    """One-sided Berk-Jones statistic of a histogram: is too much of it in the upper tail?

    The largest ``n KL(observed share above t, expected share)`` over the edges t where the observed
    share is the larger one; 0 where there is none.

    Args:
        counts: Of the window, shape ``(…, bins)``.
        reference: Of the reference, shape ``(…, bins)``.

    Source: Berk & Jones 1979, Zeitschrift für Wahrscheinlichkeitstheorie 47.
    """
    found = divergence(shares_above(counts), expected_above(reference))
    return np.asarray(counts.sum(-1) * found.max(-1, initial=0.0))


def two_sided(counts: NDArray[np.int64], reference: NDArray[np.int64]) -> Doubles:
    """The larger Berk-Jones statistic of both tails: for numbers, whose residual is signed."""
    return np.maximum(
        berk_jones(counts, reference), berk_jones(counts[..., ::-1], reference[..., ::-1])
    )


def statistics(
    shift: Doubles,
    inside: Doubles,
    counts: NDArray[np.int64],
    reference: NDArray[np.int64],
    subspace: Subspace,
) -> Doubles:
    """All three, in the order of `NAMES`, along the last axis."""
    tail = two_sided if subspace.scalar else berk_jones
    return np.stack(
        [
            centroid_shift(shift),
            mahalanobis_shift(shift, inside, subspace),
            tail(counts, reference),
        ],
        axis=-1,
    )
