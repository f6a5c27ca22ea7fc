"""A server, clients and telemetry for the tests of websockets."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from llmwatch.config import CaptureContent, Config
from tests.sources.openai.websocket.peer import (
    CLASSES,
    Server,
    Telemetry,
    answer,
    spoken,
)

MAJOR = int(openai.__version__.partition(".")[0])
OLD = MAJOR < 3
collect_ignore = ["test_harmless.py", "test_several.py", "test_translation.py"] if OLD else []
"""Tests of sessions with lanes and of translations, which the client has since openai 3."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Skip what an old release of the client cannot connect to."""
    try:
        return (yield)
    except AttributeError as error:
        if OLD and error.name in ("connect", "responses"):
            pytest.skip(str(error))
        raise


@pytest.fixture(scope="module", autouse=True)
def _client_warmed_up() -> None:
    """The client builds its parsers at the first event, for seconds: not while we measure."""
    events = [
        {"type": "response.created", "response": answer("resp_0", "in_progress")},
        {"type": "response.output_text.delta", "delta": "word"},
        {"type": "response.output_audio.delta", "delta": "word"},
        {"type": "response.completed", "response": answer("resp_0", "completed")},
        {"type": "response.done", "response": spoken("resp_0", "completed")},
        {"type": "session.output_audio.delta", "delta": "word"},
        {"type": "session.created", "session": {}},
    ]
    for kind in CLASSES:
        for event in events if hasattr(kind, "parse_event") else ():
            kind.parse_event(None, json.dumps(event))


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def server(shared_server: Server) -> Server:
    shared_server.peers.clear()
    return shared_server


def settings(server: Server) -> dict[str, Any]:
    """What a client is made with; the first releases speak TLS whatever the base URL says."""
    given = {"api_key": "sk-test", "base_url": f"http://127.0.0.1:{server.port}/v1"}
    if MAJOR < 2:
        given["websocket_base_url"] = f"ws://127.0.0.1:{server.port}/v1"
    return given


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(**settings(server)) as client:
        yield client


@pytest.fixture
async def aclient(server: Server) -> Any:
    async with AsyncOpenAI(**settings(server)) as client:
        yield client


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    telemetry.patches.install()
    yield telemetry
    telemetry.patches.undo()


@pytest.fixture
def outspoken() -> Iterator[Telemetry]:
    telemetry = Telemetry(Config(capture_content=CaptureContent.SPAN_ONLY))
    telemetry.patches.install()
    yield telemetry
    telemetry.patches.undo()
