"""Count telemetry that never arrived, by signal.

Known here: what the batch queues of llmwatch's own providers refuse, and what their exporters fail
to deliver. A provider that the application built counts for itself.
"""

from __future__ import annotations

from collections import deque
from threading import RLock
from typing import Any, Literal

Signal = Literal["traces", "metrics", "logs"]
SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")


class Losses:
    """Items lost so far, by signal (or by whatever else tells losses apart)."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._lock = RLock()  # a finaliser, or SIGTERM, may lose more in the midst of it

    def add(self, signal: str, items: int) -> None:
        """Count *items* spans, data points or log records as lost."""
        with self._lock:
            self.counts[signal] = self.counts.get(signal, 0) + items

    def reset(self) -> None:
        """Start from nothing: in a forked child, whose parent reports its own losses."""
        self._lock = RLock()
        self.counts.clear()


losses = Losses()
"""Those of this process. Whoever loses something keeps the object that stood here when it was
built, so that what an exporter of one test loses late is not counted in another."""

left_out = Losses()
"""Spans of this process that were left out on purpose, by what left them out."""


def left_out_counts() -> dict[str, int]:
    """How many spans were left out on purpose so far, by what left them out."""
    return dict(left_out.counts)


def dropped_counts() -> dict[str, int]:
    """How many items were lost in this process so far, by signal; signals without a loss absent."""
    return dict(losses.counts)


def told_counts() -> dict[str, int]:
    """The same with zeros, as the metric tells it.

    They show that this process reports; and a sum that was not there before its first loss would
    not be seen to rise by it.
    """
    return {signal: losses.counts.get(signal, 0) for signal in SIGNALS}


def watch_queue(processor: Any, signal: Signal) -> None:
    """Count what the full queue of a batch processor drops.

    The SDK tells nobody. The queue is private: where a release keeps it elsewhere, it goes
    uncounted. Up to one item a batch is counted too many, where room is made just after looking.
    """
    batch = getattr(processor, "_batch_processor", None)
    if isinstance(getattr(batch, "_queue", None), deque):
        batch._queue = _Queue(batch._queue, signal)  # type: ignore[union-attr]


class _Queue(deque[Any]):
    """The SDK's queue, which drops its oldest item when it is full, and counts that."""

    def __init__(self, queue: deque[Any], signal: Signal) -> None:
        super().__init__(queue, queue.maxlen)
        self._signal = signal
        self._losses = losses

    def appendleft(self, item: Any) -> None:
        if len(self) == self.maxlen:
            self._losses.add(self._signal, 1)
        super().appendleft(item)
