"""What the snippets of a page find: an OpenAI-compatible server that ``OpenAI()`` talks to."""

from __future__ import annotations

import pytest

from llmwatch.demo.server import Server


@pytest.fixture(autouse=True)
def _a_model(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-local")
