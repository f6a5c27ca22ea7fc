"""Every Python snippet of the README and the docs runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    if "_build" not in page.parts and "```python" in page.read_text()
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_snippets_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    """One page is one program, in a folder of its own. ``<!-- skip: next -->`` leaves one out."""
    monkeypatch.setenv("LLMWATCH_STORE_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for example in Sybil(parsers=[PythonCodeBlockParser(), SkipParser()]).parse(page).examples():
        example.evaluate()
