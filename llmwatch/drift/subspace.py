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

MOST_DIRECTIONS = 39
"""With the centre 40 columns. 47 find as much; 31 find less where alarms must be rare."""
BLOCK = 64
"""Rows measured at once."""
ALONE = 500_000
"""Multiplications that BLAS still does on the thread that asks. OpenBLAS shares 2^19 and more."""
FAR = 16.0
"""Squared distance of the centre from zero, in units of the total variance, from which vectors are
centred before they are multiplied: else too many digits would be lost."""
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
    """Of the whole reference, shape ``(d,)``."""
    centre: Floats
    """Mean of the rows that it was fitted on, about which residuals are measured: those of the
    others would be too small, compared with new ones, if they had any part in it."""
    directions: Floats
    """Orthonormal columns, shape ``(d, k)``; k may be 0."""
    variances: Doubles
    """Variance along each direction, shape ``(k,)``."""
    noise: float
    """Variance along any direction outside."""

    @property
    def scalar(self) -> bool:
        """True for numbers: see `llmwatch.drift.numbers`."""
        return len(self.mean) == 1

    @cached_property
    def scales(self) -> Floats:
        """One over the deviation along each direction, shape ``(k,)``."""
        return (1 / np.sqrt(self.variances)).astype(np.float32)

    @cached_property
    def weights(self) -> Doubles:
        """What the inverse covariance has along each direction beyond what it has outside."""
        return np.asarray(1 / self.variances - 1 / self.noise)

    @cached_property
    def offset(self) -> Doubles:
        """Coordinates of the mean, shape ``(k,)``: in the unit of embeddings."""
        return np.asarray((self.mean - self.centre) @ self.directions, np.float64)

    @cached_property
    def far(self) -> bool:
        """True where the centre is far from zero, compared with how much vectors vary."""
        dimension, count = self.directions.shape
        total = self.variances.sum() + self.noise * (dimension - count)
        return bool(self.centre @ self.centre > FAR * total)

    @cached_property
    def largest(self) -> float:
        """Squared length up to which float32 has room for whatever is computed of a vector."""
        return float(1e35 * min(self.variances.min(initial=1.0), 1.0))

    @cached_property
    def _columns(self) -> tuple[list[Floats], Floats, float]:
        """The directions, scaled, and -2 times the centre, in pieces; both of the centre itself."""
        centre = np.zeros_like(self.centre) if self.far else self.centre
        scaled = self.directions * self.scales
        columns = np.concatenate([scaled, -2 * centre[:, None]], axis=1)
        piece = ALONE // (BLOCK * columns.shape[1]) // BLOCK * BLOCK
        whole = len(columns) - len(columns) % piece
        pieces = columns[:whole].reshape(-1, piece, columns.shape[1]).copy()
        inside: Floats = np.asarray(centre @ scaled, np.float32)
        return [pieces, columns[whole:].copy()], inside, float(centre @ centre)

    @cached_property
    def _variances(self) -> Floats:
        return self.variances.astype(np.float32)

    def residuals(self, rows: Floats) -> tuple[Floats, Floats, Floats]:
        """Measure where in the subspace rows lie, and how far outside.

        Args:
            rows: Shape ``(n, d)``.

        Returns:
            Their coordinates about the centre, in units of the deviations, ``(n, k)``; their own
            squared length; and their squared distance from the subspace.

        Cost: one product of the rows and the directions.
        """
        lengths = squared(rows)
        energy = lengths
        if self.far:
            rows = rows - self.centre
            energy = squared(rows)
        pieces, inside_of_centre, length_of_centre = self._columns
        product = _product(rows, pieces)
        inside = product[:, :-1] - inside_of_centre
        residual = energy + product[:, -1]  # which is -2 times that with the centre
        residual -= inside * inside @ self._variances
        residual += length_of_centre
        return inside, lengths, np.maximum(residual, 0, out=residual)


def squared(rows: Floats) -> Floats:
    """The squared length of each row: as products of one row each, twice as fast as by einsum."""
    found: Floats = (rows[:, None, :] @ rows[:, :, None]).reshape(len(rows))
    return found


def _product(rows: Floats, columns: list[Floats]) -> Floats:
    """The product of rows and a matrix that was cut in pieces.

    None of them is worth a second thread to BLAS: waking its threads for a few rows, on a machine
    whose cores are busy, costs up to 50 times the product itself.
    """
    pieces, rest = columns
    many, piece, _ = pieces.shape
    if not many:
        return np.asarray(rows @ rest)
    found: Floats = np.add.reduce(_cut(rows, piece) @ pieces, axis=0)
    if len(rest):
        found += rows[:, many * piece :] @ rest
    return found


def _cut(rows: Floats, piece: int) -> Floats:
    """Rows, their dimensions cut in as many pieces as are whole: shape ``(pieces, n, piece)``."""
    many = rows.shape[1] // piece
    return rows[:, : many * piece].reshape(len(rows), many, piece).transpose(1, 0, 2)


def fit(rows: Floats, mean: Floats) -> Subspace:
    """Fit PPCA.

    Args:
        rows: Shape ``(n, d)``, ``n >= 2``.
        mean: Of all rows of the reference, shape ``(d,)``.

    Cost: an eigendecomposition of order ``min(n, d)``: 0.1 s at 1000 rows of 384 dimensions.
    """
    centre = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = rows.astype(np.float64) - centre
    many, dimension = centred.shape
    varying = int(np.count_nonzero(np.ptp(rows, axis=0)))
    # Of few dimensions half, at most: outside, there must be more than the rounding of float32.
    count = min(MOST_DIRECTIONS, many // ROWS_A_DIRECTION, varying // 2)
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
        centre,
        np.ascontiguousarray(vectors, np.float32),
        np.maximum(variances, least),
        max(noise, least),
    )


def twins(inside: Floats) -> tuple[int, int]:
    """How many pairs of items are near-duplicates, by the cosine of their coordinates.

    Returns:
        Of pairs that are at most `NEAR` apart in their order, and of those that are farther.

    Cost: 20 µs for 64 items.
    """
    many, count = inside.shape
    if count < LEAST_DIRECTIONS:
        return 0, 0
    # A copy: BLAS has a routine for products with one's own transpose, which wakes its threads.
    products = inside @ inside.T.copy()
    lengths = np.sqrt(products.diagonal())
    close = products > np.float32(TWIN) * lengths[:, None] * lengths
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
