"""Regions of the reference: a few clusters of it, so that a shift has a direction with a name.

Source: Lloyd 1982, IEEE Transactions on Information Theory 28 (k-means); Arthur & Vassilvitskii
2007, SODA (how it starts).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from llmwatch.drift.subspace import Doubles, Floats

MOST_REGIONS = 16
ROWS_A_REGION = 40
ROUNDS = 20
MOST_IDS = 3
LEAST_DIRECTIONS = 2
"""In fewer there is nothing to choose a direction from."""


@dataclass(frozen=True, eq=False)
class Regions:
    """Where the reference's embeddings lie, coarsely."""

    centres: Floats
    """Coordinates in the subspace, shape ``(r, k)``; r may be 0."""
    shares: Doubles
    """Of the reference's embeddings, shape ``(r,)``."""
    ids: tuple[tuple[str, ...], ...]
    """Of each region's embeddings nearest to its centre, where they had any."""

    @cached_property
    def lengths(self) -> Floats:
        """Distance of each centre from the middle."""
        found: Floats = np.linalg.norm(self.centres, axis=1) + np.float32(1e-30)
        return found


@dataclass(frozen=True)
class Direction:
    """Which way the mean of a window moved."""

    region: int
    """The reference's region that the shift points to, 0 and up."""
    cosine: float
    """Between the shift and the way to that region, over all dimensions: near 1: there is more of
    it; small: the shift leads to where the reference has nothing."""
    share: float
    """Of the reference's embeddings that lie in that region."""
    ids: tuple[str, ...]
    """Some of them."""


def find_regions(inside: Floats, ids: Sequence[str], random: np.random.Generator) -> Regions:
    """Cluster the coordinates of embeddings.

    Args:
        inside: Shape ``(n, k)``.
        ids: Of each embedding, or none at all.
        random: Chooses where to start.

    Cost: 20 ms for 1000 embeddings.
    """
    count = min(MOST_REGIONS, len(inside) // ROWS_A_REGION)
    if inside.shape[1] < LEAST_DIRECTIONS or count < 2:
        return Regions(np.zeros((0, inside.shape[1]), np.float32), np.zeros(0), ())
    centres = _starts(inside, count, random)
    for _ in range(ROUNDS):
        nearest = _distances(inside, centres).argmin(axis=1)
        for index in range(count):
            if (mine := inside[nearest == index]).size:
                centres[index] = mine.mean(axis=0)
    distances = _distances(inside, centres)
    nearest = distances.argmin(axis=1)
    order = np.argsort(-np.bincount(nearest, minlength=count), kind="stable")
    shares = np.bincount(nearest, minlength=count)[order] / len(inside)
    return Regions(centres[order], shares, tuple(_named(distances, nearest, i, ids) for i in order))


def direction(regions: Regions, inside: Doubles, length: float) -> Direction | None:
    """Which region a shift points to; None where there are no regions, or no shift.

    Args:
        regions: The reference's.
        inside: Coordinates of the difference of the means in the subspace, shape ``(k,)``.
        length: Of that difference, over all dimensions.
    """
    if not len(regions.centres) or not length > 0:
        return None
    cosines = regions.centres @ inside / regions.lengths / length
    best = int(cosines.argmax())
    return Direction(best, float(cosines[best]), float(regions.shares[best]), regions.ids[best])


def _starts(rows: Floats, count: int, random: np.random.Generator) -> Floats:
    """The centres to begin with, each far from those before it."""
    found = [rows[random.integers(len(rows))]]
    distances = np.full(len(rows), np.inf)
    while len(found) < count:
        distances = np.minimum(distances, ((rows - found[-1]) ** 2).sum(axis=1))
        total = distances.sum()
        chances = distances / total if total > 0 else None
        found.append(rows[random.choice(len(rows), p=chances)])
    return np.array(found, np.float32)


def _distances(rows: Floats, centres: Floats) -> Floats:
    """Squared distances, without what is the same for all centres."""
    found: Floats = (centres**2).sum(axis=1) - 2 * rows @ centres.T
    return found


def _named(
    distances: Floats, nearest: NDArray[np.int64], region: int, ids: Sequence[str]
) -> tuple[str, ...]:
    if not len(ids):
        return ()
    mine = np.flatnonzero(nearest == region)
    closest = mine[np.argsort(distances[mine, region], kind="stable")]
    return tuple(dict.fromkeys(ids[i] for i in closest if ids[i]))[:MOST_IDS]
