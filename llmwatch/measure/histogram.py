"""Count numbers into buckets, so that counts made apart can be merged.

Pure arithmetic. Bounds are inclusive above, as OpenTelemetry's are: a value equal to a bound lies
in the bucket that ends there. Without bounds there is one bucket: a counter is that special case.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import inf
from typing import NamedTuple


class Origin(NamedTuple):
    """When a value was measured, and in which span."""

    at: int
    """Unix time in nanoseconds."""
    trace_id: int
    """0 where the span was not sampled."""
    span_id: int


Sample = tuple[float, Origin]
"""One value that went into a histogram, and where it came from."""


class Histogram:
    """Bucket counts, sum, least and greatest of the values seen, and a sample for each bucket.

    Args:
        bounds: Upper bounds of the buckets but the last, ascending.
        made: Unix time in nanoseconds from which on it counts.
    """

    __slots__ = ("bounds", "counts", "high", "low", "made", "samples", "total")

    def __init__(self, bounds: tuple[float, ...], made: int) -> None:
        self.bounds = bounds
        self.made = made
        self.counts = [0] * (len(bounds) + 1)
        self.total: float = 0
        """Sum of the values; an int while all of them are."""
        self.low: float = inf
        self.high: float = -inf
        self.samples: dict[int, Sample] = {}
        """The latest sample of each bucket, by its index, of values that had an origin."""

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    def add(self, value: float, origin: Origin | None = None) -> None:
        """Count one value; negative, infinite and undefined ones are no measurements: ignored."""
        if not 0 <= value < inf:
            return
        index = bisect_left(self.bounds, value)
        self.counts[index] += 1
        self.total += value
        if value < self.low:  # noqa: PLR1730 - a third of the time that `min` takes
            self.low = value
        if value > self.high:  # noqa: PLR1730
            self.high = value
        if origin is not None:
            self.samples[index] = (value, origin)

    def add_sorted(self, values: Sequence[float], origin: Origin | None = None) -> None:
        """Count many values, given in ascending order, all of them finite and not negative.

        The greatest is the one that may be kept as a sample.

        Cost: O(b log n) for n values that span b buckets, and their sum.
        """
        if not values:
            return
        low, high = values[0], values[-1]
        counts, bounds, start = self.counts, self.bounds, 0
        last = bisect_left(bounds, high)
        for index in range(bisect_left(bounds, low), last):
            end = bisect_right(values, bounds[index], start)
            counts[index] += end - start
            start = end
        counts[last] += len(values) - start
        self.total += sum(values)
        self.low = min(self.low, low)
        self.high = max(self.high, high)
        if origin is not None:
            self.samples[last] = (high, origin)

    def merge(self, other: Histogram) -> None:
        """Add what *other* counted. Associative and commutative, up to the rounding of sums.

        Raises:
            ValueError: If the bounds differ.
        """
        if other.bounds != self.bounds:
            raise ValueError(f"bounds differ: {self.bounds!r} and {other.bounds!r}")
        self.counts = [mine + more for mine, more in zip(self.counts, other.counts, strict=True)]
        self.total += other.total
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)
        self.made = min(self.made, other.made)
        for index, sample in other.samples.items():
            held = self.samples.get(index)
            if held is None or held[1].at <= sample[1].at:
                self.samples[index] = sample
