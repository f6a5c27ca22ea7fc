"""What holds for every test: our own failures raise, and nothing stays instrumented."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

import llmwatch
from llmwatch import _guard

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

    from llmwatch.demo.server import Server

_guard.strict = True

# Exports to collectors that earlier tests took away fail later: not in the log of the test at hand.
logging.getLogger("opentelemetry.exporter").addHandler(logging.NullHandler())
logging.getLogger("opentelemetry.exporter").propagate = False

# A busy machine says nothing about the code; on CI one commit gives one answer.
settings.register_profile(
    "llmwatch",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("llmwatch")

NEEDS = {
    "cli": "click",
    "cli/test_workers.py": "prometheus_client",
    "dashboards/test_files.py": "grafana_foundation_sdk",
    "dashboards/test_live.py": "transformers",
    "cli/test_run.py": "openai",
    "cli/test_top.py": "openai",
    "demo": "openai",
    "demo/test_local.py": "transformers",
    "docs": "openai",
    "rules/test_live.py": "openai",
    "sources/openai": "openai",
    "sources/openai/websocket": "websockets",
    "sources/torch_layers": "torch",
    "sources/sentence_transformers": "sentence_transformers",
    "sources/transformers": "transformers",
    "signals/test_events.py": "openai",
    "test_examples.py": "openai",
    "test_instrumentor.py": "openai",
    "export/test_prometheus.py": "prometheus_client",
    "view/ui": "starlette",
    "view/top": "textual",
}
"""Tests that need more than the core dependencies: what under ``tests/``, and which package."""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out what needs an extra that is not installed (``nox -s minimal``)."""
    path = collection_path.relative_to(Path(__file__).parent).as_posix()
    package = NEEDS.get(path)
    return True if package and find_spec(package) is None else None


@pytest.fixture(autouse=True, scope="session")
def _nobodys_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start from no settings, and keep out of the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("OTEL_", "LLMWATCH_")):
                patch.delenv(name)
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _instrumented_by_nobody() -> Iterator[None]:
    """Undo whatever a test instrumented, and forget what was counted as failed or lost."""
    _guard.reset()
    if (dropped := sys.modules.get("llmwatch.export.dropped")) is not None:
        dropped.losses = dropped.Losses()
        dropped.left_out = dropped.Losses()
    if (registry := sys.modules.get("llmwatch.drift.registry")) is not None:
        registry.monitors.clear()  # those of earlier tests that nobody has collected yet
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
