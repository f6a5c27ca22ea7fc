"""Panels as data, and what Grafana makes of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statushistory,
    timeseries,
)
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    ScaleDistribution,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorScale
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from llmwatch import semconv

Kind = Literal["number", "lines", "stacked", "distribution", "rows", "bars"]

METRICS: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
TOKENS, TOKEN_RATE = "suffix: tokens", "suffix: tokens/s"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One question, and how it is answered."""

    asks: str
    """The title: a question that a person on call has."""
    tells: str
    """What is shown, whose number it is, and what to make of it."""
    unit: str
    queries: tuple[tuple[str, str], ...]
    """Expressions, and how each of their series is called."""
    kind: Kind = "lines"
    low: float = 0
    high: float | None = None
    """Ends of the axis; None: the data's."""
    width: int = 8
    height: int = 8
    logarithmic: bool = False
    red_from: float | None = None
    """A value that should not be."""
    traces: bool = False
    """Whether a click on a series offers the traces of its model."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Panels that belong together."""

    title: str
    panels: tuple[Panel, ...]


def build(panel: Panel, number: int) -> Any:
    """A panel as the SDK has it."""
    made: Any = _KINDS[panel.kind](panel)
    made.id(number).title(panel.asks).description(panel.tells).unit(panel.unit)
    made.datasource(METRICS).span(panel.width).height(panel.height).min(panel.low)
    if panel.high is not None:
        made.max(panel.high)
    if panel.red_from is not None:
        steps = [Threshold(None, "green"), Threshold(panel.red_from, "red")]
        marks = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
        made.thresholds(marks)
    if panel.traces:
        link = dashboard.DashboardLink("Traces of ${__field.labels.gen_ai_request_model}")
        model = f"span.{semconv.REQUEST_MODEL} = `${{__field.labels.gen_ai_request_model}}`"
        made.data_links([link.url(explore(model)).target_blank(True)])
    for index, (expression, legend) in enumerate(panel.queries):
        made.with_target(_query(panel, chr(ord("A") + index), expression, legend))
    return made


def _query(panel: Panel, letter: str, expression: str, legend: str) -> prometheus.Dataquery:
    query = prometheus.Dataquery().ref_id(letter).expr(expression).legend_format(legend)
    query.datasource(METRICS)
    if panel.kind == "distribution":
        query.format(PromQueryFormat.HEATMAP)
    return query.instant() if panel.kind == "bars" else query.range()


def explore(*conditions: str) -> str:
    """Address of Tempo's traces of the chosen services and time, under more conditions in TraceQL.

    Strings of TraceQL stand in backticks, for which JSON needs no escapes.
    """
    where = " && ".join(("resource.service.name =~ `${service:pipe}`", *conditions))
    source = {"type": "tempo", "uid": "${traces}"}
    query = {"refId": "A", "datasource": source, "queryType": "traceql", "query": f"{{ {where} }}"}
    span = {"from": "${__from}", "to": "${__to}"}
    pane = {"llmwatch": {"datasource": "${traces}", "queries": [query], "range": span}}
    return f"/explore?schemaVersion=1&orgId=${{__org.id}}&panes={_quoted(json.dumps(pane))}"


def _quoted(text: str) -> str:
    """Text in an address, but for variables, which Grafana replaces."""
    parts = re.split(r"(\$\{[^}]+\})", text)
    return "".join(part if part.startswith("${") else quote(part, safe="") for part in parts)


def _number(panel: Panel) -> Any:
    made = stat.Panel().graph_mode(BigValueGraphMode.AREA)
    if panel.red_from is None:
        made.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
    else:
        made.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
    return made.color_mode(BigValueColorMode.VALUE).reduce_options(_last())


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _lines(panel: Panel) -> timeseries.Panel:
    table = common.VizLegendOptions().display_mode(LegendDisplayMode.TABLE).show_legend(True)
    table.placement(LegendPlacement.BOTTOM).calcs(["mean", "max", "lastNotNull"])
    many = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
    made = timeseries.Panel().legend(table).tooltip(many)
    made.line_width(1).fill_opacity(5).show_points(VisibilityMode.AUTO)
    if panel.logarithmic:
        log = common.ScaleDistributionConfig().type(ScaleDistribution.LOG).log(10)
        made.scale_distribution(log)
    return made


def _stacked(panel: Panel) -> timeseries.Panel:
    pile = common.StackingConfig().mode(StackingMode.NORMAL).group("A")
    return _lines(panel).stacking(pile).fill_opacity(40)


def _distribution(panel: Panel) -> heatmap.Panel:
    colours = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues")
    colours.scale(HeatmapColorScale.EXPONENTIAL).exponent(0.5).steps(64)
    made = heatmap.Panel().calculate(False).color(colours).cell_gap(1)
    made.y_axis(heatmap.YAxisConfig().unit(panel.unit))
    return made.filter_values(heatmap.FilterValueRange().le(1e-9)).show_legend()


def _rows(panel: Panel) -> statushistory.Panel:
    """One row a series, one cell a moment, darker for more: a heat map of things without order."""
    mode = (
        FieldColorModeId.CONTINUOUS_BL_YL_RD
        if panel.red_from is None
        else FieldColorModeId.THRESHOLDS
    )
    colour = dashboard.FieldColor().mode(mode)
    hidden = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).show_legend(False)
    hidden.placement(LegendPlacement.BOTTOM).calcs([])
    made = statushistory.Panel().color_scheme(colour).legend(hidden)
    return made.show_value(VisibilityMode.NEVER).row_height(0.9)


def _bars(panel: Panel) -> bargauge.Panel:
    colour = dashboard.FieldColor().mode(FieldColorModeId.CONTINUOUS_BLUES)
    made = bargauge.Panel().color_scheme(colour).display_mode(BarGaugeDisplayMode.BASIC)
    return made.orientation(VizOrientation.HORIZONTAL).reduce_options(_last())


_KINDS: dict[Kind, Callable[[Panel], Any]] = {
    "number": _number,
    "lines": _lines,
    "stacked": _stacked,
    "distribution": _distribution,
    "rows": _rows,
    "bars": _bars,
}
