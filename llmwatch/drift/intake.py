"""Embeddings that wait to be measured: copying a few to measure them together is what is cheap.

A single vector waits as bytes: of all ways to copy 6 kB in Python that is the fastest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmwatch.drift.subspace import BLOCK, Floats

FLOAT = np.dtype(np.float32)

Sessions = str | Sequence[str | None] | None
Ids = str | Sequence[str | None] | None
Trace = str | int
"""A trace id, as text or as the number it stands for; empty or 0: none."""
Mark = tuple[Trace, str]
"""What finds an item again: its trace, and the id that the user gave it."""

Item = tuple[bytes | Floats, str, Sessions, Trace, Ids]
"""What one call of `add` brought: one vector as bytes or rows, key, sessions, trace, ids. A plain
tuple, because a named one takes three times as long to make."""


class Batch(NamedTuple):
    """Rows of one key, at most `BLOCK`."""

    key: str
    rows: Floats
    sessions: list[str | None] | None
    """None: none of the rows belongs to one."""
    marks: list[Mark] | None
    """None: none of the rows can be found again."""


def own_rows(vectors: ArrayLike) -> Floats:
    """Vectors as rows of float32; a copy, unless they are so many that they need not wait.

    Raises:
        ValueError: If they are no vector and no batch of vectors of one length.
        TypeError: If they are no numbers.
    """
    if vectors is None:
        raise TypeError("None is no embedding")
    if hasattr(vectors, "detach"):  # a tensor of torch, maybe on a GPU, of any precision
        vectors = vectors.detach().float().cpu().numpy()
    elif isinstance(vectors, np.ndarray) and vectors.dtype is not FLOAT:
        vectors = _plain(vectors)
    with np.errstate(over="ignore"):  # what does not fit is infinite, and counted as such
        if isinstance(vectors, np.ndarray) and vectors.ndim == 2 and len(vectors) >= BLOCK:
            return np.asarray(vectors, np.float32)
        rows: Floats = np.array(vectors, np.float32, ndmin=2)
    if rows.ndim != 2:
        raise ValueError(f"embeddings of shape {rows.shape} cannot be used")
    return rows


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """An array whose numbers are all that it is; what is masked is not a number."""
    if array.dtype.kind == "c":
        raise TypeError("complex numbers are no embeddings")
    if isinstance(array, np.ma.MaskedArray):
        return np.ma.filled(array.astype(np.float32), np.nan)
    return array


def own_vector(vector: ArrayLike | bytes) -> Floats:
    """One vector: numbers, or the bytes of little-endian float32.

    Raises:
        ValueError: If it is no vector.
        TypeError: If it is not made of numbers.
    """
    row = (
        np.frombuffer(vector, "<f4")
        if isinstance(vector, bytes)
        else np.asarray(vector, np.float32)
    )
    if row.ndim != 1 or not len(row):
        raise ValueError(f"an embedding of shape {row.shape} cannot be used")
    return row


def named(labels: Any) -> str | list[str | None] | None:
    """A session or an id, or those of each row, as text: numbers, UUIDs, arrays are fine."""
    if labels is None or isinstance(labels, str):
        return labels
    if isinstance(labels, bytes):
        return labels.decode(errors="replace")
    if isinstance(labels, Iterable) and getattr(labels, "ndim", None) != 0:
        return [None if each is None else str(each) for each in labels]
    return str(labels)


class Intake:
    """The buffer. Appending and taking are atomic, so that it needs no lock and nobody waits."""

    __slots__ = ("extra", "items")

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.extra = 0
        """Rows that wait, beyond one an item. Threads may lose each other's additions: then
        a block gets larger."""

    def put(self, item: Item, many: int) -> None:
        """Add rows."""
        self.items.append(item)
        self.extra += many - 1

    @property
    def full(self) -> bool:
        """Whether a block waits."""
        return len(self.items) + self.extra >= BLOCK

    def take(self) -> list[Item]:
        """Everything that waits."""
        self.extra = 0
        items = self.items
        taken: list[Item] = []
        with suppress(IndexError):  # another thread may take the rest
            taken.extend(items.popleft() for _ in range(len(items)))
        return taken


def batches(items: list[Item], dimension: int) -> Iterator[Batch]:
    """Sort items by key, keeping their order, and cut them into blocks.

    Args:
        items: What waited.
        dimension: Of the vectors among them that are bytes.
    """
    by_key: dict[str, list[Item]] = {}
    for item in items:
        by_key.setdefault(item[1], []).append(item)
    for key, group in by_key.items():
        rows = _rows(group, dimension)
        sizes = [1 if isinstance(item[0], bytes) else len(item[0]) for item in group]
        sessions = _sessions(group, sizes)
        marks = _marks(group, sizes)
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            yield Batch(key, rows[part], sessions and sessions[part], marks and marks[part])


def _rows(group: list[Item], dimension: int) -> Floats:
    if isinstance(rows := group[0][0], np.ndarray) and len(group) == 1:
        return rows
    whole = b"".join([part if isinstance(part, bytes) else part.tobytes() for part, *_ in group])
    return np.frombuffer(whole, np.float32).reshape(-1, dimension)


def _sessions(group: list[Item], sizes: list[int]) -> list[str | None] | None:
    if not any(item[2] for item in group):
        return None
    found: list[str | None] = []
    for item, size in zip(group, sizes, strict=True):
        session = item[2]
        found += [session] * size if session is None or isinstance(session, str) else session
    return found


def _marks(group: list[Item], sizes: list[int]) -> list[Mark] | None:
    if not any(item[3] or item[4] for item in group):
        return None
    found: list[Mark] = []
    for item, size in zip(group, sizes, strict=True):
        trace, ids = item[3], item[4]
        if ids is None or isinstance(ids, str):
            found += [(trace, ids or "")] * size
        else:
            found += [(trace, each or "") for each in ids]
    return found
