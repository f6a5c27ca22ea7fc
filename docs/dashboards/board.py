"""A dashboard: its variables, links and rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from docs.dashboards.panels import METRICS, Row, build, explore
from docs.dashboards.queries import MODEL
from llmwatch.rules.names import select
from llmwatch.semconv import Metric

TAG: Final = "llmwatch"


@dataclass(frozen=True, kw_only=True)
class Board:
    """One dashboard."""

    name: str
    """Of its file, and with a prefix its address."""
    title: str
    tells: str
    found_by: Metric
    """A metric that every process has which the dashboard is about: it names services."""
    models_by: Metric
    """One that names models."""
    rows: tuple[Row, ...]
    more: tuple[tuple[str, Metric, str], ...] = ()
    """Further variables: their names, and the metric and label that values come from."""

    @property
    def uid(self) -> str:
        """What Grafana knows it by."""
        return f"llmwatch-{self.name}"


def encode(board: Board) -> str:
    """The dashboard as JSON that Grafana imports."""
    made = _dashboard(board)
    number = 0
    for row in board.rows:
        number += 1
        made.with_row(dashboard.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            made.with_panel(build(panel, number))
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


def _dashboard(board: Board) -> dashboard.Dashboard:
    made = dashboard.Dashboard(board.title).uid(board.uid).description(board.tells).tags([TAG])
    made.time("now-1h", "now").refresh("30s").timezone("browser").editable()
    made.tooltip(DashboardCursorSync.CROSSHAIR)
    for link in _links():
        made.link(link)
    for variable in _variables(board):
        made.with_variable(variable)
    return made


def _links() -> list[dashboard.DashboardLink]:
    others = dashboard.DashboardLink("llmwatch").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    others.keep_time(True).include_vars(True).as_dropdown(False)
    traces = dashboard.DashboardLink("Traces").type(DashboardLinkType.LINK).url(explore())
    return [others, traces.icon("external link").target_blank(True)]


def _variables(board: Board) -> list[Any]:
    service = select(board.found_by, part=_part(board.found_by))
    inside = select(board.found_by, 'job=~"$service"', part=_part(board.found_by))
    models = select(board.models_by, 'job=~"$service"', part=_part(board.models_by))
    return [
        dashboard.DatasourceVariable("datasource").type("prometheus").label("Data source"),
        _values("service", service, "job").label("Service"),
        _values("instance", inside, "instance").label("Instance"),
        _values("model", models, MODEL).label("Model"),
        *(
            _values(name, select(metric, 'job=~"$service"', part=_part(metric)), label)
            for name, metric, label in board.more
        ),
        dashboard.DatasourceVariable("traces").type("tempo").label("Traces"),
    ]


def _values(name: str, selector: str, label: str) -> dashboard.QueryVariable:
    """A variable of a label's values; all of them is ``.*``, which is also no value at all."""
    variable = dashboard.QueryVariable(name).datasource(METRICS).label(name.capitalize())
    variable.query(f"label_values({selector}, {label})").sort(VariableSort.ALPHABETICAL_ASC)
    variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).multi(True)
    every = VariableOption(selected=True, text=["All"], value=["$__all"])
    return variable.include_all(True).all_value(".*").current(every)


def _part(metric: Metric) -> str:
    return "count" if metric.kind == "histogram" else ""
