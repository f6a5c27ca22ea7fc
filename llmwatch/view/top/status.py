"""The lines above the panels: what is looked at, its sums; where there is no room, the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from llmwatch.semconv_hardware import GPU_METRICS, HW_GPU_TASK, HW_NAME, PROCESS_METRICS
from llmwatch.view.numbers import dollars, per
from llmwatch.view.records import Series
from llmwatch.view.top.columns import count
from llmwatch.view.top.frame import RANGES, Frame, Look
from llmwatch.view.top.lines import Lines
from llmwatch.view.top.machine import memory, percent, watts
from llmwatch.view.top.pieces import Line, Piece, clean, joined

State = Literal["live", "paused", "opening", "error"]

STATES: dict[State, Piece] = {
    "live": Piece("● live", "ok"),
    "paused": Piece("‖ paused", "warn"),
    "opening": Piece("… opening", "warn"),
    "error": Piece("✗ cannot read", "bad"),
}


def name(back: float | None) -> str:
    """A range of time by its name."""
    known = next((name for name, seconds in RANGES.items() if seconds == back), None)
    if back is None:
        return "all time"
    return f"last {known or f'{back:g}s'}"


def top(look: Look, frame: Frame | None, state: State) -> Line:
    """What is looked at, and its sums."""
    by = look.by
    parts: list[Line] = [
        [Piece("llmwatch", "title")],
        [STATES[state]],
        [Piece(name(look.back))],
    ]
    parts += [[Piece(clean(by.service), "name")]] if by.service else []
    parts += [[Piece(f"{label} ", "dim"), Piece(text, "warn")] for label, text in _filters(look)]
    if frame is not None:
        parts += _sums(frame)
    return joined(parts, "  ")


def _filters(look: Look) -> list[tuple[str, str]]:
    by = look.by
    named = [("operation", by.operation), ("model", by.model), ("route", by.route)]
    found = [(label, clean(text)) for label, text in named if text is not None]
    found += [("only", "errors")] if by.errors else []
    return found + ([("/", clean(by.text))] if by.text else [])


def _sums(frame: Frame) -> list[Line]:
    number, errors = frame.count, frame.errors
    parts: list[Line] = [
        [Piece(f"{number:,}"), Piece(" operation" if number == 1 else " operations", "dim")]
    ]
    if number:
        parts.append([Piece(per(sum(row.rate for row in frame.operations)))])
    if errors:
        share = f"{errors / number:.1%}"
        parts.append([Piece(f"{count(errors)} failed, {share}", "bad")])
    if frame.cost is not None:
        parts.append([Piece(f"${dollars(frame.cost)}")])
    return parts


def strip(frame: Frame) -> Line:
    """Machine, layers, drift and findings in one line, for where their panels have no room."""
    parts: list[Line] = []
    gpus = sorted({str(each.attributes[HW_NAME]) for each in frame.machine
                   if HW_NAME in each.attributes})  # fmt: skip
    for gpu in gpus:
        mine = [each for each in frame.machine if each.attributes.get(HW_NAME) == gpu]
        parts.append([Piece(f"{clean(gpu)} ", "dim"), Piece(" ".join(_gpu(mine)))])
    cpu = _last(frame.machine, PROCESS_METRICS["cpu_utilization"].name)
    held = _last(frame.machine, PROCESS_METRICS["memory"].name)
    if cpu is not None:
        parts.append([Piece("CPU ", "dim"), Piece(percent(cpu))])
    if held is not None:
        parts.append([Piece("RSS ", "dim"), Piece(memory(held))])
    alarms = [each for each in frame.drift if each.alarm]
    if frame.drift:
        text = f"▲ {len(alarms)} drifting" if alarms else "● steady"
        parts.append([Piece("drift ", "dim"), Piece(text, "bad" if alarms else "ok")])
    if raised := [each for each in frame.findings if each.cleared is None]:
        word = "finding" if len(raised) == 1 else "findings"
        parts.append([Piece(f"! {len(raised)} {word}", "warn")])
    return joined(parts, "  ")


def _gpu(found: Sequence[Series]) -> list[str]:
    general = [each for each in found if each.attributes.get(HW_GPU_TASK, "general") == "general"]
    values = (
        (_last(general, GPU_METRICS["utilization"].name), percent),
        (_last(found, GPU_METRICS["memory"].name), memory),
        (_last(found, GPU_METRICS["power"].name), watts),
    )
    return [show(value) for value, show in values if value is not None]


def _last(found: Sequence[Series], metric: str) -> float | None:
    mine = [each for each in found if each.metric == metric and each.values]
    return max(mine, key=lambda each: each.times[-1]).values[-1] if mine else None


class Status(Lines, can_focus=False):
    """One line without a border."""

    DEFAULT_CSS = """
    Status { height: 1; border: none; padding: 0 1; background: $panel; }
    """

    def __init__(self, *, id: str) -> None:  # noqa: A002 - as in all of textual
        super().__init__("", id=id)

    def say(self, line: Line) -> None:
        """Show another line."""
        self.show(lambda width: [line])
