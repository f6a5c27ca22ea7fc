"""What waits for a library to be imported."""

from __future__ import annotations

import sys
from importlib import import_module
from uuid import uuid4

import pytest

from llmwatch import _guard
from llmwatch.patching import Late, awaited


@pytest.fixture
def library(tmp_path, monkeypatch):
    """The name of a module that nobody has imported yet."""
    name = f"library_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text("there = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def happened() -> list[str]:
    return []


@pytest.fixture
def late(library, happened) -> Late:
    def start():
        happened.append("started")
        return lambda: happened.append("undone")

    return Late(library, start)


def test_it_starts_when_the_library_is_imported(late, library, happened):
    late.install()
    assert library in awaited()
    assert not happened
    import_module(library)
    assert happened == ["started"]
    assert library not in awaited()
    late.undo()
    late.undo()
    assert happened == ["started", "undone"]


def test_it_starts_at_once_if_the_library_is_there(late, library, happened):
    import_module(library)
    late.install()
    assert happened == ["started"]


def test_undone_before_it_never_starts(late, library, happened):
    late.install()
    late.undo()
    assert library not in awaited()
    import_module(library)
    assert not happened


def test_the_library_is_imported_even_if_it_cannot_start(library, monkeypatch):
    monkeypatch.setattr(_guard, "strict", False)

    def start():
        raise RuntimeError("ours")

    before = _guard.error_counts().get("patching.start", 0)
    late = Late(library, start)
    late.install()
    assert import_module(library).there
    assert _guard.error_counts()["patching.start"] == before + 1
    late.undo()
