"""Keep the index while a program writes: on the thread that exports, after what it wrote.

Only what this process wrote itself is taken in: what others left is the reader's to do. Nothing
is ever repaired here, and nobody is waited for long; who cannot get at the index leaves it behind.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from time import monotonic
from typing import Final

from llmwatch.export.index.files import CHUNK, open_index, size_of_index
from llmwatch.export.lifecycle import indexing

WAIT: Final = 0.05
"""Seconds that another process may hold the index up."""


EVERY: Final = 1.0
"""Seconds between two openings of the database: each costs some milliseconds and an fsync."""


class Keeper:
    """Takes the files of one signal into the index of their store, and those that are gone out.

    Args:
        where: The directory of the store.
    """

    def __init__(self, where: Path) -> None:
        self._where = where
        self._behind: set[str] = set()
        self._gone: set[str] = set()
        self._kept = -EVERY

    def wrote(self, name: str) -> None:
        """Remember a file that was written to."""
        self._behind.add(name)

    def removed(self, name: str) -> None:
        """Remember a file that was removed."""
        self._gone.add(name)

    @property
    def size(self) -> int:
        """Bytes that the index takes."""
        return size_of_index(self._where)

    def keep(self, *, now: bool = False) -> None:
        """Bring the index up to what is remembered, as far as it can be had.

        The database is opened and closed: sqlite's connections do not survive a fork.

        Args:
            now: However little time has passed since it was last done.
        """
        if not (self._behind or self._gone) or (not now and monotonic() - self._kept < EVERY):
            return
        self._kept = monotonic()
        try:
            with indexing:
                self._keep()
        except (OSError, sqlite3.Error):
            return  # somebody else's turn, a full disk, or broken: the reader sees to that

    def _keep(self) -> None:
        index = open_index(self._where, wait=WAIT)
        try:
            if self._gone:
                index.forget(self._gone)
                self._gone.clear()
            for name in sorted(self._behind):
                if index.take(name) < CHUNK:
                    self._behind.discard(name)
        finally:
            index.close()
