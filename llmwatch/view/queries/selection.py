"""A filter as conditions of SQL."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from string import hexdigits
from typing import NamedTuple

from llmwatch import semconv
from llmwatch.export.store_reader import Attributes
from llmwatch.view.records import Filter


class Where(NamedTuple):
    """Conditions, and the values of their question marks."""

    text: str
    values: list[object]


def operations_where(rows: sqlite3.Connection, by: Filter) -> Where:
    """Which rows of `operations` a filter lets through."""
    conditions, values = _times("end", by)
    if by.service is not None:
        conditions.append("resource IN (SELECT id FROM resources WHERE service = ?)")
        values.append(by.service)
    if by.errors:
        conditions.append("outcome = 1")
    for column in ("operation", "model", "route"):
        if (wanted := getattr(by, column)) is not None:
            conditions.append(f"kind IN (SELECT id FROM kinds WHERE {column} = ?)")
            values.append(wanted)
    if by.text:
        named = f"kind IN ({_LISTED})"
        values.append(json.dumps(_kinds_with(rows, by.text)))
        if set(by.text) <= set(hexdigits):
            conditions.append(f"({named} OR {_ID_HAS})")
            values.append(f"%{by.text.lower()}%")
        else:
            conditions.append(named)
    return Where(" AND ".join(conditions) or "1", values)


_LISTED = "SELECT value FROM json_each(?)"
_ID_HAS = (
    "operations.id IN (SELECT id FROM spans WHERE lower(hex(trace) || ' ' || hex(span)) LIKE ?)"
)


def _kinds_with(rows: sqlite3.Connection, text: str) -> list[int]:
    """Kinds that have a text in one of their names, in any case of letters."""
    wanted = text.casefold()
    found = rows.execute("SELECT id, operation, model, route, error FROM kinds")
    return [
        number
        for number, *names in found
        if any(wanted in (each or "").casefold() for each in names)
    ]


def _times(column: str, by: Filter) -> tuple[list[str], list[object]]:
    conditions: list[str] = []
    values: list[object] = []
    if by.since is not None:
        conditions.append(f"{column} >= ?")
        values.append(by.since)
    if by.until is not None:
        conditions.append(f"{column} < ?")
        values.append(by.until)
    return conditions, values


def times_where(column: str, by: Filter) -> Where:
    """The times that a filter spans."""
    conditions, values = _times(column, by)
    return Where(" AND ".join(conditions) or "1", values)


class Stream(NamedTuple):
    """One metric of one process with one set of attributes, since it began."""

    id: int
    metric: str
    unit: str
    kind: str
    delta: bool
    text: str
    """The attributes, as canonical JSON."""
    attributes: Attributes
    resource: int
    service: str

    @property
    def line(self) -> tuple[int, str, str, str]:
        """What streams have in common that are one line of a chart."""
        return self.resource, self.metric, self.kind, self.text


def streams(
    rows: sqlite3.Connection,
    metrics: Iterable[str],
    by: Filter,
    resource: int | None = None,
) -> list[Stream]:
    """The streams of some metrics that a filter lets through, in the order they were first seen.

    What a stream does not say (a GPU's knows no route) does not keep it out.
    """
    found = rows.execute(
        "SELECT s.id, metric, unit, kind, delta, attributes, resource, service FROM streams s"
        f" JOIN resources r ON r.id = s.resource WHERE metric IN ({_LISTED})"
        " AND service = coalesce(?, service) AND resource = coalesce(?, resource) ORDER BY s.id",
        (json.dumps(list(metrics)), by.service, resource),
    )
    all_of_them = (
        Stream(number, metric, unit, kind, bool(delta), text, json.loads(text), *rest)
        for number, metric, unit, kind, delta, text, *rest in found
    )
    return [each for each in all_of_them if _fits(each.attributes, by)]


_NAMES = {
    "operation": semconv.OPERATION_NAME,
    "model": semconv.REQUEST_MODEL,
    "route": semconv.ROUTE,
}


def _fits(attributes: Attributes, by: Filter) -> bool:
    return all(
        (wanted := getattr(by, field)) is None or attributes.get(name, wanted) == wanted
        for field, name in _NAMES.items()
    )
