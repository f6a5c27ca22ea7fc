"""The OpenAI source keeps the contract of all sources."""

from __future__ import annotations

import sys
from typing import Any

import openai
from openai import _base_client

from tests.sources.contract import SourceContract
from tests.sources.openai import transport

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


class TestOpenAI(SourceContract):
    """Chat completions of a client that is older than every instrumentation."""

    client: openai.OpenAI

    @classmethod
    def setup_class(cls) -> None:
        """Build the client before anything is instrumented."""
        cls.client = transport.client()

    @classmethod
    def teardown_class(cls) -> None:
        """Leave no socket."""
        cls.client.close()

    def call(self) -> Any:
        """One chat completion."""
        return self.client.chat.completions.create(**ASK)

    def fail(self) -> Any:
        """One that the server refuses."""
        return self.client.chat.completions.create(**ASK, extra_headers={"x-status": "429"})

    def stream(self) -> Any:
        """One that is streamed."""
        return self.client.chat.completions.create(**ASK, stream=True)

    def patched(self) -> list[tuple[Any, str]]:
        """The client's choke points, and some helpers."""
        rows: list[tuple[Any, str]] = [
            (_base_client.SyncAPIClient, "request"),
            (_base_client.AsyncAPIClient, "request"),
            (_base_client.BaseClient, "_build_request"),
            (_base_client.SyncAPIClient, "_process_response"),
            (_base_client.AsyncAPIClient, "_process_response"),
            (openai.OpenAI, "request"),
        ]
        videos = sys.modules.get("openai.resources.videos")
        return rows if videos is None else [*rows, (videos.Videos, "create_and_poll")]
