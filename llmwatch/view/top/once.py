"""One look as plain text, for scripts and for where no terminal is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from llmwatch.view.top import hints, layers, machine, signs, status
from llmwatch.view.top.columns import OPERATIONS, REQUESTS, Column
from llmwatch.view.top.frame import Frame
from llmwatch.view.top.layout import cells, fitted, heading, told
from llmwatch.view.top.pieces import Line, plain

RowT = TypeVar("RowT")

REQUEST_LINES = 20
"""Requests that are printed."""


def text(frame: Frame, width: int, where: Path | None = None) -> str:
    """All panels that have anything, one below the other, in lines of at most *width* cells."""
    if frame.latest is None:
        return _joined(hints.nothing_yet(where, None))
    head = [status.top(frame.look, frame, "live")[4:]]  # without name and state
    parts: list[tuple[str, Callable[[int], list[Line]]]] = [
        ("Operations", lambda width: _table(OPERATIONS, frame.operations, width)),
        ("Machine", lambda width: machine.lines(frame, width)),
        ("Layers", lambda width: layers.lines(frame.layers, width)),
        (
            "Drift and findings",
            lambda width: signs.lines(frame.drift, frame.findings, frame.time, width),
        ),
        ("Requests", lambda width: _table(REQUESTS, frame.requests[:REQUEST_LINES], width)),
    ]
    found = [_joined(head)]
    found += [f"{title}\n{_joined(lines)}" for title, build in parts if (lines := build(width))]
    if not frame.requests:
        found.append(_joined(hints.nothing_now(frame)))
    return "\n\n".join(found)


def _joined(lines: Sequence[Line]) -> str:
    return "\n".join(plain(line) for line in lines)


def _table(columns: Sequence[Column[RowT]], rows: Sequence[RowT], width: int) -> list[Line]:
    if not rows:
        return []
    layout = fitted(told(columns, rows), rows, width)
    return [heading(layout, None), *(cells(layout, row) for row in rows)]
