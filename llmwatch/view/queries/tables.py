"""The table of operations: exact quantiles of what single operations took."""

from __future__ import annotations

import sqlite3
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from llmwatch.view.queries.selection import operations_where
from llmwatch.view.records import Filter, OperationRow

Numbers = npt.NDArray[np.float64]

COLUMNS = (
    *("kind", "(end - start) / 1e9", "outcome = 1", "ttft", "gap_p50", "gap_p95", "rate"),
    *("input", "output", "cost"),
)


class Name(NamedTuple):
    """What rows are told apart by."""

    operation: str
    model: str | None
    route: str | None


def operations(rows: sqlite3.Connection, by: Filter, now: int) -> list[OperationRow]:
    """By operation, model and route, without what is nested; the most frequent first."""
    where = operations_where(rows, by)
    condition = f"FROM operations WHERE NOT nested AND {where.text}"
    first, last = rows.execute(f"SELECT min(start), max(end) {condition}", where.values).fetchone()
    if first is None:
        return []
    seconds = _seconds(by, first, last, now)
    found = rows.execute(f"SELECT {', '.join(COLUMNS)} {condition}", where.values).fetchall()
    columns = np.array(found, dtype=np.float64).T  # None is NaN
    groups = _groups(rows, columns[0])
    made = [_row(name, columns[:, places], seconds) for name, places in groups.items()]
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


def _groups(rows: sqlite3.Connection, kinds: Numbers) -> dict[Name, npt.NDArray[np.intp]]:
    """Which operations are in which row: kinds that differ in their error only are one."""
    named = {
        number: Name(*names)
        for number, *names in rows.execute("SELECT id, operation, model, route FROM kinds")
    }
    names = list(dict.fromkeys(named.values()))
    place = {name: each for each, name in enumerate(names)}
    group_of = np.zeros(max(named) + 1, dtype=np.intp)
    for number, name in named.items():
        group_of[number] = place[name]
    groups = group_of[kinds.astype(np.intp)]
    order = np.argsort(groups, kind="stable")
    begins = np.searchsorted(groups[order], np.arange(len(names) + 1))
    parts = (order[begins[each] : begins[each + 1]] for each in range(len(names)))
    return {name: part for name, part in zip(names, parts, strict=True) if len(part)}


def _row(name: Name, columns: Numbers, seconds: float) -> OperationRow:
    _, took, errors, ttft, middle, high, rate, inputs, outputs, cost = columns
    count = len(took)
    return OperationRow(
        *name,
        count=count,
        errors=int(errors.sum()),
        rate=count / seconds if seconds > 0 else 0.0,
        duration_p50=quantile(took, 0.5) or 0.0,
        duration_p95=quantile(took, 0.95) or 0.0,
        ttft_p50=quantile(ttft, 0.5),
        ttft_p95=quantile(ttft, 0.95),
        itl_p50=quantile(middle, 0.5),
        itl_p95=quantile(high, 0.95),
        tokens_per_second=quantile(rate, 0.5),
        input_tokens=_whole(inputs),
        output_tokens=_whole(outputs),
        cost=_sum(cost),
    )


def quantile(values: npt.ArrayLike, share: float) -> float | None:
    """The value below which *share* of those known lie (nearest rank); None without any."""
    known = np.sort(np.asarray(values, dtype=np.float64))  # NaN, the unknown, comes last
    known = known[: len(known) - np.count_nonzero(np.isnan(known))]
    return float(known[max(ceil(share * len(known)) - 1, 0)]) if len(known) else None


def _sum(values: Numbers) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.sum()) if len(known) else None


def _whole(values: Numbers) -> int | None:
    total = _sum(values)
    return None if total is None else int(total)
