"""Health of a layer's numbers, as its sampled forwards found them.

Pure arithmetic: readings come in, and one `Health` a layer comes out. Sizes are medians, so that
one odd forward does not decide; what compares input and output is a mean over tokens, or the many
decode steps of one token would hide the prefills; extremes and counts are over all that are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

KEPT = 64
"""Readings of a layer that are kept; older ones go."""


class Reading(NamedTuple):
    """What one sampled forward found in the output of one layer."""

    rms: float
    """Root mean square of all values; NaN or infinite where a value is."""
    typical: float
    """Root mean square of the median token's values: one extreme token does not move it."""
    abs_max: float
    nan: int
    inf: int
    tokens: int = 1
    cosine: float | None = None
    """Mean over tokens of the cosine between the layer's input and its output; None where their
    shapes differ, or the layer overwrote its input."""
    change: float | None = None
    """Median over tokens of ‖output - input‖ / ‖input‖."""


@dataclass(frozen=True)
class Health:
    """A layer's numbers over the forwards that were sampled."""

    layer: str
    block: int | None
    order: int
    """Its place in the order of execution, from 0."""
    forwards: int
    tokens: int
    """In the forwards without NaN or infinity."""
    dtype: str
    limit: float
    """The largest finite number of its dtype."""
    rms: float | None
    """This and the next two: of the forwards without NaN or infinity; None: there was none."""
    typical: float | None
    abs_max: float | None
    nan: int
    """NaNs over all kept forwards."""
    inf: int
    broken: int
    """Kept forwards with a NaN or an infinity."""
    first_broken: int
    """Kept forwards in which this layer was the first with one."""
    cosine: float | None
    """Mean over tokens; likewise the change."""
    change: float | None

    @property
    def range_used(self) -> float | None:
        """Largest magnitude as a share of what its dtype can hold."""
        return None if self.abs_max is None else self.abs_max / self.limit


@dataclass(frozen=True)
class Units:
    """The units of one activation function."""

    layer: str
    block: int | None
    dead: float
    """Share of them that were silent in every token so far."""
    units: int
    tokens: int


@dataclass(frozen=True)
class Gradient:
    """The gradients of one layer's parameters."""

    layer: str
    block: int | None
    norm: float
    """The median of the sampled steps; NaN where most had a NaN or an infinity."""
    steps: int


class Readings:
    """The latest readings of one layer.

    Args:
        kept: How many.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept: deque[tuple[Reading, bool]] = deque(maxlen=kept)

    def add(self, reading: Reading, *, first: bool = False) -> None:
        """Take in one reading.

        Args:
            reading: What was found.
            first: True if no layer before it, in this forward, had a NaN or an infinity.
        """
        self._kept.append((reading, first))

    def __len__(self) -> int:
        return len(self._kept)

    def health(self, layer: str, block: int | None, order: int, dtype: str, limit: float) -> Health:
        """What they amount to; there must be one at least."""
        every = [reading for reading, _ in self._kept]
        sound = [each for each in every if not (each.nan or each.inf)]
        return Health(
            layer,
            block,
            order,
            len(every),
            sum(each.tokens for each in sound),
            dtype,
            limit,
            _middle(each.rms for each in sound),
            _middle(each.typical for each in sound),
            max((each.abs_max for each in sound), default=None),
            sum(each.nan for each in every),
            sum(each.inf for each in every),
            len(every) - len(sound),
            sum(first for _, first in self._kept),
            _mean((each.cosine, each.tokens) for each in sound),
            _mean((each.change, each.tokens) for each in sound),
        )


def _middle(values: Iterable[float]) -> float | None:
    known = list(values)
    return median(known) if known else None


def _mean(values: Iterable[tuple[float | None, int]]) -> float | None:
    """Mean of what is known, each with its weight."""
    known = [(value, weight) for value, weight in values if value is not None]
    weights = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / weights if weights else None
