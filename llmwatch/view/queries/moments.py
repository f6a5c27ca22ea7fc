"""Operations over time: the charts above the table."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import groupby
from math import ceil
from operator import itemgetter
from typing import Final

from llmwatch.view.queries.selection import Where, operations_where
from llmwatch.view.records import Filter, Moments

SECOND: Final = 10**9

WIDTHS: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 14_400, 28_800, 43_200, 86_400),
)
"""Seconds that people count in."""


def moments(rows: sqlite3.Connection, by: Filter, points: int, now: int) -> Moments:
    """Operations by when they ended, from the first on, without what is nested."""
    chosen = operations_where(rows, by)
    where = Where(f"FROM operations WHERE NOT nested AND {chosen.text}", chosen.values)
    begin, last = rows.execute(f"SELECT min(end), max(end) {where.text}", where.values).fetchone()
    if begin is None:
        return Moments(WIDTHS[0], [], [], [], [], [], [])
    end = by.until or (last if by.since is None else max(now, last))
    width = _width((end - begin) / SECOND, points)
    slots = range(begin // (width * SECOND), end // (width * SECOND) + 1)
    return _moments(rows, where, width, slots)


def _width(seconds: float, points: int) -> int:
    return next((each for each in WIDTHS if seconds <= each * points), ceil(seconds / points))


def _moments(rows: sqlite3.Connection, where: Where, width: int, slots: range) -> Moments:
    values = [width * SECOND, *where.values]
    counted = {
        slot: counts
        for slot, *counts in rows.execute(
            "SELECT end / ? AS slot, count(*), sum(outcome = 1), coalesce(sum(output), 0)"
            f" {where.text} GROUP BY slot",
            values,
        )
    }
    counts = [counted.get(slot, [0, 0, 0]) for slot in slots]
    ascending = rows.execute(
        f"SELECT end / ? AS slot, ttft {where.text} AND ttft IS NOT NULL ORDER BY slot, ttft",
        values,
    )
    ttfts = {slot: [ttft for _, ttft in of] for slot, of in groupby(ascending, itemgetter(0))}
    return Moments(
        width=width,
        times=[slot * width * SECOND for slot in slots],
        rates=[count / width for count, _, _ in counts],
        errors=[failed / width for _, failed, _ in counts],
        ttft_p50=[_quantile(ttfts.get(slot, []), 0.5) for slot in slots],
        ttft_p95=[_quantile(ttfts.get(slot, []), 0.95) for slot in slots],
        output_tokens=[tokens / width for *_, tokens in counts],
    )


def _quantile(ascending: Sequence[float], share: float) -> float | None:
    """The value below which *share* of the values lie (nearest rank); None without values."""
    return ascending[max(ceil(share * len(ascending)) - 1, 0)] if ascending else None
