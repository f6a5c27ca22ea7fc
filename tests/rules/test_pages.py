"""What the page on alerts says can be done, works."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from llmwatch.errors import ConfigError
from llmwatch.rules.files import render
from llmwatch.rules.values import load

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "how-to" / "alerts.md").read_text()
AMTOOL = shutil.which("amtool")


def test_the_values_of_the_page_can_be_used(tmp_path: Path) -> None:
    (text,) = re.findall(r"<<'END'\n(.*?)END\n", PAGE, re.DOTALL)
    (tmp_path / "mine.toml").write_text(text)
    values = load(tmp_path / "mine.toml")
    assert values["slo.ttft.threshold"] == 1.6
    assert "runbook_url" in render(values)["llmwatch-slo.rules.yml"]


def test_the_error_of_the_page_is_what_one_gets(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[slo.ttft]\nthreshold = 2\n")
    with pytest.raises(ConfigError) as caught:
        render(load(tmp_path / "mine.toml"))
    assert str(caught.value) in " ".join(PAGE.split())


@pytest.mark.skipif(
    AMTOOL is None, reason="needs amtool, of the Debian package prometheus-alertmanager"
)
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("severity=critical", "pager"),
        ("severity=warning", "tickets"),
        ("severity=critical alertname=LlmwatchNoData job=shop", "pager"),
        ("severity=critical alertname=LlmwatchNoData job=batch-9", "nobody"),
    ],
)
def test_alertmanager_takes_the_configuration_to_copy(labels: str, receiver: str) -> None:
    path = str(DOCS / "recipes" / "alertmanager.yml")
    command = [str(AMTOOL), "config", "routes", "test", f"--config.file={path}", *labels.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == receiver, done.stderr
    checked = subprocess.run([str(AMTOOL), "check-config", path], capture_output=True, check=False)
    assert checked.returncode == 0
