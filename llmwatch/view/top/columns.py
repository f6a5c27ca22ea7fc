"""The columns of the tables: what each shows, how wide, and by what it sorts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from llmwatch.view.numbers import dollars, per, rate, seconds
from llmwatch.view.records import OperationRow, RequestRow
from llmwatch.view.top.pieces import NOTHING, Piece, Role, clean

RowT = TypeVar("RowT")
Key = float | str | None


@dataclass(frozen=True, slots=True)
class Column(Generic[RowT]):
    """One column.

    Attributes:
        title: Its heading.
        width: Cells; 0: what the others leave.
        cell: What it shows of a row.
        key: What it sorts by; None is last either way.
        rank: 0 is always there; of the others the highest go first where there is no room.
    """

    title: str
    width: int
    cell: Callable[[RowT], Piece]
    key: Callable[[RowT], Key]
    rank: int = 0

    @property
    def right(self) -> bool:
        """Whether numbers are in it."""
        return self.width > 0 and not isinstance(self.cell, _Words)


@dataclass(frozen=True, slots=True)
class _Words(Generic[RowT]):
    """Shows a text; a missing one is a dot."""

    text: Callable[[RowT], str | None]
    role: Role = "plain"

    def __call__(self, row: RowT) -> Piece:
        found = self.text(row)
        return NOTHING if found is None else Piece(clean(found), self.role)


def words(
    title: str,
    width: int,
    text: Callable[[RowT], str | None],
    rank: int = 0,
    role: Role = "plain",
) -> Column[RowT]:
    """A column of texts, in the order of letters."""
    return Column(title, width, _Words(text, role), text, rank)


def number(
    title: str,
    width: int,
    value: Callable[[RowT], float | None],
    show: Callable[[float], str],
    rank: int = 0,
    role: Role = "plain",
) -> Column[RowT]:
    """A column of numbers; a missing one is a dot."""

    def cell(row: RowT) -> Piece:
        found = value(row)
        return NOTHING if found is None else Piece(show(found), role)

    return Column(title, width, cell, value, rank)


def count(value: float) -> str:
    """A whole number in at most six characters."""
    return f"{value:.0f}" if value < 99_999.5 else f"{value / 1e3:.3g}k" if value < 1e6 else (
        f"{value / 1e6:.3g}M"
    )  # fmt: skip


def model(name: str | None) -> str | None:
    """A model's name; of one that was loaded from a folder, the last part of its path."""
    return name.rstrip("/").rpartition("/")[2] if name and name.startswith("/") else name


def _errors(row: OperationRow) -> Piece:
    if not row.errors:
        return Piece("0", "dim")
    return Piece(f"{count(row.errors)} {row.errors / row.count:>4.0%}", "bad")


OPERATIONS: tuple[Column[OperationRow], ...] = (
    words("operation", 15, lambda row: row.operation, 4),
    words("model", 0, lambda row: model(row.model), role="name"),
    words("route", 0, lambda row: row.route, 2),
    number("count", 6, lambda row: row.count, count),
    number("rate", 7, lambda row: row.rate, per, 1),
    Column("errors", 8, _errors, lambda row: row.errors),
    number("TTFT p50", 8, lambda row: row.ttft_p50, seconds),
    number("TTFT p95", 8, lambda row: row.ttft_p95, seconds, 2),
    number("ITL p50", 7, lambda row: row.itl_p50, seconds, 3),
    number("ITL p95", 7, lambda row: row.itl_p95, seconds, 6),
    number("time p50", 8, lambda row: row.duration_p50, seconds, 1),
    number("time p95", 8, lambda row: row.duration_p95, seconds, 5),
    number("tok/s", 6, lambda row: row.tokens_per_second, rate, 3),
    number("in", 6, lambda row: row.input_tokens, count, 8),
    number("out", 6, lambda row: row.output_tokens, count, 7),
    number("cost $", 8, lambda row: row.cost, dollars, 3),
)

MARKS: dict[str, Piece] = {
    "ok": Piece("✓", "ok"),
    "error": Piece("✗", "bad"),
    "left": Piece("○", "warn"),
}
"""Whole, failed, left by the program before its end."""


def clock(time: int) -> str:
    """The hour here, of Unix nanoseconds."""
    return datetime.fromtimestamp(time / 1e9, UTC).astimezone().strftime("%H:%M:%S")


def _error(row: RequestRow) -> Piece:
    if row.error is not None:
        return Piece(clean(row.error), "bad")
    return Piece("left early", "warn") if row.outcome == "left" else Piece("")


_began: _Words[RequestRow] = _Words(lambda row: clock(row.start), "dim")

REQUESTS: tuple[Column[RequestRow], ...] = (
    Column("", 1, lambda row: MARKS[row.outcome], lambda row: row.outcome),
    Column("began", 8, _began, lambda row: row.start),
    words("service", 12, lambda row: row.service, 9),
    words("operation", 15, lambda row: row.operation, 6),
    words("model", 0, lambda row: model(row.model), role="name"),
    words("route", 0, lambda row: row.route, 2),
    number("TTFT", 7, lambda row: row.ttft, seconds),
    number("gap p50", 7, lambda row: row.gap_p50, seconds, 4),
    number("gap p95", 7, lambda row: row.gap_p95, seconds, 5),
    number("time", 7, lambda row: row.duration, seconds),
    number("in", 6, lambda row: row.input_tokens, count, 7),
    number("out", 6, lambda row: row.output_tokens, count, 3),
    number("tok/s", 6, lambda row: row.token_rate, rate, 1),
    number("cost $", 8, lambda row: row.cost, dollars, 5),
    Column("error", 0, _error, lambda row: _error(row).text or None, 1),
)
