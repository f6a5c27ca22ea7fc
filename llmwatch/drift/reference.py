"""The fixed baseline: what a sample of embeddings tells, without the embeddings.

The PPCA model is fitted on a third and the residual's histogram counted on the rest: where it was
fitted, a model looks better than it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from time import time

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmwatch.drift import numbers
from llmwatch.drift.calibration import REPLICATES, Null, calibrate
from llmwatch.drift.regions import Regions, find_regions
from llmwatch.drift.statistics import expected_above
from llmwatch.drift.subspace import Doubles, Floats, Subspace, fit, twins
from llmwatch.drift.totals import Tally, Totals

BINS = 64
LEAST_ABOVE = 4
"""Calibration rows beyond the last edge: with fewer, the bootstrap knows nothing of the tail."""
EQUAL = 1e-4
"""Residuals that differ by so little, as a share of their median, are equal."""
SKETCHED = 500
"""Calibration rows whose place on the two main directions is kept, for pictures."""
FITTED = 3
"""One part of so many is fitted. The rest bounds what the tail's test can see: a half sees less."""
ALL_EQUAL = "a reference whose embeddings are all equal cannot be used."
LEAST_WINDOWS = 4
"""Times that the reference must be larger than the window."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A fitted reference; make one with `fit_reference` or `llmwatch.drift.files.load`."""

    subspace: Subspace
    edges: Doubles
    """Inner edges of the residual's histogram, ascending: bins are their number + 1. They have
    six digits, so that they read the same in every backend."""
    counts: NDArray[np.int64]
    """Calibration rows in each bin; all rows, where they are numbers."""
    size: int
    """Embeddings that it was made of."""
    spread: float
    """Mean squared distance of its embeddings from their mean; of ranks of numbers: 1."""
    twins: float
    """Share of its pairs that are near-duplicates."""
    null: Null
    regions: Regions
    sketch: Floats
    """Where some of its embeddings lie on its two main directions, shape ``(n, 2)``; for
    pictures."""
    totals: Totals
    """The histogram again, as backends take it."""
    made: float
    """Unix time, in seconds."""
    model: str = ""
    """What made the embeddings; free text."""

    @property
    def dimension(self) -> int:
        """Length of the embeddings."""
        return len(self.subspace.mean)

    @property
    def window(self) -> int:
        """Size of the windows that it is calibrated for."""
        return self.null.window

    @cached_property
    def counted(self) -> int:
        """Rows that the histogram was counted on."""
        return int(self.counts.sum())

    @cached_property
    def hash(self) -> str:
        """Short SHA-256 of what verdicts depend on; equal for equal references."""
        digest = hashlib.sha256(f"{self.size} {self.window} {self.model}".encode())
        model = self.subspace
        null = self.null.together
        for part in (model.mean, model.centre, model.directions, self.edges, self.counts, null):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()[:12]

    @cached_property
    def expected(self) -> tuple[Doubles, ...]:
        """Shares of the reference above each inner edge; of numbers, also below each."""
        counts = (self.counts, self.counts[::-1]) if self.subspace.scalar else (self.counts,)
        return tuple(map(expected_above, counts))

    @cached_property
    def scores(self) -> Floats:
        """What a number counts in each bin: see `numbers.scores`."""
        return numbers.scores(self.counts).astype(np.float32)

    def bins(self, residuals: Floats) -> NDArray[np.int64]:
        """The bin of each residual; one that equals an edge lies below it."""
        return self.edges.searchsorted(residuals, "left")

    def tail_threshold(self, false_alarm: float) -> float:
        """What the residual's tail test reaches that often by chance, whatever the window's size.

        The Berk-Jones statistic of n items, over ``1 + n / `` the calibration rows.
        """
        return self.null.tails[2].reached(false_alarm) / (1 + self.window / self.counted)


def as_rows(vectors: ArrayLike) -> Floats:
    """A sample as float32, shape ``(n, d)``; what has one axis is n numbers.

    Raises:
        ValueError: If it has more than two axes, or rows of unequal lengths.
    """
    rows = np.asarray(vectors, np.float32)
    if rows.ndim == 1:
        rows = rows.reshape(-1, 1)
    if rows.ndim != 2:
        raise ValueError(f"embeddings of shape {rows.shape} cannot be used: give (n, d) or (d,).")
    return rows


def usable(rows: Floats) -> NDArray[np.bool_]:
    """Which rows are finite and not zero; a single number may be zero."""
    with np.errstate(over="ignore", invalid="ignore"):
        energy = np.einsum("ij,ij->i", rows, rows)
    good: NDArray[np.bool_] = np.isfinite(energy)
    if rows.shape[1] > 1:
        good &= energy > 0
    return good


def usable_rows(
    vectors: ArrayLike, window: int, ids: Sequence[str] = ()
) -> tuple[Floats, list[str]]:
    """What of a sample a reference can be made of, copied, and the ids of those.

    Raises:
        ValueError: If that is nothing, or too little for windows of that size.
    """
    rows = as_rows(vectors)
    if len(ids) not in (0, len(rows)):
        raise ValueError(f"{len(ids)} ids cannot belong to {len(rows)} embeddings: give one each.")
    good = usable(rows)
    rows, ids = rows[good], list(compress(ids, good))
    if window < 2 or len(rows) < LEAST_WINDOWS * window:
        raise ValueError(
            f"a reference of {len(rows)} usable embeddings cannot serve windows of {window}: give "
            f"at least {LEAST_WINDOWS} times as many as a window has, or a smaller window."
        )
    if rows.shape[1] > 1 and (rows == rows[0]).all():
        raise ValueError(ALL_EQUAL)
    return rows, ids


def fit_reference(
    vectors: ArrayLike,
    *,
    window: int = 500,
    model: str = "",
    seed: int = 0,
    replicates: int = REPLICATES,
    ids: Sequence[str] = (),
) -> Reference:
    """Fit a reference on embeddings and calibrate it for one size of window.

    Embeddings that are not finite, or zero, are left out.

    Args:
        vectors: Shape ``(n, d)``, or ``(n,)`` for numbers; ``n >= 4 * window``, as independent as
            can be: one a session.
        window: How many embeddings will be compared with it at a time.
        model: What made the embeddings.
        seed: Decides which third is fitted, and the calibration.
        replicates: Of the calibration.
        ids: Of each embedding: a few name the regions that a shift may point to.

    Raises:
        ValueError: If there are too few embeddings, or they do not vary; numbers need not.

    Cost: 1.5 s for 2000 embeddings of 384 dimensions, 5 s for 1536.
    """
    rows, ids = usable_rows(vectors, window, ids)
    size = len(rows)
    if rows.shape[1] == 1:
        return _fit_numbers(rows, window, model, seed, replicates)
    random = np.random.default_rng(seed)
    order = random.permutation(size)
    fitted, kept = np.split(order, [size // FITTED])
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = rows[kept] - mean
    spread = float(np.einsum("ij,ij->i", centred, centred).mean(dtype=np.float64))
    if not 0 < spread < np.inf:
        raise ValueError(ALL_EQUAL)
    subspace = fit(rows[fitted], mean)
    inside, _, residuals = subspace.residuals(rows[kept])
    edges = tail_edges(residuals)
    bins = edges.searchsorted(residuals, "left")
    tally = Tally(len(edges) + 1)
    tally.add(bins, residuals)
    null = calibrate(
        centred - centred.mean(axis=0),
        bins,
        len(edges) + 1,
        subspace,
        reference_size=size,
        window=window,
        seed=seed,
        replicates=replicates,
    )
    return Reference(
        subspace,
        edges,
        tally.counts,
        size,
        spread,
        sum(twins(inside)) / (len(inside) * (len(inside) - 1) / 2),
        null,
        find_regions(
            np.asarray(inside / subspace.scales - subspace.offset, np.float32),
            [ids[i] for i in kept.tolist()] if ids else (),
            random,
        ),
        sketch(inside, residuals)[:SKETCHED],
        tally.totals(edges),
        time(),
        model,
    )


def _fit_numbers(rows: Floats, window: int, model: str, seed: int, replicates: int) -> Reference:
    values = rows[:, 0]
    subspace, edges = numbers.subspace(values), numbers.edges(values)
    tally = Tally(len(edges) + 1)
    tally.add(edges.searchsorted(values, "left"), values)
    return Reference(
        subspace,
        edges,
        tally.counts,
        len(rows),
        1.0,
        0.0,
        numbers.calibrate(tally.counts, subspace, window=window, seed=seed, replicates=replicates),
        Regions(np.zeros((0, 1), np.float32), np.zeros(0), ()),
        np.zeros((0, 2), np.float32),
        tally.totals(edges),
        time(),
        model,
    )


def tail_edges(residuals: Floats) -> Doubles:
    """Inner edges of a histogram that is finest in its upper tail, at most `BINS` - 1 of them.

    They lie between residuals, not on them: those of a text that comes often are equal but for
    rounding, and must not lie above an edge today that they lay below when it was fitted.
    """
    ordered = np.sort(residuals).astype(np.float64)
    above = np.geomspace(0.9, LEAST_ABOVE / len(ordered), BINS - 1) * (len(ordered) - 1)
    below = np.unique(len(ordered) - 1 - np.ceil(above).astype(np.int64))
    after = ordered.searchsorted(ordered[below] + EQUAL * np.median(ordered), "right")
    after = np.unique(after[after < len(ordered)])
    found = (ordered[after - 1] + ordered[after]) / 2
    return np.unique([float(f"{edge:.6g}") for edge in found.tolist()])


def sketch(inside: Floats, residuals: Floats) -> Floats:
    """Two numbers that place each row in a picture.

    Args:
        inside: Coordinates in units of the deviation, shape ``(n, k)``.
        residuals: Of each row: they stand in where there are too few directions.
    """
    if inside.shape[1] >= 2:
        return inside[:, :2].copy()
    first = inside[:, 0] if inside.shape[1] else residuals
    return np.stack([first, residuals], axis=1)
