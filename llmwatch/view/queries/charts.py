"""Series of gauges and of rates, from the points of many processes.

A cumulative sum that began again is another stream; what a stream held at its first point came
before, at an unknown rate, so its rate begins with the second.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from llmwatch.view.queries.selection import Stream, streams
from llmwatch.view.records import Filter, Series

POINTS: Final = 300

_POINTS = "SELECT time, start, value, count FROM points WHERE stream = ? "


class Point(NamedTuple):
    """One point of a stream; `value` of a histogram is its sum."""

    time: int
    start: int
    value: float
    timed: int


class Piece(NamedTuple):
    """What a sum grew by in some time; of a gauge, its value, and as if it were one second."""

    time: int
    amount: float
    seconds: float


def series(
    rows: sqlite3.Connection, metrics: Iterable[str], by: Filter, points: int = POINTS
) -> list[Series]:
    """One series for each process and set of attributes that said anything in that time."""
    found = [each for each in streams(rows, metrics, by) if each.kind != "histogram"]
    return _lines([(each, list(_pieces(rows, each, by))) for each in found], points)


def around(
    rows: sqlite3.Connection, metrics: Iterable[str], start: int, end: int, resource: int
) -> list[Series]:
    """What one process said between two times, and the last word before and the first after."""
    found = []
    for stream in streams(rows, metrics, Filter(), resource):
        since = _time(rows, stream, "max(time)", "time <= ?", start)
        until = _time(rows, stream, "min(time)", "time >= ?", end)
        by = Filter(since=since, until=until + 1)
        found.append((stream, list(_pieces(rows, stream, by))))
    return _lines(found, POINTS)


def _time(rows: sqlite3.Connection, stream: Stream, which: str, when: str, time: int) -> int:
    question = f"SELECT {which} FROM points WHERE stream = ? AND {when}"
    (found,) = rows.execute(question, (stream.id, time)).fetchone()
    return time if found is None else int(found)


def points_of(rows: sqlite3.Connection, stream: Stream, by: Filter) -> list[Point]:
    """The points of a stream in some time, and the last one before; by time."""
    since, until = by.since or 0, by.until
    before = rows.execute(f"{_POINTS} AND time < ? ORDER BY time DESC LIMIT 1", (stream.id, since))
    points = [Point(*each) for each in before]
    found = rows.execute(
        f"{_POINTS} AND time >= ? AND (? IS NULL OR time < ?) ORDER BY time",
        (stream.id, since, until, until),
    )
    return points + [Point(*each) for each in found]


def last_of(
    rows: sqlite3.Connection, stream: Stream, until: int | None, since: int = 0
) -> Point | None:
    """The last point of a stream before *until*."""
    found = rows.execute(
        f"{_POINTS} AND time >= ? AND (? IS NULL OR time < ?) ORDER BY time DESC LIMIT 1",
        (stream.id, since, until, until),
    ).fetchone()
    return None if found is None else Point(*found)


def _pieces(rows: sqlite3.Connection, stream: Stream, by: Filter) -> Iterator[Piece]:
    points = points_of(rows, stream, by)
    inside = (each for each in points if each.time >= (by.since or 0))
    if stream.kind == "gauge":
        yield from (Piece(each.time, each.value, 1.0) for each in inside if not stream.delta)
    elif stream.delta:
        for each in inside:
            if 0 < each.start < each.time:
                yield Piece(each.time, each.value, (each.time - each.start) / 1e9)
    else:
        for before, after in pairwise(points):
            if after.value >= before.value:  # else it began again, and says not when
                seconds = (after.time - before.time) / 1e9
                yield Piece(after.time, after.value - before.value, seconds)


def _lines(found: Sequence[tuple[Stream, list[Piece]]], points: int) -> list[Series]:
    """Put the streams together that are one line, and thin it."""
    lines: dict[object, tuple[Stream, list[Piece]]] = {}
    for stream, pieces in found:
        lines.setdefault(stream.line, (stream, []))[1].extend(pieces)
    return [_series(stream, sorted(pieces), points) for stream, pieces in lines.values() if pieces]


def _series(stream: Stream, pieces: Sequence[Piece], points: int) -> Series:
    """Each *n* successive pieces become one: the mean of a gauge, all growth over all time."""
    size = -(-len(pieces) // max(points, 1))
    chunks = [pieces[begin : begin + size] for begin in range(0, len(pieces), size)]
    return Series(
        metric=stream.metric,
        unit=stream.unit if stream.kind == "gauge" else per_second(stream.unit),
        attributes=stream.attributes,
        service=stream.service,
        times=[chunk[-1].time for chunk in chunks],
        values=[sum(p.amount for p in chunk) / sum(p.seconds for p in chunk) for chunk in chunks],
    )


def per_second(unit: str) -> str:
    """The unit of a sum's rate."""
    return {"s": "1", "1": "1/s", "": "1/s"}.get(unit, f"{unit}/s")
