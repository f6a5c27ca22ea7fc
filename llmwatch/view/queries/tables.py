"""The table of operations: exact quantiles of what single operations took."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any

from llmwatch.view.queries.selection import operations_where
from llmwatch.view.records import Filter, OperationRow

_COLUMNS = "kind, end - start, outcome = 1, ttft, gap_p50, gap_p95, rate, input, output, cost"


def operations(rows: sqlite3.Connection, by: Filter, now: int) -> list[OperationRow]:
    """By operation, model and route, without what is nested; the most frequent first."""
    where = operations_where(rows, by)
    condition = f"WHERE NOT nested AND {where.text}"
    first, last = rows.execute(
        f"SELECT min(start), max(end) FROM operations {condition}",
        where.values,
    ).fetchone()
    if first is None:
        return []
    seconds = _seconds(by, first, last, now)
    kinds = {
        number: names
        for number, *names in rows.execute("SELECT id, operation, model, route FROM kinds")
    }
    groups: defaultdict[tuple[Any, ...], list[tuple[Any, ...]]] = defaultdict(list)
    found = rows.execute(f"SELECT {_COLUMNS} FROM operations {condition}", where.values)
    for kind, *numbers in found:
        groups[tuple(kinds[kind])].append(tuple(numbers))
    made = [_row(names, numbers, seconds) for names, numbers in groups.items()]
    return sorted(made, key=_order)


def _order(row: OperationRow) -> tuple[Any, ...]:
    return -row.count, row.operation, row.model or "", row.route or ""


def _seconds(by: Filter, first: int, last: int, now: int) -> float:
    """What a rate is over: the filter's time, where it has ends, else that of the operations."""
    begin = first if by.since is None else by.since
    end = by.until
    if end is None:
        end = last if by.since is None else max(now, last)
    return (end - begin) / 1e9


def _row(
    names: tuple[Any, ...], numbers: Sequence[tuple[Any, ...]], seconds: float
) -> OperationRow:
    durations, errors, ttfts, gaps, high_gaps, rates, inputs, outputs, costs = zip(
        *numbers, strict=True
    )
    took, first, middle, high = (_ascending(each) for each in (durations, ttfts, gaps, high_gaps))
    return OperationRow(
        operation=names[0],
        model=names[1],
        route=names[2],
        count=len(numbers),
        errors=sum(errors),
        rate=len(numbers) / seconds if seconds > 0 else 0.0,
        duration_p50=(quantile(took, 0.5) or 0) / 1e9,
        duration_p95=(quantile(took, 0.95) or 0) / 1e9,
        ttft_p50=quantile(first, 0.5),
        ttft_p95=quantile(first, 0.95),
        itl_p50=quantile(middle, 0.5),
        itl_p95=quantile(high, 0.95),
        tokens_per_second=quantile(_ascending(rates), 0.5),
        input_tokens=_sum(inputs),
        output_tokens=_sum(outputs),
        cost=_sum(costs),
    )


def _ascending(values: Iterable[float | None]) -> list[float]:
    return sorted(value for value in values if value is not None)


def quantile(ascending: Sequence[float], share: float) -> float | None:
    """The value below which *share* of the values lie (nearest rank); None without values."""
    if not ascending:
        return None
    return ascending[max(ceil(share * len(ascending)) - 1, 0)]


def _sum(values: Iterable[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
