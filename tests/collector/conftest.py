"""One collector for all tests, from the environment that ``nox -s tests`` prepares for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from llmwatch.demo.server import Server
from tests.collector.collector import Collector, Rotel
from tests.collector.programs import Programs

VENV = os.environ.get("LLMWATCH_COLLECTOR_VENV", "")


@pytest.fixture(scope="session")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A running collector."""
    if not VENV:
        pytest.skip("LLMWATCH_COLLECTOR_VENV names no environment; `nox -s tests` makes one")
    running = Collector(Path(VENV), tmp_path_factory.mktemp("collector"))
    yield running
    running.stop()


@pytest.fixture
def rotel(collector: Collector) -> Iterator[Rotel]:
    """A rotel that the test may stop and start again."""
    another = collector.another()
    yield another
    another.stop()


@pytest.fixture
def service() -> str:
    """The ``service.name`` of this test's programs."""
    return f"test-{uuid4().hex}"


@pytest.fixture
def programs(server: Server, service: str) -> Iterator[Programs]:
    """Programs that call the model of `server`."""
    started = Programs(server.base_url, service)
    yield started
    started.end()
