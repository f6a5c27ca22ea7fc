"""Drift lights and findings: what is wrong now, then what was."""

from __future__ import annotations

from collections.abc import Sequence

from llmwatch.view.numbers import age
from llmwatch.view.records import DriftLight, Finding
from llmwatch.view.top.columns import clock
from llmwatch.view.top.pieces import Line, Piece, clean, fit


def lines(
    drift: Sequence[DriftLight], findings: Sequence[Finding], now: int, width: int
) -> list[Line]:
    """One line a monitor and key, alarms first; then findings, those still raised first."""
    drawn = [light(each, now) for each in sorted(drift, key=lambda each: not each.alarm)]
    raised = sorted(findings, key=lambda each: (each.cleared is not None, -each.raised))
    return drawn + [finding(each, now, width) for each in raised]


def light(each: DriftLight, now: int) -> Line:
    """A monitor: its state in a word, and what it rests on."""
    state = Piece("▲ DRIFT ", "bad") if each.alarm else Piece("● steady ", "ok")
    name = "/".join(clean(part) for part in (each.monitor, each.key) if part)
    line: Line = [state, Piece(name, "name")]
    for label, value in (
        ("p", each.p_value),
        ("effect", each.effect),
        ("centroid", each.centroid),
        ("of", each.embeddings),
    ):
        if value is not None:
            line += [Piece(f"  {label} ", "dim"), Piece(f"{value:.2g}" if label != "of" else
                                                        f"{value:.0f}")]  # fmt: skip
    return [*line, Piece(f"  {age((now - each.time) / 1e9)} ago", "dim")]


def finding(each: Finding, now: int, width: int) -> Line:
    """A finding: raised, or cleared meanwhile."""
    if each.cleared is None:
        mark, role = Piece("! ", "warn"), "plain"
        when = f"{age((now - each.raised) / 1e9)} ago"
    else:
        mark, role = Piece("✓ ", "ok"), "dim"
        when = f"{clock(each.raised)} to {clock(each.cleared)}"
    text = clean(each.text or each.kind)
    kind = Piece(f"{clean(each.kind)} ", "warn" if each.cleared is None else "dim")
    room = max(width - len(kind.text) - len(when) - 4, 10)
    body = Piece(fit(text, room).rstrip(), "plain" if role == "plain" else "dim")
    return [mark, kind, body, Piece(f"  {when}", "dim")]
