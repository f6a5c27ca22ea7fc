"""What a store holds, in numbers."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from llmwatch.export.index.files import size_of_index
from llmwatch.export.store_reader import OF_STORE


@dataclass(frozen=True, slots=True)
class About:
    """Numbers of one store. Times are Unix nanoseconds, sizes bytes."""

    files: int
    size: int
    """Of the files, without the index."""
    index_size: int
    services: list[str]
    spans: int
    operations: int
    """Spans that are operations, nested ones included."""
    points: int
    """Data points of metrics that can be asked for."""
    logs: int
    """Log records of traces, and findings."""
    first: int | None
    """When the first operation began, or the first point was read."""
    last: int | None


def about(rows: sqlite3.Connection, where: Path) -> About:
    """Count what the index knows, and the bytes on disk."""
    sizes = []
    for path in where.iterdir() if where.is_dir() else ():
        if OF_STORE.fullmatch(path.name):
            try:
                sizes.append(path.stat().st_size)
            except FileNotFoundError:  # made room for newer ones meanwhile
                continue
    first, last = rows.execute(
        "SELECT min(first), max(last) FROM (SELECT min(start) AS first, max(end) AS last"
        " FROM operations UNION ALL SELECT min(time), max(time) FROM points)"
    ).fetchone()
    services = [name for (name,) in rows.execute("SELECT DISTINCT service FROM resources")]
    return About(
        files=len(sizes),
        size=sum(sizes),
        index_size=size_of_index(where),
        services=sorted(services),
        spans=_count(rows, "spans"),
        operations=_count(rows, "operations"),
        points=_count(rows, "points"),
        logs=_count(rows, "logs"),
        first=first,
        last=last,
    )


def _count(rows: sqlite3.Connection, table: str) -> int:
    return int(rows.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
