"""What the front end consists of, and what it must not do."""

from __future__ import annotations

import re

import pytest

from llmwatch.view.ui import page

OURS = [name for name in page.SCRIPTS if not name.startswith("vendor/")]


def test_every_script_is_part_of_the_page() -> None:
    there = {each.name for each in page.STATIC.iterdir() if each.name.endswith(".js")}
    assert there == set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_no_html_is_made_from_text(name: str) -> None:
    code = page.read(name)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(", code
    )
    assert code.startswith("/* ")


@pytest.mark.parametrize("name", [*OURS, "style.css"])
def test_no_other_host_is_named(name: str) -> None:
    named = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", page.read(name))
    assert set(named) <= {"http://www.w3.org/2000/svg"}


def test_what_others_wrote_is_in_the_version_that_is_recorded() -> None:
    recorded = re.search(r"\| ([\d.]+) \| MIT", page.read("vendor/README.md"))
    assert recorded is not None
    assert f"uPlot (v{recorded[1]})" in page.read("vendor/uPlot.iife.min.js")[:80]
    assert "Permission is hereby granted" in page.read("vendor/uPlot.LICENSE")
