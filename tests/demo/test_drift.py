"""The demo's drift is raised once and cleared once."""

from __future__ import annotations

from io import StringIO

import pytest

pytest.importorskip("rich", reason="needs the extra demo")
from rich.console import Console

from llmwatch.demo.drift import show


def test_a_drift_is_raised_and_cleared_on_real_sentences():
    console = Console(file=StringIO(), width=100)
    assert show(console) == ["raised", "cleared"]
    printed = console.file.getvalue()
    assert "most foreign: verse" in printed
