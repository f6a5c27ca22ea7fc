"""Lines of a terminal before they have colours: pieces of text, each with a role.

Everything a role says is in the text too, so that a line reads without colours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import isfinite
from typing import Literal, NamedTuple

from rich.cells import cell_len, set_cell_size

Hot = Literal["hot0", "hot1", "hot2", "hot3", "hot4", "hot5", "hot6", "hot7"]
Role = Literal["plain", "dim", "title", "name", "ok", "warn", "bad", "bar", "token", "cursor"] | Hot

HEAT: tuple[Role, ...] = ("hot0", "hot1", "hot2", "hot3", "hot4", "hot5", "hot6", "hot7")
BARS = "▁▂▃▄▅▆▇█"


class Piece(NamedTuple):
    """Some text, and what it means."""

    text: str
    role: Role = "plain"


Line = list[Piece]

NOTHING = Piece("·", "dim")
"""What is not known."""


def clean(text: str) -> str:
    """Text from a store, without what would move a terminal's cursor."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "·" for c in text)


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Exactly *width* cells: padded, or cut with an ellipsis."""
    cells = cell_len(text)
    if cells > width:
        return set_cell_size(text, max(width - 1, 0)) + "…" if width > 0 else ""
    blank = " " * (width - cells)
    return blank + text if right else text + blank


def plain(line: Line) -> str:
    """A line without roles or blanks at its end."""
    return "".join(piece.text for piece in line).rstrip()


def width_of(line: Line) -> int:
    """Cells."""
    return sum(cell_len(piece.text) for piece in line)


def joined(parts: Iterable[Line], between: str = "  ") -> Line:
    """Lines one after the other."""
    found: Line = []
    for part in parts:
        found += [Piece(between), *part] if found else part
    return found


def wrapped(parts: Sequence[Line], width: int, between: str = "  ") -> list[Line]:
    """The same in as many lines as it takes; no part is torn."""
    lines: list[Line] = []
    for part in parts:
        if lines and width_of(lines[-1]) + cell_len(between) + width_of(part) <= width:
            lines[-1] = [*lines[-1], Piece(between), *part]
        else:
            lines.append(list(part))
    return lines


def level(value: float, top: float, levels: int = len(BARS)) -> int:
    """Which of *levels* steps from 0 to *top* a value has reached, from 0 on."""
    if top <= 0 or not isfinite(value / top):
        return 0
    share = min(max(value / top, 0.0), 1.0)  # else times `levels` it may be infinite
    return min(int(share * levels), levels - 1)


def spark(values: Iterable[float | None], top: float) -> str:
    """One bar a value; a blank where there is none."""
    return "".join(" " if value is None else BARS[level(value, top)] for value in values)


def slots(
    times: Sequence[int], values: Sequence[float], begin: int, end: int, number: int
) -> list[float | None]:
    """A gauge by time: the highest value in each of *number* slots from *begin* to *end*.

    A slot without a reading shows the one before, as long as that may still hold: for one and a
    half times the usual time between two readings. Otherwise it is None.
    """
    found: list[float | None] = [None] * number
    if not times or end <= begin or number < 1:
        return found
    width = (end - begin) / number
    for time, value in zip(times, values, strict=True):
        slot = min((time - begin) * number // (end - begin), number - 1)
        if begin <= time <= end and isfinite(value):
            known = found[slot]
            found[slot] = value if known is None else max(known, value)
    return _held(found, _usual(times) / width)


def _usual(times: Sequence[int]) -> float:
    gaps = sorted(after - before for before, after in pairwise(times))
    return gaps[len(gaps) // 2] if gaps else 0.0


def _held(found: list[float | None], usual: float) -> list[float | None]:
    held: list[float | None] = []
    since = 0
    for value in found:
        since = 0 if value is not None else since + 1
        last = held[-1] if held else None
        held.append(last if value is None and since <= usual * 1.5 else value)
    return held
