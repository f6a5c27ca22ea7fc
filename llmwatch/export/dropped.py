"""Count telemetry that never arrived, by signal.

Known here: what the batch queues of llmwatch's own providers refuse, and what their exporters fail
to deliver. A provider that the application built counts for itself.
"""

from __future__ import annotations

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
    """Count what the queue of a batch processor drops.

    The SDK tells nobody but its own internal metrics; this stands in front of them. Their door is
    private: an SDK without it is left alone, and its queue goes uncounted. The SDK itself counts
    up to one item a batch too many, where room is made just after it looked.
    """
    batch = getattr(processor, "_batch_processor", None)
    if hasattr(getattr(batch, "_metrics", None), "drop_items"):
        batch._metrics = _QueueMetrics(batch._metrics, signal)  # type: ignore[union-attr]


class _QueueMetrics:
    """The SDK's internal metrics of one queue, with our count in front of `drop_items`."""

    def __init__(self, inner: Any, signal: Signal) -> None:
        self._inner = inner
        self._signal = signal

    def drop_items(self, count: int, *args: Any, **kwargs: Any) -> None:
        add(self._signal, count)
        self._inner.drop_items(count, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
