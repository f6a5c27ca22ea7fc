"""Operations over time: the charts above the table."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from math import ceil
from typing import Final

from llmwatch.view.queries.selection import operations_where
from llmwatch.view.records import Filter, Moments

SECOND: Final = 10**9

WIDTHS: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 14_400, 28_800, 43_200, 86_400),
)
"""Seconds that people count in."""

Row = tuple[int, int, float | None, int | None]
"""When it ended, whether it failed, time to the first token, output tokens."""


def moments(rows: sqlite3.Connection, by: Filter, points: int, now: int) -> Moments:
    """Operations by when they ended, from the first on, without what is nested."""
    where = operations_where(rows, by)
    found: list[Row] = rows.execute(
        "SELECT end, outcome = 1, ttft, output FROM operations"
        f" WHERE NOT nested AND {where.text} ORDER BY end",
        where.values,
    ).fetchall()
    if not found:
        return Moments(WIDTHS[0], [], [], [], [], [], [])
    begin, last_end = found[0][0], found[-1][0]
    end = by.until or (last_end if by.since is None else max(now, last_end))
    width = _width((end - begin) / SECOND, points)
    first, last = (time // (width * SECOND) for time in (begin, end))
    slots: list[list[Row]] = [[] for _ in range(last - first + 1)]
    for row in found:
        slots[row[0] // (width * SECOND) - first].append(row)
    return _moments(width, first, slots)


def _width(seconds: float, points: int) -> int:
    return next((each for each in WIDTHS if seconds <= each * points), ceil(seconds / points))


def _moments(width: int, first: int, slots: Sequence[Sequence[Row]]) -> Moments:
    ttfts = [sorted(_known(ttft for _, _, ttft, _ in slot)) for slot in slots]
    return Moments(
        width=width,
        times=[(first + index) * width * SECOND for index in range(len(slots))],
        rates=[len(slot) / width for slot in slots],
        errors=[sum(failed for _, failed, _, _ in slot) / width for slot in slots],
        ttft_p50=[_quantile(ttft, 0.5) for ttft in ttfts],
        ttft_p95=[_quantile(ttft, 0.95) for ttft in ttfts],
        output_tokens=[sum(_known(out for *_, out in slot)) / width for slot in slots],
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _quantile(ascending: Sequence[float], share: float) -> float | None:
    """The value below which *share* of the values lie (nearest rank); None without values."""
    return ascending[max(ceil(share * len(ascending)) - 1, 0)] if ascending else None
