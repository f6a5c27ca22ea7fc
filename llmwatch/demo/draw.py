"""What all parts of the demo are drawn with: numbers in few characters, tables, bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor, log10

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


def seconds(value: float) -> str:
    """A duration in at most six characters: ``210 µs``, ``21 ms``, ``1.12 s``, ``123 s``."""
    if value < 0.0009995:
        return f"{value * 1e6:.0f} µs"
    if value < 0.9995:
        return f"{value * 1e3:.0f} ms" if value >= 0.00995 else f"{value * 1e3:.1f} ms"
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} s"


def dollars(value: float) -> str:
    """An amount in two significant digits, never in exponents: ``0.00034``."""
    if 0 < value < 1e-5:
        return "<0.00001"
    digits = 2 if value >= 0.1 or value <= 0 else 1 - floor(log10(value))
    return f"{value:.{min(digits, 6)}f}"


def rate(value: float) -> str:
    """Something per second, in at most five characters: ``4.6``, ``46``, ``46.2k``."""
    if value < 9.95:
        return f"{value:.1f}"
    return f"{value:.0f}" if value < 9999.5 else f"{value / 1e3:.3g}k"


def size(value: float) -> str:
    """Bytes, or anything else, in thousands, millions, …: ``135 M``."""
    for unit in ("", " k", " M", " G"):
        if value < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g} T"
