"""Pages that are written by hand say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import llmwatch
from llmwatch import backends
from llmwatch.config import Config
from llmwatch.export.local_store import default_directory
from llmwatch.measure import timeline
from llmwatch.signals import content, recorder
from llmwatch.sources.openai import neighbours
from llmwatch.sources.openai.routes import ROUTES

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def test_every_operation_is_named():
    """The table of the client's methods names what each is called in telemetry."""
    text = page("how-to/openai.md")
    assert {each.operation for each in ROUTES if f"`{each.operation}`" not in text} == set()


def test_every_neighbour_is_named():
    text = page("how-to/neighbours.md")
    names = {each.name.removesuffix(" (OpenLLMetry)") for each in neighbours.NEIGHBOURS}
    assert {name for name in names if name not in text} == set()


@pytest.mark.parametrize("name", sorted(set(backends.PRESETS) - {"collector"}))
def test_every_backend_has_a_page_with_its_variables(name):
    text = page(f"backends/{name.removesuffix('-agent')}.md")
    assert {
        each for each in backends.variables(backends.PRESETS[name]) if each not in text
    } == set()


def test_the_collectors_pipelines_name_what_is_there():
    """Of the configuration to copy; no collector runs in the tests that could read it."""
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((ROOT / "docs/recipes/otel-collector.yaml").read_text())
    used = {("extensions", each) for each in found["service"]["extensions"]}
    for pipeline in found["service"]["pipelines"].values():
        used |= {(kind, each) for kind, names in pipeline.items() for each in names}
    kinds = ("extensions", "receivers", "processors", "exporters")
    assert used == {(kind, each) for kind in kinds for each in found[kind]}


def test_everything_public_is_in_the_reference():
    text = page("reference/api.md")
    public = set(llmwatch.__all__) - {"__version__"}
    assert {name for name in public if f":: {name}\n" not in text} == set()


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("how-to/content.md", Config().content_limit),
        ("how-to/content.md", content.MOST_TEXT),
        ("how-to/content.md", content.MOST_ITEMS),
        ("how-to/content.md", content.MOST_DEPTH),
        ("how-to/content.md", content.MOST_NUMBERS),
        ("how-to/deploy.md", round(Config().flush_timeout)),
        ("how-it-works.md", recorder.MOST_WAITING),
        ("how-it-works.md", round(timeline.TOLERANCE * 1000)),
        ("quick-start.md", Config().store_limit >> 20),
    ],
)
def test_limits_are_those_of_the_code(name, number):
    assert re.search(rf"\b{number:,}\b", page(name))


def test_the_place_of_the_local_store_is_the_codes(monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert str(default_directory()).replace(str(Path.home()), "~") in page("quick-start.md")


def test_the_links_of_the_readme_lead_somewhere():
    """Sphinx does not see this page."""
    for name in ("README.md", "examples/README.md"):
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / name).read_text())
        broken = [link for link in links if not (ROOT / name).parent.joinpath(link).exists()]
        assert broken == []


def test_every_key_of_the_terminal_is_on_its_page():
    """The table is that of the keys that the app binds."""
    keys = pytest.importorskip("llmwatch.view.top.keys", exc_type=ImportError)
    table = page("how-to/top.md").partition("| key | does |")[2].partition("\n\n")[0]
    shown = {key.shown for key in (*keys.TABLES, *keys.PANELS, *keys.REQUEST, *keys.APP)}
    assert {key for key in re.findall(r"`([^`]+)`", table) if key != "tab"} == shown
