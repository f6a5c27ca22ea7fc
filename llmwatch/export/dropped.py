"""Count telemetry that never arrived, by signal.

Known here: what the batch queues of llmwatch's own providers refuse, and what their exporters fail
to deliver. A provider that the application built counts for itself.
"""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Any, Literal

Signal = Literal["traces", "metrics", "logs"]
SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")

_counts: dict[str, int] = {}
_lock = Lock()


def add(signal: Signal, items: int) -> None:
    """Count *items* spans, data points or log records as lost."""
    with _lock:
        _counts[signal] = _counts.get(signal, 0) + items


def dropped_counts() -> dict[str, int]:
    """How many items were lost in this process so far, by signal; signals without a loss absent."""
    return dict(_counts)


def reset() -> None:
    """Start from nothing: in a forked child, whose parent reports its own losses."""
    global _lock
    _lock = Lock()
    _counts.clear()


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

    def appendleft(self, item: Any) -> None:
        if len(self) == self.maxlen:
            add(self._signal, 1)
        super().appendleft(item)
