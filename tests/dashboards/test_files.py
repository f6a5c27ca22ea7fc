"""The dashboards that are shipped: made from the sources, and fit to be imported."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

import pytest

from docs.dashboards.__main__ import BOARDS, main
from llmwatch import semconv, semconv_hardware, semconv_layers, semconv_models, semconv_tasks
from llmwatch.rules.names import exposed, label, received
from llmwatch.semconv import Metric
from tests.dashboards import shipped
from tests.rules.test_files import every_metric

PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name in shipped.NAMES
    for panel in shipped.panels(shipped.load(name))
]
LABELS = {"job", "instance", "le", "block"}
"""Those of Prometheus, and what an expression makes itself."""


@pytest.fixture(params=shipped.NAMES)
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    return shipped.load(request.param)


def test_what_is_shipped_is_what_the_sources_make(tmp_path) -> None:
    """If not: python -m docs.dashboards."""
    main(tmp_path)
    made = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert made == {each.name: each.read_bytes() for each in shipped.FOLDER.glob("*.json")}
    assert sorted(board.name for board in BOARDS) == sorted(shipped.NAMES)


def test_a_dashboard_can_be_imported_anywhere(dashboard: dict[str, Any]) -> None:
    """No number of one installation is in it, and no data source by its own name."""
    assert re.fullmatch(r"llmwatch-[a-z-]+", dashboard["uid"])
    assert "id" not in dashboard
    assert dashboard["tags"] == ["llmwatch"]
    assert dashboard["schemaVersion"] >= 36
    text = json.dumps(dashboard)
    assert set(re.findall(r'"uid": "(\$[^"]+)"', text)) == {"${datasource}"}
    assert set(re.findall(r'"uid": "([^$"]+)"', text)) == {dashboard["uid"]}


def test_variables_choose_source_service_instance_and_model(dashboard: dict[str, Any]) -> None:
    found = {each["name"]: each for each in shipped.variables(dashboard)}
    assert list(found)[:4] == ["datasource", "service", "instance", "model"]
    assert found["datasource"]["query"] == "prometheus"
    for each in found.values():
        assert each["label"]
        if each["type"] == "query":
            assert each["multi"]
            assert each["includeAll"]
            assert each["allValue"] == ".*"
            assert each["current"]["value"] == ["$__all"]


def test_identities_and_places_of_panels_do_not_collide(dashboard: dict[str, Any]) -> None:
    every = dashboard["panels"]
    assert len({each["id"] for each in every}) == len(every)
    taken = set()
    for each in every:
        place = each["gridPos"]
        assert place["x"] + place["w"] <= 24, each["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, each["title"]
                taken.add((x, y))


def test_questions_are_asked_once(dashboard: dict[str, Any]) -> None:
    titles = [each["title"] for each in shipped.panels(dashboard)]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_is_a_question_with_an_answer(panel: dict[str, Any]) -> None:
    """A title that asks, a text that says what is shown, a unit, a range, and expressions."""
    assert panel["title"].endswith("?")
    assert panel["description"].endswith((".", "…"))
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"]
    assert "min" in defaults
    if defaults["unit"] == "percentunit":
        assert defaults["min"] == 0
    assert defaults.get("max", 1e99) > defaults["min"]
    assert panel["targets"]
    assert all(each["legendFormat"] for each in panel["targets"])


@pytest.mark.parametrize("panel", PANELS)
def test_expressions_follow_the_variables(panel: dict[str, Any]) -> None:
    """Every selector chooses service and instance; rates are over what Grafana says."""
    for each in panel["targets"]:
        expression = each["expr"]
        selectors = re.findall(r"{([^{}]*=[^{}]*)}", expression)
        assert selectors
        for selector in selectors:
            assert 'job=~"$service"' in selector
            assert 'instance=~"$instance"' in selector
        assert set(re.findall(r"\[([^\]]+)\]", re.sub(r'"[^"]*"', "", expression))) <= {
            "$__rate_interval",
            "$__range",
        }
        assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_a_logarithmic_axis_shows_what_is_as_small_as_can_be() -> None:
    """Zero has no place on it, and the smallest p-values are those that matter."""
    panels = [each for name in shipped.NAMES for each in shipped.panels(shipped.load(name))]
    logarithmic = [each for each in panels if '"type": "log"' in json.dumps(each["fieldConfig"])]
    assert logarithmic
    for panel in logarithmic:
        least = panel["fieldConfig"]["defaults"]["min"]
        for target in panel["targets"]:
            assert re.fullmatch(rf"clamp_min\(.*, {least:g}\)", target["expr"]), panel["title"]


def test_names_are_those_of_the_conventions_of_llmwatch() -> None:
    """As exporter and collectors translate them, and with the suffixes of their kind."""
    known = set()
    for metric in every_metric():
        parts = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        known |= {f"{name(metric)}{part}" for part in parts for name in (exposed, received)}
    for query in shipped.queries():
        plain = re.findall(r"([a-zA-Z_:][\w:]*){", query.expression)
        either = re.findall(r'__name__=~"([^"]+)"', query.expression)
        assert plain or either
        for name in plain:
            assert name in known, query
        for pattern in either:
            assert any(re.fullmatch(pattern, name) for name in known), query


def test_labels_are_attributes_of_llmwatch() -> None:
    areas = (semconv, semconv_hardware, semconv_layers, semconv_models, semconv_tasks)
    known = {label(name) for area in areas for name in area.ATTRIBUTES} | LABELS
    for query in shipped.queries():
        used = set(re.findall(r"(\w+)(?:=~|!=|=)\"", query.expression)) - {"__name__"}
        for group in re.findall(r"by \(([^)]*)\)", query.expression):
            used |= set(group.split(", "))
        assert used <= known, query


def test_links_lead_to_traces_of_the_service_the_model_and_the_time() -> None:
    """What Grafana's page for exploring is told is JSON, once variables are replaced.

    A model is compared as it is: its name is no pattern.
    """
    replaced = {
        "__org.id": "1",
        "__from": "1700000000000",
        "__to": "1700003600000",
        "traces": "tempo-1",
        "service:pipe": "shop|chat",
        "__field.labels.gen_ai_request_model": "meta-llama/Llama-3.1-8B+x",
    }
    links = [
        link["url"]
        for name in shipped.NAMES
        for panel in shipped.panels(shipped.load(name))
        for link in panel["fieldConfig"]["defaults"].get("links", [])
    ]
    assert len(links) > 10
    for link in links:
        address = shipped.interpolated(link, replaced)
        (pane,) = json.loads(unquote(address.partition("panes=")[2])).values()
        assert pane["datasource"] == pane["queries"][0]["datasource"]["uid"] == "tempo-1"
        assert pane["range"] == {"from": "1700000000000", "to": "1700003600000"}
        assert pane["queries"][0]["query"] == (
            "{ resource.service.name =~ `shop|chat` "
            "&& span.gen_ai.request.model = `meta-llama/Llama-3.1-8B+x` }"
        )


def test_metrics_that_are_told_per_process_are_not_added_up_per_gpu() -> None:
    """All processes on a machine report the same GPU: its numbers are taken once."""
    own = {"process_memory", "process_utilization"}
    of_gpus = [each for key, each in semconv_hardware.GPU_METRICS.items() if key not in own]
    for query in shipped.queries():
        if any(_mentions(query.expression, metric) for metric in of_gpus):
            assert re.search(r"max by \((instance|hw_id)", query.expression), query


def _mentions(expression: str, metric: Metric) -> bool:
    return re.search(rf"\b{exposed(metric)}\b", expression) is not None
