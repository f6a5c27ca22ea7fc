"""Put lines of the store into the tables of the index."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final

from llmwatch.export.index import rows, schema
from llmwatch.export.store_reader import (
    Attributes,
    StoredPoint,
    logs_in,
    points_in,
    spans_in,
)

MALFORMED: Final = (
    *(ValueError, KeyError, TypeError, AttributeError, OverflowError),
    RecursionError,  # nested without end
)
"""What a line raises that is not whole, or not what we write: it is skipped."""

INSERT: Final = {
    "spans": "INSERT OR IGNORE INTO spans (id, trace, span, parent, resource, file, line, item)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    "operations": "INSERT INTO operations (id, kind, resource, start, end, outcome, ttft, gap_p50,"
    " gap_p95, input, output, rate, cost) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "points": "INSERT OR REPLACE INTO points (stream, time, start, value, count, file)"
    " VALUES (?, ?, ?, ?, ?, ?)",
    "logs": "INSERT INTO logs (trace, event, time, attributes, resource, file, line, item)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
}
"""In the order in which it is done."""

Row = tuple[Any, ...]
Rows = Iterator[tuple[str, Row]]
"""Rows with the names of their tables."""


class Intake:
    """Takes lines of one file in, within one transaction.

    Ids of resources, kinds and streams are remembered for no longer: another process may remove
    those rows in between.

    Args:
        connection: To the index, in a transaction.
        signal: ``traces``, ``metrics`` or ``logs``.
        file: Id of the file.
    """

    def __init__(self, connection: sqlite3.Connection, signal: str, file: int) -> None:
        self._connection = connection
        self._file = file
        self._ids: dict[Hashable, int] = {}
        self._resource: tuple[Attributes, int] | None = None
        self._rows: defaultdict[str, list[Row]] = defaultdict(list)
        takers: dict[str, Callable[[dict[str, Any], int], Rows]] = {
            "traces": self._spans,
            "metrics": self._points,
            "logs": self._logs,
        }
        self._rows_of = takers[signal]
        (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM spans").fetchone()
        self._first = self._next = last + 1

    def take(self, line: bytes, offset: int) -> None:
        """Take one line, which begins at *offset* of its file."""
        try:
            found = list(self._rows_of(json.loads(line), offset))
        except MALFORMED:
            return
        for table, row in found:
            self._rows[table].append(row)

    def finish(self) -> None:
        """Write what was taken, and mark what is nested; once, at the end."""
        for table, statement in INSERT.items():
            self._connection.executemany(statement, self._rows[table])
        if self._next == self._first:
            return
        run = self._connection.execute
        run(  # a span that is stored twice, because a sender tried again, counts once
            "DELETE FROM operations WHERE id >= ? AND id NOT IN"
            " (SELECT id FROM spans WHERE id >= ?)",
            (self._first, self._first),
        )
        run("INSERT INTO seeds SELECT id FROM spans WHERE id >= ?", (self._first,))
        run(schema.NESTED)
        run("DELETE FROM seeds")

    def _spans(self, request: dict[str, Any], offset: int) -> Rows:
        for item, span in enumerate(spans_in(request, rows.READ)):
            trace, own = rows.identity(span.trace_id), rows.identity(span.span_id)
            if trace is None or own is None:
                continue
            parent, resource = rows.identity(span.parent_id), self._resource_of(span.resource)
            number, self._next = self._next, self._next + 1
            yield "spans", (number, trace, own, parent, resource, self._file, offset, item)
            if (kind := rows.kind_of(span)) is not None:
                which = self._id("kinds", kind, kind._asdict)
                yield "operations", (number, which, resource, *rows.facts_of(span))

    def _points(self, request: dict[str, Any], offset: int) -> Rows:
        for point in points_in(request):
            if rows.is_indexed(point):
                yield "points", (self._stream(point), *rows.point_row(point), self._file)

    def _logs(self, request: dict[str, Any], offset: int) -> Rows:
        for item, log in enumerate(logs_in(request)):
            trace, attributes = rows.identity(log.trace_id), rows.log_attributes(log)
            if trace is None and attributes is None:
                continue
            name = log.event_name.encode("utf-8", "replace").decode()
            what = (trace, name, rows.moment(log.time), attributes)
            resource = self._resource_of(log.resource)
            yield "logs", (*what, resource, self._file, offset, item)

    def _stream(self, point: StoredPoint) -> int:
        resource, stream = self._resource_of(point.resource), rows.stream_of(point)
        return self._id(
            "streams", (resource, *stream), lambda: {**stream._asdict(), "resource": resource}
        )

    def _resource_of(self, resource: Attributes) -> int:
        """Its id. Successive records of one line share the very object."""
        if self._resource is None or self._resource[0] is not resource:
            text, service = rows.canonical(resource), rows.service_of(resource)
            self._resource = resource, self._id("resources", text, lambda: {"service": service})
        return self._resource[1]

    def _id(self, table: str, key: Hashable, row: Callable[[], dict[str, Any]]) -> int:
        """Of the row with this key, which is made if there is none."""
        if (known := self._ids.get((table, key))) is None:
            text = key if isinstance(key, str) else json.dumps(key)
            columns = {"key": text, **row()}
            self._connection.execute(
                f"INSERT OR IGNORE INTO {table} ({', '.join(columns)})"
                f" VALUES ({', '.join('?' * len(columns))})",
                list(columns.values()),
            )
            found = self._connection.execute(f"SELECT id FROM {table} WHERE key = ?", (text,))
            self._ids[table, key] = known = int(found.fetchone()[0])
        return known
