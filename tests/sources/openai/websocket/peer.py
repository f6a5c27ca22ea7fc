"""The server's end of a websocket, which stamps what it says, and how to check what was seen of it."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from functools import wraps
from importlib import import_module
from inspect import iscoroutinefunction
from time import perf_counter, sleep, time_ns
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from llmwatch.config import Config
from llmwatch.patching import Patches
from llmwatch.signals.operation import Signals
from llmwatch.sources.openai import websocket
from llmwatch.sources.openai.neighbours import Neighbours

MODEL = "gpt-test"


USAGE = {
    "input_tokens": 11,
    "output_tokens": 7,
    "total_tokens": 18,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens_details": {"reasoning_tokens": 2},
}


REALTIME_USAGE = {
    "input_tokens": 30,
    "output_tokens": 9,
    "total_tokens": 39,
    "input_token_details": {"cached_tokens": 5, "audio_tokens": 20, "text_tokens": 10},
    "output_token_details": {"audio_tokens": 6, "text_tokens": 3},
}


NEAR = 0.035
"""Seconds that this machine may take between a server's stamp and the client's, when busy."""

Script = Callable[["Peer"], None]


def classes_of(module: str, name: str) -> list[type]:
    """The classes of one kind of connection; none where this release of the client lacks it."""
    try:
        found = import_module(f"openai.resources.{module}")
    except ModuleNotFoundError:
        return []
    names = (prefix + name + suffix for prefix in ("", "Async") for suffix in SUFFIXES)
    return [getattr(found, each) for each in names if hasattr(found, each)]


SUFFIXES = ("Connection", "ConnectionManager")
CLASSES = [
    *classes_of("responses.responses", "Responses"),
    *classes_of("beta.responses.responses", "Responses"),
    *classes_of("realtime.realtime", "Realtime"),
    *classes_of("beta.realtime.realtime", "Realtime"),
    *classes_of("realtime.translations.translations", "Translations"),
]


class Peer:
    """The server's end of one connection: speaks events, and stamps when it did."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.stamps: list[float] = []

    def hear(self, *kinds: str) -> dict[str, Any]:
        """Wait for the next client event of these kinds (default: response.create)."""
        while True:
            event: dict[str, Any] = json.loads(self.socket.recv())
            if event["type"] in (kinds or ("response.create",)):
                return event

    def say(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def delta(self, kind: str, **fields: Any) -> None:
        self.stamps.append(perf_counter())
        self.say(kind, delta="word", **fields)

    def drop(self) -> None:
        """Vanish without a closing handshake."""
        raw = self.socket.socket
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.shutdown(socket.SHUT_RDWR)

    # --- the two dialects ------------------------------------------------------------------------

    def created(self, identity: str, **more: Any) -> None:
        self.say("response.created", response=answer(identity, "in_progress"), **more)

    def completed(self, identity: str, **more: Any) -> None:
        self.say("response.completed", response=answer(identity, "completed"), **more)

    def text(self, count: int = 3, wait: float = 0.04, **more: Any) -> None:
        for _ in range(count):
            sleep(wait)
            self.delta("response.output_text.delta", item_id="item", **more)

    def respond(self, identity: str, **more: Any) -> None:
        self.created(identity, **more)
        self.say("response.in_progress", response=answer(identity, "in_progress"), **more)
        self.text(**more)
        self.completed(identity, **more)

    def voice(self, identity: str, count: int = 3, wait: float = 0.04) -> None:
        for _ in range(count):
            sleep(wait)
            self.delta("response.output_audio.delta", response_id=identity, item_id="item")

    def done(self, identity: str, status: str = "completed", **more: Any) -> None:
        self.say("response.done", response=spoken(identity, status, **more))

    def speak(self, identity: str) -> None:
        self.say("response.created", response=spoken(identity, "in_progress"))
        self.voice(identity)
        self.done(identity)


def answer(identity: str, status: str, **more: Any) -> dict[str, Any]:
    usage = USAGE if status == "completed" else None
    return {
        "id": identity, "object": "response", "model": MODEL + "-2026", "status": status,
        "output": [], "usage": usage, "conversation": {"id": "conv_1"}, **more,
    }  # fmt: skip


def spoken(identity: str, status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": identity, "object": "realtime.response", "status": status, "output": [],
        "conversation_id": "conv_2", "output_modalities": ["audio"],
        "usage": REALTIME_USAGE if status == "completed" else None, **more,
    }  # fmt: skip


class Try:
    """One try at a test of times: a machine that stalls shows nothing of the law."""

    def __init__(self, telemetry: Telemetry, left: int) -> None:
        self.telemetry = telemetry
        self.left = left
        self.failed = False

    def __enter__(self) -> None:
        self.telemetry.exporter.clear()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self.failed = kind is not None
        return self.left > 0 and kind in (AssertionError, KeyError)


def tries(given: dict[str, Any]) -> Iterator[Try]:
    for left in (2, 1, 0):
        yield (attempt := Try(given["telemetry"], left))
        if not attempt.failed:
            return


def patient(test: Callable[..., Any]) -> Callable[..., Any]:
    """Try a test of times up to three times."""

    @wraps(test)
    def patiently(**given: Any) -> None:
        for attempt in tries(given):
            with attempt:
                test(**given)

    @wraps(test)
    async def apatiently(**given: Any) -> None:
        for attempt in tries(given):
            with attempt:
                await test(**given)

    return apatiently if iscoroutinefunction(test) else patiently


class Server:
    """A websocket server that follows a script, once per connection."""

    def __init__(self) -> None:
        self.script: Script = lambda peer: None
        self.peers: list[Peer] = []
        self._server = serve(self._handle, "127.0.0.1", 0)
        self.port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _handle(self, connection: ServerConnection) -> None:
        peer = Peer(connection)
        self.peers.append(peer)
        try:
            self.script(peer)
            connection.recv()  # until the client leaves
        except (ConnectionClosed, OSError):
            pass

    @property
    def stamps(self) -> list[float]:
        return self.peers[-1].stamps

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join(5)


class Telemetry:
    """The websocket patches alone, and the spans that they make."""

    def __init__(self, config: Config | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = provider.get_tracer("test")
        nothing = SimpleNamespace(
            watch_active=lambda live: None,
            put=lambda record: None,
            emit=lambda operation, record, error: None,
        )
        self.signals = Signals(config or Config(), self.tracer, nothing, nothing)  # type: ignore[arg-type]
        self.patches = Patches(
            "openai websockets", websocket.patches(self.signals, Neighbours(alongside=False))
        )

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    @property
    def span(self) -> ReadableSpan:
        (span,) = self.spans
        assert not self.signals.live
        return span


def started(span: ReadableSpan) -> float:
    """A span's start on the clock of `perf_counter`."""
    assert span.start_time is not None
    return perf_counter() - (time_ns() - span.start_time) / 1e9


def first_chunk(span: ReadableSpan) -> float:
    assert span.attributes is not None
    return span.attributes["gen_ai.response.time_to_first_chunk"]  # type: ignore[return-value]


def ending(span: ReadableSpan) -> Any:
    assert span.attributes is not None
    return span.attributes["llmwatch.stream.ending"]


def until(connection: Any, *kinds: str) -> list[str]:
    """Receive up to an event of these kinds; the types of all."""
    seen = []
    for event in connection:
        seen.append(event.type)
        if event.type in kinds:
            break
    return seen


async def auntil(connection: Any, *kinds: str) -> list[str]:
    seen = []
    async for event in connection:
        seen.append(event.type)
        if event.type in kinds:
            break
    return seen


END = ("response.completed", "response.done", "error")


ASK = {"type": "response.create", "model": MODEL, "input": "hello"}


def check_responses(span: ReadableSpan, server: Server) -> None:
    found = dict(span.attributes or {})
    assert span.name == f"chat {MODEL}"
    assert found["gen_ai.operation.name"] == "chat"
    assert found["gen_ai.provider.name"] == "openai"
    assert found["openai.api.type"] == "responses"
    assert found["gen_ai.request.model"] == MODEL
    assert found["gen_ai.response.model"] == MODEL + "-2026"
    assert found["gen_ai.response.id"] == "resp_1"
    assert found["gen_ai.conversation.id"] == "conv_1"
    assert found["gen_ai.response.finish_reasons"] == ("stop",)
    assert found["gen_ai.usage.input_tokens"] == 11
    assert found["gen_ai.usage.output_tokens"] == 7
    assert found["gen_ai.usage.cache_read.input_tokens"] == 4
    assert found["gen_ai.usage.reasoning.output_tokens"] == 2
    assert found["server.address"] == "127.0.0.1"
    assert found["server.port"] == server.port
    assert found["llmwatch.stream.chunks"] == 3
    assert ending(span) == "exhausted"
    assert span.status.status_code is StatusCode.UNSET
    assert first_chunk(span) == pytest.approx(server.stamps[0] - started(span), abs=NEAR)
    gaps = [
        later - earlier for earlier, later in zip(server.stamps, server.stamps[1:], strict=False)
    ]
    assert found["llmwatch.stream.gap.max"] == pytest.approx(max(gaps), abs=NEAR)


def check_realtime(span: ReadableSpan, server: Server) -> None:
    found = dict(span.attributes or {})
    assert span.name == "chat gpt-realtime"
    assert found["openai.api.type"] == "realtime"
    assert found["gen_ai.request.model"] == "gpt-realtime"
    assert found["gen_ai.output.type"] == "speech"
    assert found["gen_ai.response.id"] == "resp_1"
    assert found["gen_ai.conversation.id"] == "conv_2"
    assert found["gen_ai.response.finish_reasons"] == ("stop",)
    assert found["gen_ai.usage.input_tokens"] == 30
    assert found["gen_ai.usage.output_tokens"] == 9
    assert found["gen_ai.usage.cache_read.input_tokens"] == 5
    assert found["gen_ai.usage.audio.input_tokens"] == 20
    assert found["gen_ai.usage.audio.output_tokens"] == 6
    assert found["server.port"] == server.port
    assert found["llmwatch.stream.chunks"] == 3
    assert ending(span) == "exhausted"
    assert first_chunk(span) == pytest.approx(server.stamps[0] - started(span), abs=NEAR)


def respond(peer: Peer) -> None:
    peer.hear()
    peer.respond("resp_1")


def speak(peer: Peer) -> None:
    peer.hear()
    peer.speak("resp_1")


def resource(client: Any, api: str, server: Server) -> Any:
    if api == "beta.realtime":  # speaks TLS whatever the base URL says
        client = client.copy(websocket_base_url=f"ws://127.0.0.1:{server.port}/v1")
    for name in api.split("."):
        client = getattr(client, name)
    return client


def connect(client: Any, api: str) -> Any:
    return (
        client.realtime.connect(model="gpt-realtime")
        if api == "realtime"
        else client.responses.connect()
    )


def half(peer: Peer) -> None:
    """Half of a response in both dialects' common words; then silence."""
    peer.hear()
    peer.created("resp_1")
    peer.delta("response.output_text.delta", response_id="resp_1", item_id="item")


def half_then_drop(peer: Peer) -> None:
    half(peer)
    peer.drop()
