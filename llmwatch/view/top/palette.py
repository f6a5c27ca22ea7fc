"""What each role looks like, in the colours of the theme that is set."""

from __future__ import annotations

from collections.abc import Mapping

from rich.style import Style
from textual.color import Color, Gradient
from textual.theme import Theme

from llmwatch.view.top.pieces import HEAT, Role

DARK = Theme(
    name="llmwatch-dark",
    primary="#539bf5",
    secondary="#39c5cf",
    accent="#f4a048",
    warning="#daaa3f",
    error="#f47067",
    success="#57ab5a",
    foreground="#d6dde6",
    background="#171b22",
    surface="#171b22",
    panel="#222833",
    dark=True,
    variables={"heat-low": "#4a90c8", "heat-high": "#ff9d45"},
)
LIGHT = Theme(
    name="llmwatch-light",
    primary="#0b5cad",
    secondary="#0f6f78",
    accent="#a34a00",
    warning="#8a5a00",
    error="#b3261e",
    success="#1f7034",
    foreground="#1f2530",
    background="#fbfbf9",
    surface="#fbfbf9",
    panel="#e9ecf0",
    dark=False,
    variables={"heat-low": "#5b8fc2", "heat-high": "#b33a00"},
)


def styles(variables: Mapping[str, str]) -> dict[Role, Style]:
    """The style of each role."""

    def colour(name: str, *, bold: bool = False, dim: bool = False) -> Style:
        found = Color.parse(variables[name])
        return Style(color=found.rich_color, bold=bold or None, dim=dim or None)

    found: dict[Role, Style] = {
        "plain": Style.null(),
        "dim": Style(dim=True),
        "title": Style(bold=True),
        "name": colour("secondary"),
        "ok": colour("success"),
        "warn": colour("warning", bold=True),
        "bad": colour("error", bold=True),
        "bar": colour("primary"),
        "token": colour("secondary"),
        "cursor": _cursor(variables),
    }
    return found | _heat(variables)


def _cursor(variables: Mapping[str, str]) -> Style:
    """What is put below the row of the cursor."""
    below, over = Color.parse(variables["background"]), Color.parse(variables["primary"])
    if below.ansi is not None or over.ansi is not None:
        return Style(reverse=True)
    return Style(bgcolor=below.blend(over, 0.3, 1.0).rich_color)


def _heat(variables: Mapping[str, str]) -> dict[Role, Style]:
    low = Color.parse(variables.get("heat-low", variables["primary"]))
    high = Color.parse(variables.get("heat-high", variables["error"]))
    if low.ansi is not None or high.ansi is not None:  # nothing lies between two of sixteen
        half = len(HEAT) // 2
        return {
            role: Style(color=(low if at < half else high).rich_color)
            for at, role in enumerate(HEAT)
        }
    mixed = Gradient((0.0, low), (1.0, high))
    return {
        role: Style(color=mixed.get_color(at / (len(HEAT) - 1)).rich_color)
        for at, role in enumerate(HEAT)
    }
