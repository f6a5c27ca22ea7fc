"""What holds for every test: our own failures raise, and nothing stays instrumented."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

import llmwatch
from llmwatch import _guard

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

    from llmwatch.demo.server import Server

_guard.strict = True

NEEDS = {
    "demo": "rich",
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
    if "llmwatch.session" in sys.modules:  # else nobody can have instrumented anything
        llmwatch.uninstrument()
    _guard.reset()


@pytest.fixture
def server() -> Iterator[Server]:
    """An OpenAI-compatible server that records when it wrote what."""
    from llmwatch.demo.server import Server

    with Server() as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    """A client of `server` that does not retry."""
    from openai import OpenAI

    with OpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0) as client:
        yield client


@pytest_asyncio.fixture
async def aclient(server: Server) -> AsyncIterator[AsyncOpenAI]:
    """An async client of `server` that does not retry."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0) as client:
        yield client
