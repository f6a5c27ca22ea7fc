"""The thread that sums up sampled passes, so that no forward has to wait for it. Loads no torch.

One for all watchers. It starts when there is something to sum up, and ends with the last watcher.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from llmwatch._guard import Guard
from llmwatch.signals.worker import Worker

if TYPE_CHECKING:
    from llmwatch.sources.torch_layers.watcher import LayerWatcher

PAUSE = 0.1
"""Seconds in which passes gather: a thread that works takes turns with the one that serves."""

_WORK = Guard("layers.backlog")

_lock = Lock()
_worker: Worker | None = None
_waiting: set[LayerWatcher] = set()
"""Those with passes to sum up: their models may go meanwhile."""


def wake(watcher: LayerWatcher) -> bool:
    """Have the passes of *watcher* summed up soon; False: there can be no thread. Cost: 2 µs."""
    global _worker
    _waiting.add(watcher)
    worker = _worker
    if worker is None:
        with _lock:
            worker = _worker = _worker or Worker(_work, PAUSE, "llmwatch-layers")
    return worker.wake()


def close() -> None:
    """End the thread. The next pass that waits starts another one."""
    global _worker
    with _lock:
        worker, _worker = _worker, None
    if worker is not None:
        worker.close()


def forked() -> None:
    """Leave to the parent what waits: its thread does not exist here."""
    global _lock, _worker
    _lock, _worker = Lock(), None
    _waiting.clear()


def _work() -> None:
    while _waiting:
        with _WORK:
            _waiting.pop().resolve()
