"""Prometheus' own programs, where they are installed, and how their unit tests are written."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="needs promtool, of the Debian package prometheus"
)


def promtool(*arguments: str | Path, cwd: Path) -> str:
    """What promtool prints, if it finds nothing wrong."""
    ran = subprocess.run(
        [str(PROMTOOL), *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def counter(*phases: tuple[int, float]) -> str:
    """Samples of a counter, one a minute: for so many minutes it grows by so much in each."""
    parts, value = ["0"], 0.0
    for minutes, growth in phases:
        parts.append(f"{value + growth:.9f}+{growth:.9f}x{minutes - 1}")
        value += minutes * growth
    return " ".join(parts)


def gauge(*phases: tuple[int, float]) -> str:
    """Samples of a gauge, one a minute: for so many minutes it has a value."""
    return " ".join(f"{value!r}x{minutes - 1}" for minutes, value in phases)


class UnitTest:
    """One unit test of rules, with samples a minute apart.

    Args:
        rules: Files of rules.
        every: How often they are evaluated.
    """

    def __init__(self, rules: Iterable[Path], every: str = "1m") -> None:
        self.rules = [str(each) for each in rules]
        self.every = every
        self.order: list[str] = []
        """Groups that are evaluated in this order; of the others there is none."""
        self._series: list[dict[str, str]] = []
        self._alerts: list[dict[str, Any]] = []
        self._values: list[dict[str, Any]] = []

    def give(self, name: str, values: str, **labels: str) -> None:
        """A series that comes in."""
        self._series.append({"series": f"{name}{written(labels)}", "values": values})

    def firing(self, alert: str, at: int, *expected: dict[str, str], **chosen: str) -> None:
        """At a minute, of the alerts with the labels chosen, those with these labels fire."""
        labels = ", ".join({key: "" for each in expected for key in each}) or "job"
        series = written({"alertname": alert, "alertstate": "firing", **chosen})
        self._expect(f"sum by ({labels}) (ALERTS{series})", at, *((each, 1) for each in expected))

    def says(self, alert: str, at: int, labels: dict[str, str], **texts: str) -> None:
        """At a minute one alert of that name fires, with exactly these labels and texts."""
        found = {"exp_labels": labels, "exp_annotations": texts}
        self._alerts.append({"eval_time": f"{at}m", "alertname": alert, "exp_alerts": [found]})

    def value(self, expr: str, at: int, expected: float, **labels: str) -> None:
        """At a minute an expression is that number, to nine digits."""
        near = f"abs({expr} - {expected!r}) <= bool {1e-9 * max(abs(expected), 1)!r}"
        self._expect(near, at, (labels, 1))

    def _expect(self, expr: str, at: int, *samples: tuple[dict[str, str], float]) -> None:
        found = [{"labels": written(labels), "value": value} for labels, value in samples]
        self._values.append({"expr": expr, "eval_time": f"{at}m", "exp_samples": found})

    def run(self, folder: Path) -> None:
        """Have promtool run it; JSON is YAML, too."""
        test = {
            "interval": "1m",
            "input_series": self._series,
            "alert_rule_test": self._alerts,
            "promql_expr_test": self._values,
        }
        plan = {
            "rule_files": self.rules,
            "evaluation_interval": self.every,
            "group_eval_order": self.order,
            "tests": [test],
        }
        (folder / "plan.yml").write_text(json.dumps(plan))
        promtool("test", "rules", "plan.yml", cwd=folder)


def written(labels: dict[str, str]) -> str:
    """Labels as a selector has them."""
    return f"{{{','.join(f'{key}={json.dumps(value)}' for key, value in labels.items())}}}"
