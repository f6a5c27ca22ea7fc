"""Tables as lines: which columns there is room for, how wide they are, the order of the rows."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from llmwatch.view.top.columns import Column, RowT
from llmwatch.view.top.pieces import Line, Piece, fit

LEAST, ENOUGH = 10, 18
"""Cells that a column takes at least which takes what is left; and those that it should have before
others are there."""


def told(columns: Sequence[Column[RowT]], rows: Sequence[RowT]) -> list[Column[RowT]]:
    """The columns in which there is anything."""
    return [
        column
        for column in columns
        if column.rank == 0 or not rows or any(column.key(row) is not None for row in rows)
    ]


def fitted(
    columns: Sequence[Column[RowT]], rows: Sequence[RowT], width: int
) -> list[tuple[Column[RowT], int]]:
    """Those that there is room for, the least important left out first, and their widths."""
    kept = list(columns)
    wanted = {id(column): _wanted(column, rows) for column in columns if not column.width}

    def least(enough: int) -> int:
        return sum((c.width or min(wanted[id(c)], enough)) + 1 for c in kept) - 1

    while width < least(ENOUGH) and any(column.rank > 2 for column in kept):
        kept.remove(max(reversed(kept), key=lambda column: column.rank))
    while width < least(LEAST) and any(column.rank for column in kept):
        kept.remove(max(reversed(kept), key=lambda column: column.rank))
    left = width - least(LEAST)
    flexible = [column for column in kept if not column.width]
    found = {}
    for number, column in enumerate(sorted(flexible, key=lambda column: wanted[id(column)])):
        share = max(left, 0) // (len(flexible) - number)  # who needs less leaves more to others
        found[id(column)] = min(wanted[id(column)], LEAST + share)
        left -= found[id(column)] - min(wanted[id(column)], LEAST)
    return [(column, found.get(id(column), column.width)) for column in kept]


def pages(
    columns: Sequence[Column[RowT]], rows: Sequence[RowT], width: int
) -> list[list[tuple[Column[RowT], int]]]:
    """Layouts that show all of them one after the other: after the first, what had no room there.

    What names a row, the columns of texts without a width, is on each.
    """
    found = [fitted(columns, rows, width)]
    left = _without(columns, found[0])
    while any(column.width for column in left):
        page = fitted([c for c in columns if c in left or not c.width], rows, width)
        fewer = _without(left, page)
        if len(fewer) == len(left):
            return found  # a screen that is too narrow even for one
        found.append(page)
        left = fewer
    return found


def _without(
    columns: Sequence[Column[RowT]], page: Sequence[tuple[Column[RowT], int]]
) -> list[Column[RowT]]:
    shown = [column for column, _ in page]
    return [column for column in columns if column not in shown]


def _wanted(column: Column[RowT], rows: Sequence[RowT]) -> int:
    """What a column without a width needs to be read."""
    return max([len(column.title) + 1, *(cell_len(column.cell(row).text) for row in rows)])


def ordered(rows: Sequence[RowT], column: Column[RowT], *, falling: bool = True) -> list[RowT]:
    """Rows by one column, equal ones as they were; unknown ones last."""
    known = [row for row in rows if column.key(row) is not None]
    unknown = [row for row in rows if column.key(row) is None]

    def key(row: RowT) -> tuple[float, str]:
        value = column.key(row)
        return (0.0, value.casefold()) if isinstance(value, str) else (value or 0.0, "")

    return sorted(known, key=key, reverse=falling) + unknown


def heading(
    layout: Sequence[tuple[Column[RowT], int]],
    sorted_by: Column[RowT] | None,
    *,
    falling: bool = True,
) -> Line:
    """The line above the rows; an arrow is beside what they are sorted by."""
    line: Line = []
    for column, width in layout:
        mine = column is sorted_by
        title = column.title + (("▼" if falling else "▲") if mine else "")
        if len(title) > width > 0:
            title = title.replace(" ", "")
        line += [
            Piece(fit(title, width, right=column.right), "title" if mine else "dim"),
            Piece(" "),
        ]
    return line[:-1]


def cells(layout: Sequence[tuple[Column[RowT], int]], row: RowT) -> Line:
    """One row."""
    line: Line = []
    for column, width in layout:
        text, role = column.cell(row)
        line += [Piece(fit(text, width, right=column.right), role), Piece(" ")]
    return line[:-1]
