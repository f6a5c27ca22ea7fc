"""PPCA: the few directions in which embeddings vary most, and equal noise in all others.

Dimensions that never vary, of which real models have some, add nothing to any number here: what
is divided by is the noise of the whole rest, never the variance of one dimension.

Source: Tipping & Bishop 1999, Journal of the Royal Statistical Society B 61.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

MOST_DIRECTIONS = 64
PIECE = 64
"""Dimensions multiplied at a time."""
ROWS_A_DIRECTION = 8
"""Rows that each direction must be fitted from at least."""

TWIN = 0.97
"""Cosine, in the reference's main directions, from which two items are near-duplicates."""
NEAR = 16
"""Places within which near-duplicates count as one burst."""
LEAST_DIRECTIONS = 8
"""In fewer, any two items may point the same way by chance."""


@dataclass(frozen=True, eq=False)
class Subspace:
    """A fitted PPCA model."""

    mean: Floats
    """Centre, shape ``(d,)``."""
    directions: Floats
    """Orthonormal columns, shape ``(d, k)``; k may be 0."""
    variances: Doubles
    """Variance along each direction, shape ``(k,)``."""
    noise: float
    """Variance along any direction outside."""

    @cached_property
    def energy_of_zero(self) -> float:
        """Squared length of a zero vector, centred."""
        return float(np.dot(self.mean, self.mean))

    @cached_property
    def scales(self) -> Floats:
        """One over the deviation along each direction, shape ``(k,)``."""
        return (1 / np.sqrt(self.variances)).astype(np.float32)

    def residuals(self, rows: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Centre rows and measure how far outside the subspace they lie.

        Args:
            rows: Shape ``(n, d)``.

        Returns:
            The centred rows, their coordinates ``(n, k)``, their squared length, and their squared
            distance from the subspace.

        Cost: one product of the rows and the directions.
        """
        centred = rows - self.mean
        inside = _product(centred, self.directions)
        energy = np.einsum("ij,ij->i", centred, centred)
        residual = energy - np.einsum("ij,ij->i", inside, inside)
        return centred, inside, energy, np.maximum(residual, 0)


def _product(rows: Floats, directions: Floats) -> Floats:
    """Their product, in pieces of which none is worth a second thread to BLAS.

    Waking its threads for a few rows, on a machine whose cores are busy, costs up to 50 times the
    product itself.
    """
    dimension, count = directions.shape
    if not count:
        return np.zeros((len(rows), 0), np.float32)
    whole = dimension - dimension % PIECE
    pieces = rows[:, :whole].reshape(len(rows), -1, PIECE).transpose(1, 0, 2)
    product = (pieces @ directions[:whole].reshape(-1, PIECE, count)).sum(axis=0)
    if whole < dimension:
        product += rows[:, whole:] @ directions[whole:]
    return np.asarray(product, np.float32)


def fit(rows: Floats, mean: Floats) -> Subspace:
    """Fit PPCA about a given centre.

    Args:
        rows: Shape ``(n, d)``, ``n >= 2``.
        mean: The centre, shape ``(d,)``.

    Cost: an eigendecomposition of order ``min(n, d)``: 0.1 s at 1000 rows of 384 dimensions.
    """
    centred = rows.astype(np.float64) - mean
    many, dimension = centred.shape
    varying = int(np.count_nonzero(np.ptp(rows, axis=0)))
    count = max(min(MOST_DIRECTIONS, many // ROWS_A_DIRECTION, varying - 1), 0)
    if many < dimension:
        values, vectors = np.linalg.eigh(centred @ centred.T / many)
        vectors = centred.T @ vectors[:, ::-1][:, :count]
    else:
        values, vectors = np.linalg.eigh(centred.T @ centred / many)
        vectors = vectors[:, ::-1][:, :count]
    values = np.maximum(values[::-1], 0)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=0), 1e-300)
    variances = values[:count]
    noise = float(values[count:].sum() / max(varying - count, 1))
    least = max(float(values.sum()) * 1e-9, 1e-300)
    return Subspace(
        mean,
        np.ascontiguousarray(vectors, np.float32),
        np.maximum(variances, least),
        max(noise, least),
    )


def twins(inside: Floats) -> tuple[int, int]:
    """How many pairs of items are near-duplicates, by the cosine of their coordinates.

    Returns:
        Of pairs that are at most `NEAR` apart in their order, and of those that are farther.

    Cost: 30 µs for 64 items.
    """
    many, count = inside.shape
    if count < LEAST_DIRECTIONS:
        return 0, 0
    lengths = np.sqrt(np.einsum("ij,ij->i", inside, inside)) + np.float32(1e-30)
    unit = inside / lengths[:, None]
    # A copy: BLAS has a routine for products with one's own transpose, which wakes its threads.
    close = unit @ unit.T.copy() > TWIN
    if np.count_nonzero(close) <= many:  # each item with itself
        return 0, 0
    alike = close.nonzero()
    apart = alike[0] - alike[1]  # each pair is there twice, and each item with itself
    far = int(np.count_nonzero(apart > NEAR))
    return int(np.count_nonzero(apart > 0)) - far, far


def far_pairs(many: int) -> int:
    """How many pairs of that many items are farther than `NEAR` apart in their order."""
    rest = max(many - NEAR - 1, 0)
    return rest * (rest + 1) // 2
