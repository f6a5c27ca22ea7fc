"""The rules that are shipped: written by the package, whole, and about metrics that there are."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from llmwatch import (
    semconv,
    semconv_hardware,
    semconv_layers,
    semconv_models,
    semconv_tasks,
)
from llmwatch.rules import names
from llmwatch.rules.files import export, groups, render
from llmwatch.rules.rule import Alert, Record, anchor
from llmwatch.rules.values import load
from llmwatch.semconv import Metric
from tests.rules.prometheus import needs_promtool, promtool

SHIPPED = Path(str(files("llmwatch") / "dashboards"))
RUNBOOKS = (SHIPPED / "runbooks.md").read_text()
RULES = [rule for found in groups(load()).values() for group in found for rule in group.rules]
ALERTS = [each for each in RULES if isinstance(each, Alert)]
PARTS = ("What it means.", "Look first", "Likely causes.", "Adjust")


def every_metric() -> list[Metric]:
    """All metrics of all tables of names."""
    tables = [
        table
        for module in (semconv, semconv_hardware, semconv_layers, semconv_models, semconv_tasks)
        for table in vars(module).values()
    ]
    flat = [
        *tables,
        *(each for table in tables if isinstance(table, dict) for each in table.values()),
    ]
    flat += [each for inner in flat if isinstance(inner, dict) for each in inner.values()]
    return list({each.name: each for each in flat if isinstance(each, Metric)}.values())


@needs_promtool
@pytest.mark.parametrize("convention", ["1.41", "genai-0.1"])
def test_prometheus_takes_the_rules(tmp_path: Path, convention: str) -> None:
    (tmp_path / "mine.toml").write_text(f'semconv = "{convention}"\n')
    written = export(tmp_path, tmp_path / "mine.toml")
    rules = [each for each in written if each.suffix == ".yml"]
    assert promtool("check", "rules", *rules, cwd=tmp_path).count("SUCCESS") == len(rules) == 5


def test_what_is_shipped_is_what_the_values_that_are_shipped_give() -> None:
    """If not: ``llmwatch rules export llmwatch/dashboards``."""
    shipped = {each.name: each.read_text() for each in SHIPPED.glob("*.rules.yml")}
    assert shipped == render(load())


def test_no_group_is_larger_than_mimir_takes_by_default() -> None:
    found = [group for each in groups(load()).values() for group in each]
    assert [group.name for group in found if len(group.rules) > 20] == []
    assert len({group.name for group in found}) == len(found)


def test_every_alert_says_what_it_saw() -> None:
    for alert in ALERTS:
        assert "{{ $labels." in alert.summary
        assert "$value" in alert.description
        assert len(alert.summary) < 150


@pytest.mark.parametrize("alert", sorted({each.name for each in ALERTS}))
def test_every_alert_has_a_runbook(alert: str) -> None:
    section = RUNBOOKS.split(f"\n## {alert}\n")[1].split("\n## ")[0]
    assert [part for part in PARTS if f"**{part}" not in section] == []
    assert f'runbook: "runbooks.md{anchor(alert)}"' in "".join(render(load()).values())


def test_every_runbook_has_an_alert() -> None:
    assert set(re.findall(r"^## (.+)$", RUNBOOKS, re.MULTILINE)) == {each.name for each in ALERTS}


def test_a_runbook_names_values_that_there_are() -> None:
    """``slo.ttft.threshold`` and the like."""
    tables = {key.split(".")[0] for key in load() if "." in key}
    named = set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", RUNBOOKS))
    ours = {each for each in named if each.split(".")[0] in tables - {"labels"}}
    assert ours
    assert {
        each for each in ours if each not in load() and f"{each}.threshold" not in load()
    } == set()


@pytest.mark.parametrize("convention", ["1.41", "genai-0.1"])
def test_rules_and_runbooks_use_metrics_that_there_are(tmp_path: Path, convention: str) -> None:
    """And what records record."""
    (tmp_path / "mine.toml").write_text(f'semconv = "{convention}"\n')
    found = groups(load(tmp_path / "mine.toml")).values()
    rules = [rule for each in found for group in each for rule in group.rules]
    known = {rule.name for rule in rules if isinstance(rule, Record)} | {"up"}
    for metric in every_metric():
        name = names.exposed(metric)
        parts = ("bucket", "sum", "count") if metric.kind == "histogram" else ()
        known |= {f"{name}_{part}" for part in parts} or {name}
    texts = [rule.expr for rule in rules]
    if convention == "1.41":
        texts += re.findall(r"```text\n(.*?)```", RUNBOOKS, re.DOTALL)
    used = {name for text in texts for name in named(text)}
    assert len(used) > 20
    assert used <= known


def named(text: str) -> set[str]:
    """Names of series in an expression: what starts as ours do and is no label."""
    text = re.sub(r'__name__=~"([^"]*)"', r"\1", text).replace("(_ratio)?", "")
    text = re.sub(r'"[^"]*"', "", text)
    text = re.sub(r"(?:by|on|ignoring|group_left|group_right) \([^)]*\)", "", text)
    return set(re.findall(r"\b(?:llmwatch[:_]|gen_ai_|hw_)[\w:]+\b(?!=|!)", text))
