"""Drift lights and findings: what is wrong now, then what was."""

from __future__ import annotations

from collections.abc import Sequence

from llmwatch.view.numbers import age
from llmwatch.view.records import DriftLight, Finding
from llmwatch.view.top.columns import clock
from llmwatch.view.top.pieces import Line, Piece, Role, clean, wrapped


def lines(
    drift: Sequence[DriftLight], findings: Sequence[Finding], now: int, width: int
) -> list[Line]:
    """One line a monitor and key, alarms first; then findings, those still raised first."""
    drawn = [
        line
        for each in sorted(drift, key=lambda each: not each.alarm)
        for line in light(each, now, width)
    ]
    raised = sorted(findings, key=lambda each: (each.cleared is not None, -each.raised))
    return drawn + [line for each in raised for line in finding(each, now, width)]


def light(each: DriftLight, now: int, width: int) -> list[Line]:
    """A monitor: its state in a word, and what it rests on."""
    state = Piece("▲ DRIFT ", "bad") if each.alarm else Piece("● steady ", "ok")
    name = "/".join(clean(part) for part in (each.monitor, each.key) if part)
    told = (
        ("p", None if each.p_value is None else f"{each.p_value:.2g}"),
        ("effect", None if each.effect is None else f"{each.effect:.0%}"),
        ("centroid", None if each.centroid is None else f"{each.centroid:.2f}"),
        ("of", None if each.embeddings is None else f"{each.embeddings:,}"),
    )
    parts: list[Line] = [[state, Piece(name, "name")]]
    parts += [[Piece(f"{label} ", "dim"), Piece(text)] for label, text in told if text is not None]
    parts.append([Piece(f"{age((now - each.time) / 1e9)} ago", "dim")])
    return indented(wrapped(parts, width - 2))


def finding(each: Finding, now: int, width: int) -> list[Line]:
    """A finding, raised or cleared meanwhile: which, since when; below that its text."""
    role: Role
    if each.cleared is None:
        mark, role = Piece("! ", "warn"), "plain"
        when = f"for {age((now - each.raised) / 1e9)}"
    else:
        mark, role = Piece("✓ ", "ok"), "dim"
        when = f"{clock(each.raised)} to {clock(each.cleared)}"
    kind = Piece(clean(each.kind), "warn" if each.cleared is None else "dim")
    words: list[Line] = [[Piece(word, role)] for word in clean(each.text).split()]
    parts = wrapped([[mark, kind], [Piece(when, "dim")]], width)
    return parts + [[Piece("  "), *line] for line in wrapped(words, width - 2, " ")]


def indented(lines: Sequence[Line]) -> list[Line]:
    """All lines but the first two cells further in."""
    return [*lines[:1], *([Piece("  "), *line] for line in lines[1:])]
