"""Configurations in the docs are ones that Prometheus and Grafana take."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.dashboards import shipped
from tests.rules.prometheus import needs_promtool, promtool

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"


@needs_promtool
def test_prometheus_takes_its_configuration_and_the_rules_beside_it(tmp_path: Path) -> None:
    shutil.copy(RECIPES / "prometheus.yml", tmp_path)
    (tmp_path / "llmwatch").mkdir()
    rules = list(shipped.FOLDER.glob("*.rules.yml"))
    for each in rules:
        shutil.copy(each, tmp_path / "llmwatch")
    said = promtool("check", "config", "prometheus.yml", cwd=tmp_path)
    assert f"{len(rules)} rule files found" in said


def test_grafanas_provisioning_is_well_formed() -> None:
    yaml = pytest.importorskip("yaml")
    boards = yaml.safe_load((RECIPES / "grafana-dashboards.yml").read_text())
    assert boards["providers"][0]["options"]["path"].startswith("/")
    sources = yaml.safe_load((RECIPES / "grafana-datasources.yml").read_text())["datasources"]
    kinds = [each["type"] for each in sources]
    board = shipped.variables(shipped.load("requests"))
    wanted = [each["query"] for each in board if each["type"] == "datasource"]
    assert kinds == wanted
