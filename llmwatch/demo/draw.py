"""What all parts of the demo are drawn with: tables and bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

MEDIUM, WIDE = 100, 116
"""Characters in a line from which on there is room for more, and for everything."""

BARS = "▁▂▃▄▅▆▇█"
STALL = 1.0
"""Seconds from which on a gap is drawn as a stall: llmwatch's default."""

NOTHING = Text("·", style="dim")


def table(title: str, source: str) -> Table:
    """An empty table with a heading, and beside that a remark."""
    heading = Text(title, style="bold").append(f"  {source}", style="dim not bold")
    return Table(
        title=heading,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=0,
        header_style="dim",
    )


def sparkline(gaps: Sequence[float], width: int, *, stall: float = STALL) -> Text:
    """One bar a gap, the longest of several where they do not fit; a stall is red.

    The highest bar stands for the 95th percentile and all above it, so that one long gap does
    not flatten the others.
    """
    step = -(-len(gaps) // width) or 1
    longest = [max(gaps[start : start + step]) for start in range(0, len(gaps), step)]
    top = sorted(longest)[(len(longest) - 1) * 95 // 100] if longest else 0.0
    text = Text()
    for gap in longest:
        bar = BARS[min(int(gap / (top or 1.0) * (len(BARS) - 1)), len(BARS) - 1)]
        text.append(bar, "bold red" if gap >= stall else "cyan")
    return text


def or_nothing(value: float | None, show: Callable[[float], str]) -> RenderableType:
    """What is not known is a dot."""
    return NOTHING if value is None else show(value)
