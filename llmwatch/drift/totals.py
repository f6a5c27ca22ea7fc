"""All residuals that a monitor has seen, in a coarser histogram than verdicts are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmwatch.drift.subspace import Doubles, Floats

TOGETHER = 16
"""Blocks that are added up together: one by one, each costs 6 µs."""
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
        self._counts = np.zeros(bins, np.int64)
        self._total = 0.0
        self._low, self._high = np.inf, -np.inf
        self._waiting: list[tuple[NDArray[np.int64], Floats]] = []

    def add(self, bins: NDArray[np.int64], residuals: Floats) -> None:
        """Take in residuals and the bins that they are in: neither may change afterwards."""
        if len(bins):
            self._waiting.append((bins, residuals))
            if len(self._waiting) == TOGETHER:
                self._fold()

    def _fold(self) -> None:
        if not self._waiting:
            return
        bins, residuals = map(np.concatenate, zip(*self._waiting, strict=True))
        self._waiting.clear()
        self._counts += np.bincount(bins, minlength=len(self._counts))
        self._total += float(residuals.sum(dtype=np.float64))
        self._low = min(self._low, float(residuals.min()))
        self._high = max(self._high, float(residuals.max()))

    @property
    def counts(self) -> NDArray[np.int64]:
        """Residuals in each bin so far."""
        self._fold()
        return self._counts

    def totals(self, edges: Doubles) -> Totals:
        """What was added so far, by the reference's edges."""
        found = self.counts
        every = -(-len(edges) // MOST_EDGES) or 1
        kept = np.arange(len(edges))[::-1][::every][::-1]
        starts = np.concatenate([[0], kept + 1])
        counts = np.add.reduceat(found, starts)
        return Totals(
            tuple(edges[kept].tolist()), tuple(counts.tolist()), self._total, self._low, self._high
        )
