"""Rows of a waterfall, each of which draws itself as wide as it is told, on one axis of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from llmwatch.view.numbers import seconds
from llmwatch.view.top.machine import Chart
from llmwatch.view.top.pieces import BARS, Line, Piece, Role, fit, level

LABEL, VALUE = 26, 17
"""Cells left of the axis: what, and when or how long."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A row with a piece of the axis. Times are seconds from the start."""

    label: Line
    value: str
    begin: float
    end: float
    sign: str = "█"
    tip: str = ""
    role: Role = "bar"
    note: str = ""

    def line(self, width: int, span: float) -> Line:
        """Draw it on an axis that is *span* seconds long."""
        room = _room(width)
        return [
            *_label(self.label, LABEL),
            Piece(fit(self.value, VALUE, right=True)),
            Piece("  "),
            *_on_axis(self, room, span),
        ]


@dataclass(frozen=True, slots=True)
class Words:
    """A row that is text all over."""

    text: Line

    def line(self, width: int, span: float) -> Line:
        """The text."""
        return self.text


@dataclass(frozen=True, slots=True)
class Heading:
    """Begins a part."""

    title: str
    remark: str = ""

    def line(self, width: int, span: float) -> Line:
        """A rule with the title."""
        room = max(width - len(self.title) - 2, 0)
        remark = f"{fit(self.remark, room).rstrip()} " if self.remark else ""
        rule = "─" * max(width - len(self.title) - len(remark) - 1, 0)
        return [Piece(f"{self.title} ", "title"), Piece(remark + rule, "dim")]


@dataclass(frozen=True, slots=True)
class Axis:
    """The scale of all bars below it."""

    def line(self, width: int, span: float) -> Line:
        """Five times along the axis."""
        room = _room(width)
        marks, end = (4 if room >= 40 else 2), seconds(span)
        times = ["0", *(seconds(span * number / marks) for number in range(1, marks))]
        text = "".join(time.ljust(room // marks) for time in times)[: room - len(end)].ljust(
            room - len(end)
        )
        return [Piece(" " * (LABEL + VALUE + 2)), Piece(text + end, "dim")]


@dataclass(frozen=True, slots=True)
class Gaps:
    """All gaps in one row, one bar each, the longest of several where they do not fit."""

    tokens: Sequence[float]

    def line(self, width: int, span: float) -> Line:
        """The highest bar stands for the 95th percentile and all above it."""
        room = _room(width)
        gaps = [after - before for before, after in pairwise(self.tokens)]
        step = -(-len(gaps) // room) or 1
        longest = [max(gaps[start : start + step]) for start in range(0, len(gaps), step)]
        top = sorted(longest)[(len(longest) - 1) * 95 // 100] if longest else 0.0
        bars = "".join(BARS[level(gap, top)] for gap in longest)
        many = f"each bar {step} gaps" if step > 1 else ""
        return [
            Piece(fit("all gaps", LABEL)),
            Piece(fit(many, VALUE, right=True), "dim"),
            Piece("  "),
            Piece(bars, "token"),
        ]


@dataclass(frozen=True, slots=True)
class During:
    """A sparkline of the machine, along the axis."""

    label: Line
    chart: Chart
    begin: int
    """Unix nanoseconds, like `end`."""
    end: int

    def line(self, width: int, span: float) -> Line:
        """Draw it: one bar a cell of the axis."""
        value = Piece(fit(self.chart.value, VALUE, right=True))
        bars = self.chart.bars(self.begin, self.end, _room(width))
        return [*_label(self.label, LABEL), value, Piece("  "), bars]


def _room(width: int) -> int:
    return max(width - LABEL - VALUE - 2, 10)


Row = Bar | Words | Heading | Axis | Gaps | During


def _label(label: Line, width: int) -> Line:
    found: Line = []
    for text, role in label:
        cut = fit(text, width).rstrip() if len(text) > width else text
        found.append(Piece(cut, role))
        width -= len(cut)
    return [*found, Piece(" " * max(width, 0))]


def _on_axis(bar: Bar, room: int, span: float) -> Line:
    first, last = bar.begin / span * room, bar.end / span * room
    if last < 0 or first > room:
        return [Piece("◂" if last < 0 else " " * room + "▸", "dim")]
    cut_before, cut_after = first < -1e-6 * room, last > room * (1 + 1e-6) + 0.5
    begin = min(max(int(first), 0), room - 1)
    end = max(min(-int(-last // 1), room), begin + 1)
    body = bar.sign * (end - begin)
    if bar.tip:
        body = body[:-1] + bar.tip
    if cut_before:
        body = "◂" + body[1:]
    if cut_after:
        body = body[:-1] + "▸"
    return [Piece(" " * begin), Piece(body, bar.role), Piece(bar.note, bar.role)]
