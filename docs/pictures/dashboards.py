"""Draw the dashboards of a program under load: docs/pictures/dashboard-*.png.

    python -m docs.pictures.dashboards

It is no screenshot of Grafana: a real Prometheus scrapes the program of the tests, is asked the
expressions of the files that are shipped, and what it answers is drawn where the panels are.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from io import BytesIO
from pathlib import Path
from time import sleep, time
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from tests import fake_nvml, fake_torch
from tests.dashboards import shipped
from tests.dashboards.scraping import Prometheus, free_port, prometheus
from tests.dashboards.test_live import program

SECONDS, STEP, RATE = 90, 2, "20s"
VARIABLES = dict.fromkeys(("service", "instance", "model", "monitor"), ".*")
VARIABLES |= {"__rate_interval": RATE, "__range": f"{SECONDS}s"}
HERE = Path(__file__).parent
COLUMN, LINE = 0.5, 0.3
"""Inches of Grafana's grid."""
SCALES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"), (1e-6, "µ"))
DIVIDED = {"s"}
"""Units of which there are thousandths."""
UNITS = {"s": "s", "bytes": "B", "Bps": "B/s", "watt": "W", "hertz": "Hz", "reqps": "/s"}
UNITS |= {"cps": "/s", "ops": "/s", "celsius": "°C", "currencyUSD": "$", "short": "", "none": ""}


def written(value: float, unit: str) -> str:
    """A number with its unit, as short as Grafana writes it."""
    if unit == "percentunit":
        return f"{value:.3g}".rstrip(".") if value == 0 else f"{100 * value:.3g} %"
    name = UNITS.get(unit, unit.removeprefix("suffix:"))
    for scale, prefix in SCALES:
        if abs(value) >= scale and (scale >= 1 or unit in DIVIDED):
            return f"{value / scale:.3g} {prefix}{name}".strip()
    return f"{value:.3g} {name}".strip()


class Answers:
    """What Prometheus says to the queries of panels."""

    def __init__(self, server: Prometheus, start: float, end: float) -> None:
        self.server, self.start, self.end = server, start, end

    def of(self, panel: dict[str, Any]) -> list[tuple[str, list[float], list[float]]]:
        """Name, times and values of each series of a panel."""
        found = []
        for target in panel["targets"]:
            expression = shipped.interpolated(target["expr"], VARIABLES)
            asked = {"query": expression, "start": self.start, "end": self.end, "step": STEP}
            for each in self.server.ask("query_range", **asked)["result"]:
                pairs = [(at - self.start, float(value)) for at, value in each["values"]]
                kept = [pair for pair in pairs if math.isfinite(pair[1])]
                if kept:
                    times, values = zip(*kept, strict=True)
                    found.append((called(target, each["metric"]), list(times), list(values)))
        return found


def called(target: dict[str, Any], labels: dict[str, str]) -> str:
    """The legend of a series; addresses and ids are cut short."""
    name = re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), target["legendFormat"])
    return re.sub(r"GPU-[0-9a-f-]+", "", name).strip()[:34]


def draw(axes: Any, panel: dict[str, Any], series: list[Any]) -> None:
    """One panel."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.set_title(panel["title"], fontsize=7, loc="left", pad=3)
    axes.tick_params(labelsize=5, length=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if not series:
        axes.axis("off")
        axes.text(0.5, 0.5, "no data", ha="center", color="grey", fontsize=7)
        return
    DRAWN.get(panel["type"], lines)(axes, panel, series, unit)


def number(axes: Any, panel: Any, series: list[Any], unit: str) -> None:
    """The latest value, above its course."""
    _, times, values = series[0]
    axes.axis("off")
    axes.fill_between(times, values, alpha=0.25)
    axes.set_ylim(0, max(values) * 3 or 1)
    where = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.62, written(values[-1], unit), fontsize=15, **where)


def lines(axes: Any, panel: Any, series: list[Any], unit: str) -> None:
    """A line for each series."""
    for name, times, values in series[:10]:
        axes.plot(times, values, linewidth=0.9, label=name)
    low, high = (panel["fieldConfig"]["defaults"].get(end) for end in ("min", "max"))
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    if custom.get("scaleDistribution", {}).get("type") == "log":
        axes.set_yscale("log")
    elif low is not None and panel["type"] == "timeseries":
        axes.set_ylim(bottom=low, top=high if unit == "percentunit" else None)
    axes.yaxis.set_major_formatter(lambda value, _: written(value, unit))
    axes.legend(fontsize=5, loc="upper left", frameon=False, ncols=1 + (len(series) > 5))


def rows(axes: Any, panel: Any, series: list[Any], unit: str) -> None:
    """A row for each series, a cell for each moment."""
    series = sorted(series)
    edges = sorted({at for _, times, _ in series for at in times})
    cells = np.full((len(series), len(edges)), np.nan)
    for index, (_, times, values) in enumerate(series):
        cells[index, np.searchsorted(edges, times)] = values
    axes.pcolormesh(edges, range(len(series)), cells, cmap="viridis", shading="nearest")
    axes.set_yticks(range(len(series)), [name for name, *_ in series])


def distribution(axes: Any, panel: Any, series: list[Any], unit: str) -> None:
    """A row for each bucket, darker for more."""
    cumulative = sorted(((float(name), times, values) for name, times, values in series))
    edges = sorted({at for _, times, _ in cumulative for at in times})
    counts = np.zeros((len(cumulative), len(edges)))
    for index, (_, times, values) in enumerate(cumulative):
        counts[index, np.searchsorted(edges, times)] = values
    counts = np.diff(counts, axis=0, prepend=0)
    shown = np.flatnonzero(counts.sum(axis=1) > 0)
    shown = np.arange(max(shown[0] - 1, 0), shown[-1] + 1)
    axes.pcolormesh(edges, range(len(shown)), counts[shown], cmap="Blues", shading="nearest")
    names = [written(cumulative[index][0], unit) for index in shown]
    axes.set_yticks(range(len(shown)), names)


def bars(axes: Any, panel: Any, series: list[Any], unit: str) -> None:
    """The latest values, the largest first."""
    latest = sorted((values[-1], name) for name, _, values in series)
    axes.barh([name for _, name in latest], [value for value, _ in latest], height=0.6)
    axes.xaxis.set_major_formatter(lambda value, _: written(value, unit))


DRAWN = {
    "stat": number,
    "status-history": rows,
    "heatmap": distribution,
    "bargauge": bars,
}


def picture(name: str, answers: Answers) -> None:
    """One dashboard, with its panels where Grafana puts them."""
    dashboard = shipped.load(name)
    height = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in dashboard["panels"])
    figure = plt.figure(figsize=(24 * COLUMN, height * LINE))
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        top = 1 - place["y"] / height
        if panel["type"] == "row":
            figure.text(0.005, top - 0.6 / height, panel["title"], fontsize=9, weight="bold")
            continue
        left, bottom = place["x"] / 24 + 0.035, top - (place["h"] - 0.8) / height
        box = (left, bottom, place["w"] / 24 - 0.05, (place["h"] - 2.1) / height)
        if panel["type"] in ("status-history", "bargauge"):
            box = (left + 0.07, bottom, box[2] - 0.07, box[3])
        draw(figure.add_axes(box), panel, answers.of(panel))
    drawn = BytesIO()
    figure.savefig(drawn, dpi=100)
    plt.close(figure)
    few = Image.open(drawn).convert("P", palette=Image.Palette.ADAPTIVE, colors=48)
    few.save(HERE / f"dashboard-{name}.png", optimize=True)


def main() -> None:
    """Let the program work, and draw all dashboards of it."""
    mpl.use("agg")
    folder = Path(tempfile.mkdtemp(prefix="llmwatch-pictures-"))
    nvml, device = fake_nvml.build(folder), fake_torch.build(folder)
    port, other = free_port(), free_port()
    with (
        prometheus(folder, {"load": [port], "device": [other]}, f"{STEP}s") as server,
        program(folder, "device", str(other), str(device)),
        program(folder, "load", str(port), str(nvml), str(folder / "script")) as load,
    ):
        sleep(SECONDS)
        answers = Answers(server, time() - SECONDS, time())
        for name in shipped.NAMES:
            picture(name, answers)
        assert load.stdin is not None
        load.stdin.write(json.dumps("enough") + "\n")
        load.stdin.flush()


if __name__ == "__main__":
    main()
