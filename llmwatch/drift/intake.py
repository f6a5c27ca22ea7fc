"""Embeddings that wait to be measured: copying a few to measure them together is what is cheap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from llmwatch.drift.subspace import Floats

BLOCK = 64
"""Rows measured at once."""

Sessions = str | Sequence[str | None] | None


class Item(NamedTuple):
    """What one call of `add` brought."""

    rows: Floats
    key: str
    session: Sessions
    trace: str


class Batch(NamedTuple):
    """Rows of one key, at most `BLOCK`."""

    key: str
    rows: Floats
    sessions: list[str | None]
    traces: list[str]


def own_rows(vectors: ArrayLike) -> Floats:
    """Vectors as rows of float32; a copy, unless they are so many that they need not wait.

    Raises:
        ValueError: If they are no vector and no batch of vectors of one length.
        TypeError: If they are no numbers.
    """
    if isinstance(vectors, np.ndarray) and vectors.ndim == 2 and len(vectors) >= BLOCK:
        return np.asarray(vectors, np.float32)
    rows: Floats = np.array(vectors, np.float32, ndmin=2)
    if rows.ndim != 2:
        raise ValueError(f"embeddings of shape {rows.shape} cannot be used")
    return rows


class Intake:
    """The buffer: filled under a lock, emptied by exchanging it, so that nobody waits for numpy."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._items: list[Item] = []
        self._waiting = 0

    def put(self, item: Item) -> list[Item] | None:
        """Add an item; everything that waits, if that is now enough for a block."""
        with self._lock:
            self._items.append(item)
            self._waiting += len(item.rows)
            return self._exchange() if self._waiting >= BLOCK else None

    def take(self) -> list[Item]:
        """Everything that waits."""
        with self._lock:
            return self._exchange()

    def _exchange(self) -> list[Item]:
        taken, self._items, self._waiting = self._items, [], 0
        return taken


def batches(items: list[Item]) -> Iterator[Batch]:
    """Sort items by key, keeping their order, and cut them into blocks."""
    by_key: dict[str, list[Item]] = {}
    for item in items:
        by_key.setdefault(item.key, []).append(item)
    for key, group in by_key.items():
        rows = group[0].rows if len(group) == 1 else np.concatenate([each.rows for each in group])
        sessions = [session for each in group for session in _sessions(each)]
        traces = [trace for each in group for trace in [each.trace] * len(each.rows)]
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            yield Batch(key, rows[part], sessions[part], traces[part])


def _sessions(item: Item) -> Sequence[str | None]:
    session = item.session
    return [session] * len(item.rows) if session is None or isinstance(session, str) else session
