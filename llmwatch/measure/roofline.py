"""How fast a layer ran, against how fast this machine could have run it: the roofline model.

Pure arithmetic. Work that does few operations for each byte it moves is limited by memory, the
rest by arithmetic; a `Roof` says where the one turns into the other (Williams, Waterman &
Patterson 2009, CACM 52).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Literal

Bound = Literal["memory", "compute"]


@dataclass(frozen=True)
class Roof:
    """The most that one device does, as measured on it."""

    device: str
    dtype: str
    flops: float
    """FLOP/s of a large matrix product."""
    bandwidth: float
    """Bytes/s of a large copy, read and written."""
    flops_error: float
    """How far the median repetition fell short of the best, as a share: other programs show here,
    and then the truth lies higher."""
    bandwidth_error: float

    @property
    def ridge(self) -> float:
        """FLOPs a byte above which arithmetic is the limit."""
        return self.flops / self.bandwidth

    def attainable(self, intensity: float) -> float:
        """The most FLOP/s at so many FLOPs a byte."""
        return min(self.flops, intensity * self.bandwidth)


@dataclass(frozen=True)
class Place:
    """Where a piece of work lies under a roof."""

    rate: float
    """FLOP/s achieved."""
    bandwidth: float
    """Bytes/s achieved."""
    intensity: float
    """FLOPs a byte."""
    efficiency: float
    """Achieved over attainable FLOP/s. Above 1 where data came from a cache."""
    bound: Bound
    """What limits work of this intensity on this machine."""


def best(rates: list[float]) -> tuple[float, float]:
    """The best of several repetitions, and how far the median one fell short of it, as a share."""
    top = max(rates)
    return top, 1 - median(rates) / top


def place(roof: Roof, flops: float, moved: float, seconds: float) -> Place | None:
    """Place work under a roof.

    Args:
        roof: Of the device and dtype that did it.
        flops: Floating-point operations.
        moved: Bytes that had to be read or written.
        seconds: How long it took.

    Returns:
        None where there is nothing to place: no FLOPs, bytes or time.
    """
    if flops <= 0 or moved <= 0 or seconds <= 0:
        return None
    intensity = flops / moved
    rate = flops / seconds
    return Place(
        rate,
        moved / seconds,
        intensity,
        rate / roof.attainable(intensity),
        "memory" if intensity < roof.ridge else "compute",
    )
