"""Time a streamed response: first chunk, gaps between chunks, stalls.

Pure arithmetic on clock readings: the caller says when it asked for each chunk and when it got
it; this module says what that means. A chunk is not a token.

A chunk that was already there when a slow consumer asked says nothing of the server. Such a chunk
is *ready*: the consumer was away for longer than `TOLERANCE`, and then waited for less than that or
for less than a tenth of its absence (a wait so short may be the client's own decoding). So are the
chunks behind it, which piled up meanwhile, until one is waited for as long as `LONG_WAIT`, or two
in a row for longer than `TOLERANCE`. Gaps on either side of a ready chunk are left out of every
statistic, so each remaining gap is the server's within `TOLERANCE` plus the client's decoding.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import compress, pairwise
from math import ceil
from operator import sub
from typing import NamedTuple

TOLERANCE = 0.001
"""Seconds. What a consumer may take between two chunks without hiding the server's own time."""

LONG_WAIT = 0.005
"""Seconds. A wait that no decoding takes, not even on a busy machine."""

SHORT_WAIT = 0.1
"""Share of the consumer's absence below which a wait is too short to be told from decoding."""


class StreamTiming(NamedTuple):
    """What one streamed response tells about time. Seconds; None where it cannot be known."""

    chunks: int
    ready_chunks: int
    """Chunks that were there before a slow consumer asked."""
    time_to_first_chunk: float | None
    time_to_first_output: float | None
    time_to_first_reasoning: float | None
    output_span: float | None
    """From the first output chunk to the last one."""
    server_wait: float
    """Sum of the times spent waiting for chunks."""
    consumer_time: float
    """Sum of the times the consumer took between chunks."""
    gaps: tuple[float, ...]
    """Gaps between successive chunks that are the server's, ascending."""
    reasoning_streamed: bool = False
    """True if reasoning came as chunks; some servers count its tokens and do not send it."""
    quiet_chunks: int = 0
    """Chunks that carried no output, such as those with the finish reason or the usage."""
    last: float | None = None
    """From the start to the last chunk; None where a chunk was ready, for then it was earlier."""

    def quantile(self, share: float) -> float | None:
        """The gap below which *share* of the gaps lie (nearest rank); None without gaps."""
        if not self.gaps:
            return None
        return self.gaps[max(ceil(share * len(self.gaps)) - 1, 0)]

    def stalls(self, threshold: float) -> int:
        """How many gaps are longer than *threshold* seconds."""
        return len(self.gaps) - bisect_right(self.gaps, threshold)


class Timeline:
    """Clock readings of one stream, growing by two numbers a chunk.

    Args:
        started: Clock reading when the request was issued.

    `asked` and `got` hold one reading a chunk, in seconds of any monotonic clock. The hot loop
    appends to them directly; everything else happens once, in `summary`.
    """

    __slots__ = (
        "asked",
        "first_output",
        "first_reasoning",
        "got",
        "interleaved",
        "last_output",
        "opened",
        "quiet",
        "silent",
        "started",
    )

    def __init__(self, started: float) -> None:
        self.started = started
        self.opened: float | None = None
        """When the consumer was handed the stream; None: at the start."""
        self.asked = array("d")
        self.got = array("d")
        self.first_output: int | None = None
        """Index of the first chunk with visible output."""
        self.first_reasoning: int | None = None
        """Index of the first chunk with reasoning output."""
        self.last_output: int | None = None
        """Index of the last chunk with output, where it is not the last chunk."""
        self.interleaved = False
        """True where several answers share the stream: no time per token can be told then."""
        self.quiet = 0
        """How many chunks carried no output."""
        self.silent: list[int] = []
        """Indices of chunks that carry no output by their kind: they are not counted."""

    def summary(self) -> StreamTiming:
        """Sum the readings up. Cost: about 0.25 µs a chunk, once, at the end."""
        # The consumer's last question may have had no answer: readings are paired from the front.
        got = self.got
        count = min(len(self.asked), len(got))
        opened = self.started if self.opened is None else self.opened
        pauses = list(map(sub, self.asked[1:count], got))
        pauses.insert(0, self.asked[0] - opened if count else 0.0)
        ready = self._ready(pauses)
        silent = set(self.silent)
        consumer_time = sum(pauses)
        return StreamTiming(
            chunks=count - len(silent),
            ready_chunks=len(ready - silent),
            time_to_first_chunk=self._since_start(self._loud(range(count), silent), ready),
            time_to_first_output=self._since_start(self.first_output, ready),
            time_to_first_reasoning=self._since_start(self.first_reasoning, ready),
            output_span=self._output_span(count, silent, ready),
            server_wait=got[count - 1] - opened - consumer_time if count else 0.0,
            consumer_time=consumer_time,
            gaps=self._gaps(count, silent, ready),
            reasoning_streamed=self.first_reasoning is not None,
            quiet_chunks=self.quiet,
            last=got[count - 1] - self.started if count and not ready else None,
        )

    def offsets(self) -> list[int]:
        """Microseconds from the start to each chunk."""
        return [round((got - self.started) * 1e6) for got in self.got]

    def _ready(self, pauses: list[float]) -> set[int]:
        if max(pauses) <= TOLERANCE:
            return set()
        ready: set[int] = set()
        piled_up = waited = False
        for index, pause in enumerate(pauses):
            before, wait = waited, self.got[index] - self.asked[index]
            waited = wait >= TOLERANCE
            if pause > TOLERANCE:
                piled_up = wait < max(TOLERANCE, pause * SHORT_WAIT)
            elif wait >= LONG_WAIT or (waited and before):
                piled_up = False
            if piled_up:
                ready.add(index)
        return ready

    def _since_start(self, index: int | None, ready: set[int]) -> float | None:
        if index is None or index in ready or index >= len(self.got):
            return None
        return self.got[index] - self.started

    @staticmethod
    def _loud(indices: range, silent: set[int]) -> int | None:
        return next((index for index in indices if index not in silent), None)

    def _output_span(self, count: int, silent: set[int], ready: set[int]) -> float | None:
        if self.interleaved:
            return None
        firsts = [each for each in (self.first_output, self.first_reasoning) if each is not None]
        first = min(firsts) if firsts else self._loud(range(count), silent)
        last = self.last_output
        if last is None:
            last = self._loud(range(count - 1, -1, -1), silent)
        if first is None or last is None or last <= first or first in ready or last in ready:
            return None
        return self.got[last] - self.got[first]

    def _gaps(self, count: int, silent: set[int], ready: set[int]) -> tuple[float, ...]:
        arrivals: Sequence[float] = self.got[:count]
        kept: Sequence[int] = range(count)
        if silent:
            kept = [index for index in kept if index not in silent]
            arrivals = [self.got[index] for index in kept]
        gaps = list(map(sub, arrivals[1:], arrivals))
        if ready:
            known = [before not in ready and after not in ready for before, after in pairwise(kept)]
            gaps = list(compress(gaps, known))
        gaps.sort()
        return tuple(gaps)
