"""Prometheus' own programs, where they are installed."""

from __future__ import annotations

import json
import shutil
import subprocess
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


def unit_test(folder: Path, rules: list[Path], tests: list[dict[str, Any]], every: str) -> None:
    """Run unit tests of rules; JSON is YAML, too."""
    plan = {"rule_files": [str(each) for each in rules], "evaluation_interval": every}
    (folder / "plan.yml").write_text(json.dumps({**plan, "tests": tests}))
    promtool("test", "rules", "plan.yml", cwd=folder)
