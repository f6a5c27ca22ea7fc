"""The watchers of this process. Loads no torch.

Here sources of one session and watchers that users made meet; a watcher lives as long as its model.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakSet

from llmwatch.sources.torch_layers import backlog

if TYPE_CHECKING:
    from llmwatch.sources.torch_layers.watcher import LayerWatcher

_watchers: WeakSet[LayerWatcher] = WeakSet()
_lock = Lock()

turn = Lock()
"""Held while a forward is sampled; never waited for. Read it through the module: a fork makes a new
one."""


def add(watcher: LayerWatcher) -> None:
    """Make a watcher known."""
    with _lock:
        _watchers.add(watcher)


def remove(watcher: LayerWatcher) -> None:
    """Forget a watcher. With the last one our thread ends."""
    with _lock:
        _watchers.discard(watcher)
        last = not _watchers
    if last:
        backlog.close()


def living() -> list[LayerWatcher]:
    """The watchers that there are."""
    with _lock:
        return list(_watchers)


def _forked() -> None:
    global _lock, turn
    _lock, turn = Lock(), Lock()
    backlog.forked()
    for watcher in living():
        watcher.forked()


os.register_at_fork(after_in_child=_forked)
