"""All residuals that a monitor has seen, in a coarser histogram than verdicts are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmwatch.drift.subspace import Doubles, Floats

MOST_EDGES = 16
"""Of the 63 edges of the reference's histogram every fourth is an edge of this one."""


@dataclass(frozen=True)
class Totals:
    """A histogram as backends take it."""

    edges: tuple[float, ...]
    """Upper ends of the bins but the last."""
    counts: tuple[int, ...]
    total: float
    """Sum of the residuals."""
    low: float
    high: float

    @property
    def count(self) -> int:
        """How many residuals."""
        return sum(self.counts)

    def since(self, before: Totals) -> Totals:
        """What has come since; the extremes are those of all."""
        counts = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        return Totals(self.edges, counts, self.total - before.total, self.low, self.high)


class Tally:
    """Adds up. The caller holds a lock.

    Args:
        bins: How many bins the reference's histogram has.
    """

    def __init__(self, bins: int) -> None:
        self.counts = np.zeros(bins, np.int64)
        self.total = 0.0
        self.low, self.high = np.inf, -np.inf

    def add(self, bins: NDArray[np.int64], residuals: Floats) -> None:
        """Take in residuals and the bins that they are in."""
        if len(bins):
            self.counts += np.bincount(bins, minlength=len(self.counts))
            self.total += float(residuals.sum())
            self.low = min(self.low, float(residuals.min()))
            self.high = max(self.high, float(residuals.max()))

    def totals(self, edges: Doubles) -> Totals:
        """What was added so far, by the reference's edges."""
        every = -(-len(edges) // MOST_EDGES) or 1
        kept = np.arange(len(edges))[::-1][::every][::-1]
        starts = np.concatenate([[0], kept + 1])
        counts = np.add.reduceat(self.counts, starts)
        return Totals(
            tuple(edges[kept].tolist()), tuple(counts.tolist()), self.total, self.low, self.high
        )
