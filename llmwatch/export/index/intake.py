"""Put lines of the store into the tables of the index."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any, Final

from llmwatch.export.index import rows, schema
from llmwatch.export.store_reader import (
    Attributes,
    StoredPoint,
    StoredSpan,
    logs_in,
    points_in,
    spans_in,
)

MALFORMED: Final = (ValueError, KeyError, TypeError, AttributeError, OverflowError)
"""What a line raises that is not whole, or not what we write: it is skipped."""


class Intake:
    """Takes lines in, within one transaction.

    Ids of resources, kinds and streams are remembered for no longer: another process may remove
    those rows in between.

    Args:
        connection: To the index, in a transaction.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._run = connection.execute
        self._ids: dict[tuple[str, str], int] = {}
        self._takers: dict[str, Callable[[dict[str, Any], int, int], None]] = {
            "traces": self._spans,
            "metrics": self._points,
            "logs": self._logs,
        }

    def take(self, signal: str, line: bytes, file: int, offset: int) -> None:
        """Put one line in.

        Args:
            signal: ``traces``, ``metrics`` or ``logs``.
            line: One line of a file.
            file: Id of the file.
            offset: Where in it the line begins.
        """
        self._run("SAVEPOINT line")
        try:
            self._takers[signal](json.loads(line), file, offset)
        except MALFORMED:
            self._run("ROLLBACK TO line")
            self._ids.clear()
        self._run("RELEASE line")

    def _spans(self, request: dict[str, Any], file: int, offset: int) -> None:
        for item, span in enumerate(spans_in(request)):
            trace, own = rows.identity(span.trace_id), rows.identity(span.span_id)
            if trace is None or own is None:
                continue
            parent = rows.identity(span.parent_id)
            resource = self._resource(span.resource)
            added = self._run(
                "INSERT OR IGNORE INTO spans (trace, span, parent, resource, file, line, item)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (trace, own, parent, resource, file, offset, item),
            )
            if added.rowcount and added.lastrowid is not None:
                self._operation(added.lastrowid, span, resource)

    def _operation(self, number: int, span: StoredSpan, resource: int) -> None:
        self._run("INSERT INTO seeds VALUES (?)", (number,))
        kind = rows.kind_of(span)
        if kind is None:
            return
        self._run(
            "INSERT INTO operations (id, kind, resource, start, end, outcome, ttft, gap_p50,"
            " gap_p95, input, output, rate, cost) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (number, self._kind(kind), resource, *rows.facts_of(span)),
        )

    def _points(self, request: dict[str, Any], file: int, offset: int) -> None:
        for point in points_in(request):
            if rows.is_indexed(point):
                self._run(
                    "INSERT OR REPLACE INTO points (stream, time, start, value, count, file)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (self._stream(point), *rows.point_row(point), file),
                )

    def _logs(self, request: dict[str, Any], file: int, offset: int) -> None:
        for item, log in enumerate(logs_in(request)):
            trace, attributes = rows.identity(log.trace_id), rows.log_attributes(log)
            if trace is None and attributes is None:
                continue
            self._run(
                "INSERT INTO logs (trace, event, time, attributes, resource, file, line, item)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    trace,
                    log.event_name,
                    min(log.time, rows.LARGEST),
                    attributes,
                    self._resource(log.resource),
                    file,
                    offset,
                    item,
                ),
            )

    def _resource(self, resource: Attributes) -> int:
        row = {"service": rows.service_of(resource)}
        return self._id("resources", rows.canonical(resource), row)

    def _kind(self, kind: rows.Kind) -> int:
        return self._id("kinds", kind.key, kind._asdict())

    def _stream(self, point: StoredPoint) -> int:
        row = {
            **rows.stream_of(point)._asdict(),
            "resource": self._resource(point.resource),
        }
        return self._id("streams", json.dumps(list(row.values())), row)

    def _id(self, table: str, key: str, row: dict[str, Any]) -> int:
        """Of the row with this key, which is made if there is none."""
        if (known := self._ids.get((table, key))) is None:
            columns = ", ".join(("key", *row))
            marks = ", ".join("?" * (len(row) + 1))
            self._run(  # names of tables and columns are ours
                f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})",
                (key, *row.values()),
            )
            found = self._run(f"SELECT id FROM {table} WHERE key = ?", (key,))
            self._ids[table, key] = known = int(found.fetchone()[0])
        return known

    def finish(self) -> None:
        """Mark what is nested among what was taken in; once, at the end."""
        self._run(schema.NESTED)
        self._run("DELETE FROM seeds")
