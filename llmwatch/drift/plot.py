"""Pictures of one key of a monitor: p-values over time, places, residuals. Needs matplotlib.

Drawn from what a monitor keeps anyway: verdicts, two numbers of each of the latest items, counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmwatch._optional import require
from llmwatch.drift.reference import Reference
from llmwatch.drift.window import Seen

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES = {
    "all": "p_value",
    "centroid": "p_centroid",
    "Mahalanobis": "p_mahalanobis",
    "residual": "p_residual",
}
GREY, ORANGE = "0.65", "tab:orange"
LEAST = 1e-12
"""Smaller p-values are drawn here."""


def draw(title: str, reference: Reference, window: Seen | None, false_alarm: float) -> Figure:
    """Three pictures beside each other; what there is nothing of yet is left empty.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure_of = require("matplotlib.figure", extra="plots").Figure
    figure: Figure = figure_of(figsize=(13, 4), layout="constrained")
    figure.suptitle(title)
    times, places, residuals = figure.subplots(1, 3)
    _times(times, window, false_alarm)
    (_ranks if reference.subspace.scalar else _places)(places, reference, window)
    _residuals(residuals, reference, window)
    return figure


def _times(axes: Any, window: Seen | None, false_alarm: float) -> None:
    judged = window.judged if window is not None else []
    axes.set(title="p-values of the verdicts", xlabel="verdict", yscale="log")
    for name, field in LINES.items():
        values = [max(getattr(each.verdict, field), LEAST) for each in judged]
        width = 2.0 if name == "all" else 0.8
        axes.plot(range(len(values)), values, "-o", ms=width * 1.5, lw=width, label=name)
    axes.axhline(false_alarm, color="black", ls="--", lw=0.8, label="false_alarm")
    for index, each in enumerate(judged):
        if each.alarm:
            axes.axvspan(index - 0.5, index + 0.5, color="red", alpha=0.12, lw=0)
    axes.legend(fontsize="small")


def _places(axes: Any, reference: Reference, window: Seen | None) -> None:
    one = reference.subspace.directions.shape[1] < 2
    names = ("first direction", "residual" if one else "second direction")
    axes.set(title="main directions of the reference", xlabel=names[0], ylabel=names[1])
    axes.scatter(*reference.sketch.T, s=8, color=GREY, label="reference")
    if window is not None and window.places:
        axes.scatter(*np.concatenate(window.places).T, s=8, color=ORANGE, label="latest")
    axes.legend(fontsize="small")


def _ranks(axes: Any, reference: Reference, window: Seen | None) -> None:
    axes.set(title="share of numbers up to", xlabel="number")
    for name, color, counts in _histograms(reference, window):
        upto = counts.cumsum()[:-1] / counts.sum()
        axes.step(reference.edges, upto, where="post", color=color, label=name)
    axes.legend(fontsize="small")


def _histograms(
    reference: Reference, window: Seen | None
) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    yield "reference", GREY, reference.counts
    if window is not None and window.state.count:
        yield "window", ORANGE, window.state.counts


def _residuals(axes: Any, reference: Reference, window: Seen | None) -> None:
    """Shares above each edge: bins that are finest in the tail make no readable bars."""
    what = "number" if reference.subspace.scalar else "residual"
    axes.set(title=f"share of {what}s above", xlabel=what, yscale="log")
    for name, color, counts in _histograms(reference, window):
        many = int(counts.sum())
        above = counts[::-1].cumsum()[::-1][1:] / many
        axes.step(reference.edges, np.maximum(above, 0.5 / many), color=color, label=name)
    axes.legend(fontsize="small")
