"""What holds for every test: our own failures raise, and nothing stays instrumented."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import llmwatch
from llmwatch import _guard

_guard.strict = True

NEEDS = {
    "demo": "starlette",
    "docs": "openai",
    "sources/openai": "openai",
    "export/test_prometheus.py": "prometheus_client",
}
"""Tests that need more than the core dependencies: what under ``tests/``, and which package."""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out what needs an extra that is not installed (``nox -s minimal``)."""
    path = collection_path.relative_to(Path(__file__).parent).as_posix()
    package = NEEDS.get(path)
    return True if package and find_spec(package) is None else None


@pytest.fixture(autouse=True)
def _instrumented_by_nobody() -> Iterator[None]:
    """Undo whatever a test instrumented, and forget what the guard counted."""
    _guard.reset()
    yield
    llmwatch.uninstrument()
    _guard.reset()
