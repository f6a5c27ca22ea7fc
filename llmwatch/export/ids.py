"""Ids of traces and spans that stay unique whatever the program does with `random`.

The SDK's own come from the generator that `random.seed` sets, and `transformers.set_seed` with it:
after two equal seeds two requests would be one trace.
"""

from __future__ import annotations

from random import SystemRandom

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator


class UniqueIds(RandomIdGenerator):
    """From the operating system; forks share nothing. Cost: 2 µs an id."""

    def __init__(self) -> None:
        self._random = SystemRandom()

    def generate_span_id(self) -> int:
        """64 bits, not all 0."""
        return self._random.getrandbits(64) or 1

    def generate_trace_id(self) -> int:
        """128 bits, not all 0."""
        return self._random.getrandbits(128) or 1
