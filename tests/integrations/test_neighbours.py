"""Beside a real neighbour, every call is counted once: by it or by llmwatch, never by both.

Run in one environment for each peer; without any of them there is nothing to meet.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

import llmwatch
from llmwatch.testing import Captured, capture
from tests.integrations.peers import Logfire, OpenInference, Peer, installed
from tests.sources.openai import transport

PEERS = installed()
if not PEERS:
    pytest.skip("no other instrumentation of OpenAI is installed here", allow_module_level=True)

# The peers' own deprecations are not ours to fix.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
IN: dict[str, Any] = {"model": "m", "input": "hi"}


def _stream(client: Any) -> None:
    for _ in client.chat.completions.create(**ASK, stream=True):
        pass


def _helper(client: Any) -> None:
    with client.chat.completions.stream(**ASK) as stream:
        for _ in stream:
            pass


def _responses_helper(client: Any) -> None:
    with client.responses.stream(**IN) as stream:
        for _ in stream:
            pass


def _responses_stream(client: Any) -> None:
    for _ in client.responses.create(**IN, stream=True):
        pass


CALLS: dict[str, Callable[[Any], object]] = {
    "chat": lambda client: client.chat.completions.create(**ASK),
    "chat parsed": lambda client: client.chat.completions.parse(**ASK),
    "chat raw": lambda client: client.chat.completions.with_raw_response.create(**ASK).parse(),
    "chat stream": _stream,
    "chat helper": _helper,
    "responses": lambda client: client.responses.create(**IN),
    "responses stream": _responses_stream,
    "responses helper": _responses_helper,
    "completions": lambda client: client.completions.create(model="m", prompt="hi"),
    "embeddings": lambda client: client.embeddings.create(**IN),
    "image": lambda client: client.images.generate(model="m", prompt="hi"),
    "moderation": lambda client: client.moderations.create(**IN),
    "speech": lambda client: client.audio.speech.create(model="m", input="hi", voice="alloy"),
}
if find_spec("openai.resources.videos") is not None:  # openai 2 and later
    CALLS["poll"] = lambda client: client.videos.create_and_poll(model="sora-2", prompt="hi")


async def _astream(client: Any) -> None:
    async for _ in await client.chat.completions.create(**ASK, stream=True):
        pass


async def _ahelper(client: Any) -> None:
    async with client.chat.completions.stream(**ASK) as stream:
        async for _ in stream:
            pass


async def _aresponses_helper(client: Any) -> None:
    async with client.responses.stream(**IN) as stream:
        async for _ in stream:
            pass


async def _atask(client: Any) -> None:
    await asyncio.create_task(client.chat.completions.create(**ASK))


ACALLS: dict[str, Callable[[Any], Any]] = {
    "chat": lambda client: client.chat.completions.create(**ASK),
    "chat parsed": lambda client: client.chat.completions.parse(**ASK),
    "chat stream": _astream,
    "chat helper": _ahelper,
    "chat in a task": _atask,
    "responses": lambda client: client.responses.create(**IN),
    "responses helper": _aresponses_helper,
    "embeddings": lambda client: client.embeddings.create(**IN),
    "image": lambda client: client.images.generate(model="m", prompt="hi"),
    "moderation": lambda client: client.moderations.create(**IN),
}


class Both:
    """A peer and llmwatch in one process; each call is made under the eyes of both."""

    def __init__(self, peer: Peer, seen: Captured) -> None:
        self.peer = peer
        self.seen = seen

    def who(self, call: Callable[[Any], object], client: Any = None) -> str:
        """Who makes spans for one call, and how many are llmwatch's own."""
        self._forget()
        with transport.client() as fresh:
            call(client or fresh)
        return self._who()

    async def awho(self, call: Callable[[Any], Any]) -> str:
        """The same, of an asynchronous call."""
        self._forget()
        async with transport.aclient() as client:
            await call(client)
        return self._who()

    def _forget(self) -> None:
        self.seen.clear()
        self.peer.exporter.clear()

    def _who(self) -> str:
        theirs = [span for span in self.peer.spans if is_call(span)]
        names = [
            *(["llmwatch"] * len(self.seen.spans)),
            *(["peer"] if theirs else []),
        ]
        return " ".join(names) or "nobody"


def is_call(span: ReadableSpan) -> bool:
    """False for spans that a peer makes of something else than a call."""
    return (span.attributes or {}).get("logfire.span_type") != "pending_span"


@pytest.fixture(params=PEERS, ids=lambda peer: peer.__name__)
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    """An installed neighbour, off."""
    peer: Peer = request.param()
    yield peer
    peer.remove()


@pytest.fixture(params=["llmwatch first", "peer first"])
def both(peer: Peer, request: pytest.FixtureRequest) -> Iterator[Both]:
    """A neighbour and llmwatch, both on, in either order."""
    if request.param == "peer first":
        peer.on()
    with capture() as seen:
        if request.param == "llmwatch first":
            peer.on()
        yield Both(peer, seen)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_counted_once(both: Both, name: str) -> None:
    """Whichever came first, one of the two watches a call: the other one if it can."""
    expected = ["nobody"] if name in both.peer.silent else ["peer", "llmwatch"]
    assert both.who(CALLS[name]) in expected


@pytest.mark.parametrize("name", ACALLS)
async def test_an_asynchronous_call_is_counted_once(both: Both, name: str) -> None:
    """The same holds where the call is awaited."""
    assert await both.awho(ACALLS[name]) in ("peer", "llmwatch")


def test_llmwatch_stands_aside_only_for_what_the_neighbour_watches(both: Both) -> None:
    """Chat is every neighbour's; moderation only of those that wrap every request."""
    everything = isinstance(both.peer, OpenInference | Logfire) or both.peer.name == "OpenLIT"
    assert both.who(CALLS["chat"]) == "peer"
    assert both.who(CALLS["moderation"]) == ("peer" if everything else "llmwatch")


def test_a_client_built_before_both_is_counted_once(peer: Peer) -> None:
    """Resources that a client made earlier are watched by one of the two as well."""
    with transport.client() as client:
        CALLS["chat"](client)
        CALLS["chat raw"](client)
        peer.on()
        with capture() as seen:
            for name in ("chat", "chat raw", "embeddings"):
                assert Both(peer, seen).who(CALLS[name], client) in ("peer", "llmwatch")


def test_llmwatch_is_back_with_the_first_call_after_the_neighbour_is_off(both: Both) -> None:
    """A neighbour's ``uninstrument`` gives the calls back, unless it goes on recording."""
    assert both.who(CALLS["chat"]) == "peer"
    both.peer.off()
    back = "llmwatch" if both.peer.stops else "peer"
    for name in ("chat", "chat stream", "chat raw", "chat"):
        assert both.who(CALLS[name]) == back, name


def test_a_neighbour_may_come_and_go(both: Both) -> None:
    """Each time it is on, it watches; each time it is off, llmwatch does."""
    if not both.peer.stops:
        pytest.skip(f"{both.peer.name} cannot be switched off")
    for _ in range(3):
        assert both.who(CALLS["chat"]) == "peer"
        both.peer.off()
        assert both.who(CALLS["chat"]) == "llmwatch"
        both.peer.on()


@pytest.mark.parametrize("first", ["llmwatch", "peer"])
@pytest.mark.parametrize("last", ["llmwatch", "peer"])
def test_both_can_go_and_come_again_in_any_order(peer: Peer, first: str, last: str) -> None:
    """Whoever came first and whoever went last, nobody is left, and llmwatch can come again."""
    if not peer.stops:
        pytest.skip(f"{peer.name} cannot be switched off")
    for _ in range(3):
        if first == "peer":
            peer.on()
        with capture() as seen:
            both = Both(peer, seen)
            if first == "llmwatch":
                peer.on()
            assert both.who(CALLS["chat"]) == "peer"
            if last == "llmwatch":
                peer.off()
                assert both.who(CALLS["chat"]) == "llmwatch"
        if last == "peer":
            assert both.who(CALLS["chat"]) == "peer"
            peer.off()
        assert both.who(CALLS["chat"]) == "nobody"
        with capture() as seen:
            assert Both(peer, seen).who(CALLS["chat"]) == "llmwatch"


@pytest.mark.parametrize("first", ["llmwatch", "peer"])
def test_alongside_means_both(peer: Peer, first: str) -> None:
    """Told to go on, llmwatch counts every call, once, and the neighbour does too."""
    if first == "peer":
        peer.on()
    with capture(alongside=True) as seen:
        if first == "llmwatch":
            peer.on()
        both = Both(peer, seen)
        assert both.who(CALLS["chat"]) == "llmwatch peer"
        assert both.who(CALLS["chat stream"]) == "llmwatch peer"


def test_standing_aside_is_said_once(both: Both, caplog: pytest.LogCaptureFixture) -> None:
    """One line: who is there, what llmwatch does about it, and how to have it otherwise."""
    with caplog.at_level(logging.INFO, "llmwatch"):
        for name in ("chat", "chat", "embeddings", "chat stream"):
            both.who(CALLS[name])
    (line,) = (each.getMessage() for each in caplog.records if each.name == "llmwatch")
    assert both.peer.name in line
    assert "stands aside" in line
    assert "/chat/completions" in line
    assert "alongside=True" in line


def test_each_instrument_says_it_again(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """A new session is a new decision, and is told anew."""
    peer.on()
    for _ in range(2):
        with capture() as seen, caplog.at_level(logging.INFO, "llmwatch"):
            Both(peer, seen).who(CALLS["chat"])
    lines = [each for each in caplog.records if "stands aside" in each.getMessage()]
    assert len(lines) == 2


@pytest.mark.skipif(Logfire not in PEERS, reason="Logfire is not installed")
def test_one_instrumented_client_is_not_all_clients() -> None:
    """Logfire can watch a single client; llmwatch then watches the others."""
    with transport.client() as theirs, capture() as seen:
        peer = Logfire(theirs)
        peer.on()
        both = Both(peer, seen)
        assert both.who(CALLS["chat"], theirs) == "peer"
        assert both.who(CALLS["chat"]) == "llmwatch"
        peer.off()
        assert both.who(CALLS["chat"], theirs) == "llmwatch"
    assert not llmwatch.session.current()
