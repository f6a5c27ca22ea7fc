"""The recording rules, run by Prometheus's own test tool, say what the arithmetic here says."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import llmwatch
from llmwatch.drift.statistics import berk_jones

RULES = Path(llmwatch.__file__).parent / "dashboards" / "llmwatch-drift.rules.yml"
PROMTOOL = shutil.which("promtool")
EDGES = ["0.5", "0.75", "1.0", "2.0"]
REFERENCE = [400, 300, 200, 80, 20]
THRESHOLD = 4.0
NAMES = '{llmwatch_drift_monitor="m",llmwatch_drift_reference="abc"}'


def histogram(name: str, counts: list[int], every: bool, **labels: str) -> list[dict[str, str]]:
    """Series of one replica: constant, or growing by *counts* a minute, for an hour and a half."""
    said = {"llmwatch_drift_monitor": "m", "llmwatch_drift_reference": "abc", **labels}
    found = []
    for suffix, value, le in [
        *(("bucket", int(c), e) for c, e in zip(np.cumsum(counts), [*EDGES, "+Inf"], strict=True)),
        ("count", sum(counts), None),
    ]:
        pairs = ",".join(f'{k}="{v}"' for k, v in {**said, **({"le": le} if le else {})}.items())
        values = f"0+{value}x90" if every else f"{value}x90"
        found.append({"series": f"{name}_{suffix}{{{pairs}}}", "values": values})
    return found


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool, of Prometheus")
@pytest.mark.parametrize(
    ("replicas", "dependence", "failing"),
    [
        ([[4, 3, 2, 1, 0], [4, 3, 2, 1, 0]], None, 0),
        ([[4, 3, 2, 1, 1], [3, 3, 2, 2, 1]], None, 1),
        ([[0, 0, 0, 0, 1]], None, 1),
        ([[4, 3, 2, 1, 1], [3, 3, 2, 2, 1]], 50.0, 0),
    ],
)
def test_the_rules_redo_the_tail_test(tmp_path, replicas, dependence, failing):
    """Summed over replicas; beyond the last edge, and nothing but that, too."""
    series = histogram("llmwatch_drift_reference_residual", REFERENCE, every=False, instance="0")
    for index, counts in enumerate(replicas):
        series += histogram("llmwatch_drift_residual", counts, every=True, instance=str(index))
        gauge = NAMES.replace("}", f',instance="{index}"}}')
        series.append({"series": f"llmwatch_drift_tail_threshold{gauge}", "values": "4x90"})
        if dependence is not None:
            name = f"llmwatch_drift_dependence{gauge}"
            series.append({"series": name, "values": f"{dependence}x90"})
        # Another replica learned a reference of its own: it is judged by itself.
        for name in ("tail_threshold", "dependence"):
            labels = 'llmwatch_drift_monitor="m",llmwatch_drift_reference="def",instance="9"'
            series.append({"series": f"llmwatch_drift_{name}{{{labels}}}", "values": "4x90"})
    added = np.sum(replicas, axis=0) * 60
    many = int(added.sum())
    statistic = float(berk_jones(added, np.array(REFERENCE)))
    expected = statistic / ((dependence or 1.0) + many / sum(REFERENCE))
    assert (expected > THRESHOLD) == bool(failing)
    checks = [
        {
            "expr": f"abs(llmwatch:drift_residual:statistic - {expected!r}) < bool 1e-3",
            "eval_time": "80m",
            "exp_samples": [{"labels": NAMES, "value": 1}],
        },
        {
            "expr": "llmwatch:drift_residual:failing * 1",
            "eval_time": "80m",
            "exp_samples": [{"labels": NAMES, "value": failing}],
        },
    ]
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": checks}]
    plan = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "plan.yml").write_text(json.dumps(plan))  # JSON is YAML, too
    ran = subprocess.run(
        [str(PROMTOOL), "test", "rules", "plan.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
