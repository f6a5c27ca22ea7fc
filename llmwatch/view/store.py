"""The view of an embedded store, through its index."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from threading import RLock
from time import time_ns
from typing import TypeVar

from llmwatch.export.index.files import (
    Index,
    Progress,
    open_index,
    remove_index,
    temporary_index,
)
from llmwatch.view.about import About, about
from llmwatch.view.queries import charts, findings, heat, lights, moments, requests, tables
from llmwatch.view.records import (
    DriftLight,
    Filter,
    Finding,
    LayerCell,
    Moments,
    OperationRow,
    Request,
    RequestRow,
    Series,
)

Answer = TypeVar("Answer")

WAIT = 2.0
"""Seconds that a reader waits for whoever writes to the index."""


def open_view(path: str | PathLike[str], progress: Progress | None = None) -> StoreView:
    """Open the store at *path*, which need not exist yet.

    Its index is brought up to date first: at once where the programs that write to the store keep
    it, else at some megabytes a second.

    Args:
        path: Directory of the store.
        progress: Called now and then with the bytes read so far, and with how many there are.
    """
    return StoreView(Path(path), progress)


class StoreView:
    """Answers the questions of `View`; threads may share it, and wait for each other.

    Args:
        where: Directory of the store.
        progress: As in `open_view`.
        now: Unix time in nanoseconds.
    """

    def __init__(
        self, where: Path, progress: Progress | None = None, now: Callable[[], int] = time_ns
    ) -> None:
        self._where = where
        self._now = now
        self._lock = RLock()
        self._index = _opened(where)
        self._version = -1
        self._refresh(progress)

    def refresh(self) -> bool:
        """Take in what was written since; True if there was anything."""
        return self._refresh(None)

    def _refresh(self, progress: Progress | None) -> bool:
        with self._lock:
            try:
                taken = self._index.catch_up(progress)
                return self._others_took() or taken
            except sqlite3.DatabaseError as error:
                if "locked" in str(error):
                    return False  # whoever holds it takes in what there is
                self._start_again(error, progress)
                return True

    def _others_took(self) -> bool:
        """Whether another process, such as one that writes to the store, took something in."""
        before = self._version
        question = "PRAGMA data_version"
        (self._version,) = self._index.connection.execute(question).fetchone()
        return before != self._version

    def _start_again(self, error: sqlite3.DatabaseError, progress: Progress | None) -> None:
        """The index is broken, or cannot be written (which is an operational error)."""
        self._index.close()
        if isinstance(error, sqlite3.OperationalError):
            self._index = temporary_index(self._where)
        else:
            remove_index(self._where)
            self._index = _opened(self._where)
        self._index.catch_up(progress)

    def _ask(self, question: Callable[[sqlite3.Connection], Answer]) -> Answer:
        with self._lock:
            try:
                return question(self._index.connection)
            except sqlite3.DatabaseError as error:
                self._start_again(error, None)
                return question(self._index.connection)

    def services(self) -> list[str]:
        """All names of services."""
        question = "SELECT DISTINCT service FROM resources ORDER BY service"
        return self._ask(lambda rows: [name for (name,) in rows.execute(question)])

    def operations(self, by: Filter) -> list[OperationRow]:
        """By operation, model and route; the most frequent first."""
        return self._ask(lambda rows: tables.operations(rows, by, self._now()))

    def moments(self, by: Filter, points: int = 120) -> Moments:
        """What they did over time, in at most *points* slots and one."""
        return self._ask(lambda rows: moments.moments(rows, by, points, self._now()))

    def requests(self, by: Filter, limit: int = 200) -> list[RequestRow]:
        """The latest operations, latest first."""
        return self._ask(lambda rows: requests.latest(rows, by, limit))

    def request(self, trace_id: str, span_id: str) -> Request | None:
        """One operation; None if the store no longer has it."""
        return self._ask(lambda rows: requests.one(rows, self._where, trace_id, span_id))

    def series(self, metrics: list[str], by: Filter, points: int = 300) -> list[Series]:
        """Gauges and sums by name, thinned to about *points* each."""
        return self._ask(lambda rows: charts.series(rows, metrics, by, points))

    def layers(self, by: Filter) -> list[LayerCell]:
        """All cells of the heat map."""
        return self._ask(lambda rows: heat.layers(rows, by))

    def drift(self, by: Filter) -> list[DriftLight]:
        """One light a monitor and key."""
        return self._ask(lambda rows: lights.drift(rows, by))

    def findings(self, by: Filter) -> list[Finding]:
        """Raised in that time, latest first."""
        return self._ask(lambda rows: findings.findings(rows, by))

    def about(self) -> About:
        """How much there is."""
        return self._ask(lambda rows: about(rows, self._where))

    def close(self) -> None:
        """Let go of the index."""
        with self._lock:
            self._index.close()


def _opened(where: Path) -> Index:
    for _ in range(2):
        try:
            return open_index(where, wait=WAIT)
        except OSError:
            break
        except sqlite3.OperationalError:  # locked all the time, or a file system without locks
            break
        except sqlite3.DatabaseError:
            remove_index(where)
    return temporary_index(where)
