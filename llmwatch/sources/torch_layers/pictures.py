"""A portrait as a picture: where the time goes, what the machine allows, how the numbers are."""

from __future__ import annotations

import os
from math import sqrt
from typing import Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from llmwatch.errors import ConfigError
from llmwatch.measure.findings import MASSIVE, NEAR_IDENTITY
from llmwatch.measure.health import Health
from llmwatch.measure.portrait import LayerFacts, Portrait, part_of_block, short
from llmwatch.measure.roofline import Roof

STYLE: Final[dict[str, Any]] = {
    "axes.edgecolor": "#8a919b",
    "axes.labelcolor": "#3c434c",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.family": "sans-serif",
    "font.size": 8,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "llmwatch",
    "text.color": "#1f252d",
    "xtick.color": "#3c434c",
    "ytick.color": "#3c434c",
}
COLOURS: Final = {
    "prefill": "#2f6fb3",
    "decode": "#d9822b",
    "forward": "#2f6fb3",
    "backward": "#7a4fa3",
}
GREY: Final = "#8a919b"
ROW: Final = 0.19
"""Inches that a row of the heat map takes."""
MOST_ROWS: Final = 80


def draw(portrait: Portrait, path: str | os.PathLike[str]) -> None:
    """See `Report.plot`."""
    if not portrait.layers:
        raise ConfigError("there is nothing to draw: no forward of the model was sampled yet.")
    with rc_context(STYLE):
        figure(portrait).savefig(path, dpi=150, metadata=_undated(path))


def _undated(path: str | os.PathLike[str]) -> dict[str, Any]:
    return {"Date": None} if os.fspath(path).endswith(".svg") else {}


def figure(portrait: Portrait) -> Figure:
    """The heat map at the left; at the right, where known, the roofline and the numbers."""
    rows, columns, seconds, shares = _grid(portrait)
    beside = [
        draw
        for draw, known in (
            (_roofline, portrait.roof is not None and any(e.place for e in portrait.layers)),
            (_sizes, bool(portrait.health)),
            (_changes, any(each.cosine is not None for each in portrait.health)),
        )
        if known
    ]
    height = max(ROW * len(rows) + 1.2, 2.6 * len(beside), 3.0)
    left = 1.6 + 0.8 * len(columns)
    made = Figure(figsize=(left + (5.4 if beside else 0.6), height), layout="constrained")
    made.suptitle(
        f"Layers of {short(portrait.model)}", x=0.01, ha="left", fontsize=12, weight="bold"
    )
    if not beside:
        _heat(made.subplots(), rows, columns, seconds, shares)
        return made
    grid = made.add_gridspec(len(beside), 2, width_ratios=[left, 5.2])
    _heat(made.add_subplot(grid[:, 0]), rows, columns, seconds, shares)
    for at, each in enumerate(beside):
        each(made.add_subplot(grid[at, 1]), portrait)
    return made


# --- the heat map ---------------------------------------------------------------------------------


def _grid(portrait: Portrait) -> tuple[list[str], list[str], Any, Any]:
    """Rows, columns, seconds and shares: a row for each block or layer beside the blocks."""
    parts = any(part_of_block(each.layer) != "other" for each in portrait.layers)
    cells: dict[tuple[str, str], list[LayerFacts]] = {}
    for each in portrait.layers:
        part = part_of_block(each.layer) if each.block is not None and parts else ""
        column = f"{each.phase}\n{part}" if part else f"{each.phase}\n" if parts else each.phase
        if parts and each.block is None:
            column = f"{each.phase}\nother"
        cells.setdefault((_row(each), column), []).append(each)
    rows = list(dict.fromkeys(row for row, _ in cells))[:MOST_ROWS]
    columns = sorted({column for _, column in cells}, key=_column_order)
    seconds = np.full((len(rows), len(columns)), np.nan)
    shares = seconds.copy()
    for (row, column), members in cells.items():
        if row in rows:
            at = rows.index(row), columns.index(column)
            seconds[at] = sum(each.seconds for each in members)
            shares[at] = sum(each.share for each in members)
    return rows, columns, seconds, shares


def _row(facts: LayerFacts) -> str:
    if facts.block is not None:
        return f"block {facts.block}"
    return facts.layer or "(outside)"


def _column_order(column: str) -> tuple[int, int]:
    phase, _, part = column.partition("\n")
    phases = ["prefill", "decode", "forward", "backward"]
    parts = ["", "attention", "mlp", "other"]
    return phases.index(phase) if phase in phases else 9, parts.index(part) if part in parts else 9


def _heat(axes: Axes, rows: list[str], columns: list[str], seconds: Any, shares: Any) -> None:
    image = axes.imshow(shares * 100, aspect="auto", cmap="YlGnBu", vmin=0)
    axes.set_title("Own time in ms, coloured by its share of the phase")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)
    top = np.nanmax(shares)
    for at, value in np.ndenumerate(seconds):
        if not np.isnan(value):
            colour = "white" if shares[at] > 0.6 * top else "#1f252d"
            axes.text(
                at[1], at[0], f"{value * 1e3:.3g}", ha="center", va="center", fontsize=7,
                color=colour,
            )  # fmt: skip
    bar = axes.figure.colorbar(image, ax=axes, location="bottom", aspect=40, shrink=0.9, pad=0.01)
    bar.outline.set_visible(False)
    bar.set_label("% of the phase")


# --- the roofline ---------------------------------------------------------------------------------


def _roofline(axes: Axes, portrait: Portrait) -> None:
    roof = portrait.roof
    assert roof is not None
    placed = [(each, each.place) for each in portrait.layers if each.place is not None]
    low = min(*(place.intensity for _, place in placed), roof.ridge) / 3
    high = max(*(place.intensity for _, place in placed), roof.ridge) * 3
    _draw_roof(axes, roof, low, high)
    for phase in sorted({facts.phase for facts, _ in placed}, key=_column_order):
        mine = [(facts, place) for facts, place in placed if facts.phase == phase]
        axes.scatter(
            [place.intensity for _, place in mine],
            [place.rate / 1e9 for _, place in mine],
            [12 + 400 * facts.share for facts, _ in mine],
            color=COLOURS.get(phase, GREY), alpha=0.65, linewidths=0, label=phase, zorder=3,
        )  # fmt: skip
        facts, place = max(mine, key=lambda each: each[0].share)
        under_the_roof = place.rate > roof.attainable(place.intensity) / 3
        axes.annotate(
            facts.layer.rpartition(".")[2] if facts.block is None else f"block {facts.block}",
            (place.intensity, place.rate / 1e9), textcoords="offset points",
            xytext=(8, -12 if under_the_roof else 6), fontsize=7, color=COLOURS.get(phase, GREY),
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(low, high))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title(f"Roofline of {roof.device} in {roof.dtype}: a dot a layer, sized by time")
    axes.set_xlabel("FLOPs a byte")
    axes.set_ylabel("GFLOP/s")
    legend = axes.legend(loc="lower right")
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([30])


def _draw_roof(axes: Axes, roof: Roof, low: float, high: float) -> None:
    xs = np.geomspace(low, high, 200)
    axes.plot(xs, [roof.attainable(x) / 1e9 for x in xs], color="#1f252d", lw=1.4)
    axes.axvline(roof.ridge, color=GREY, lw=0.8, ls=":")
    axes.text(
        high, roof.flops / 1e9, f"{roof.flops / 1e9:,.0f} GFLOP/s", ha="right", va="bottom",
    )  # fmt: skip
    middle = sqrt(low * roof.ridge)
    axes.annotate(
        f"{roof.bandwidth / 1e9:,.0f} GB/s", (middle, roof.attainable(middle) / 1e9),
        xytext=(-4, 3), textcoords="offset points", ha="right",
    )  # fmt: skip


# --- numbers --------------------------------------------------------------------------------------


def _sizes(axes: Axes, portrait: Portrait) -> None:
    health = portrait.health
    xs = range(len(health))
    axes.plot(xs, _values(health, "abs_max"), color="#b5372f", lw=1.4, label="largest")
    axes.plot(xs, _values(health, "typical"), color="#2f6fb3", lw=1.4, label="typical (RMS)")
    axes.axhline(MASSIVE, color=GREY, lw=0.8, ls=":")
    limits = {each.limit for each in health}
    if min(limits) < 1e6:
        axes.axhline(min(limits), color="#b5372f", lw=0.8, ls="--")
    axes.set_yscale("log")
    axes.set_title("Magnitude of what blocks put out")
    axes.legend(loc="best")
    _by_block(axes, health)


def _changes(axes: Axes, portrait: Portrait) -> None:
    health = portrait.health
    values = 1 - _values(health, "cosine")
    colours = ["#d9822b" if each <= 1 - NEAR_IDENTITY else "#2f6fb3" for each in values]
    axes.vlines(range(len(health)), 1 - NEAR_IDENTITY, values, colors=colours, lw=1.4, alpha=0.6)
    axes.scatter(range(len(health)), values, color=colours, s=16, zorder=3)
    axes.axhline(1 - NEAR_IDENTITY, color=GREY, lw=0.8, ls=":")
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title("1 - cosine of input and output; orange: does little")
    _by_block(axes, health)


def _values(health: tuple[Health, ...], name: str) -> Any:
    found = [getattr(each, name) for each in health]
    return np.array([np.nan if each is None else each for each in found])


def _by_block(axes: Axes, health: tuple[Health, ...]) -> None:
    axes.set_xlim(-0.7, len(health) - 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("block" if health[0].block is not None else "layer")
