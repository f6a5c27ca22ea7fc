"""Watching websockets changes nothing for the program, and keeps its secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from openai.lib import realtime_translation
from openai.lib.responses_websocket import (
    AsyncResponsesWebSocketLane,
    ResponsesWebSocketLane,
)
from openai.resources.responses import responses
from opentelemetry.instrumentation.utils import suppress_instrumentation
from websockets.exceptions import ConnectionClosedError

from llmwatch import _guard
from llmwatch.sources.openai import channel as channels
from llmwatch.sources.openai import dialects, websocket
from llmwatch.testing import capture
from tests.sources.openai.websocket.peer import (
    ASK,
    CLASSES,
    END,
    MODEL,
    Peer,
    Server,
    Telemetry,
    answer,
    auntil,
    half_then_drop,
    respond,
    speak,
    spoken,
    until,
)


def test_suppressed_instrumentation_makes_no_span(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    def script(peer: Peer) -> None:
        peer.hear()
        peer.respond("resp_1")
        peer.hear()
        peer.respond("resp_2")

    server.script = script
    with client.responses.connect() as connection:
        with suppress_instrumentation():
            connection.response.create(model=MODEL, input="hello")
        until(connection, *END)
        assert telemetry.spans == []
        connection.response.create(model=MODEL, input="hello")
        until(connection, *END)
    assert (telemetry.span.attributes or {})["gen_ai.response.id"] == "resp_2"


def test_the_parent_is_the_span_round_the_request(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = respond
    with client.responses.connect() as connection:
        with telemetry.tracer.start_as_current_span("mine") as mine:
            connection.response.create(model=MODEL, input="hello")
        until(connection, *END)
    (span,) = (each for each in telemetry.spans if each.name != "mine")
    assert span.parent is not None
    assert span.parent.span_id == mine.get_span_context().span_id


def test_undo_restores_every_attribute_exactly() -> None:
    owners = [*CLASSES, ResponsesWebSocketLane, AsyncResponsesWebSocketLane, realtime_translation]
    before = [dict(vars(each)) for each in owners]
    telemetry = Telemetry()
    telemetry.patches.install()
    changed = [
        {name for name, value in vars(each).items() if value is not old.get(name)}
        for each, old in zip(owners, before, strict=True)
    ]
    telemetry.patches.undo()
    after = [dict(vars(each)) for each in owners]
    for old, new in zip(before, after, strict=True):
        assert old.keys() == new.keys()
        assert all(old[name] is new[name] for name in old)
    assert all(changed)
    receiving = [
        names for each, names in zip(CLASSES, changed, strict=False) if hasattr(each, "recv")
    ]
    assert all({"send", "recv_bytes", "close"} <= names for names in receiving)


def test_a_wrapper_that_outlives_undo_passes_through(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = respond
    with client.responses.connect() as connection:
        create, receive = connection.send, connection.recv_bytes
        telemetry.patches.undo()
        create(dict(ASK))  # type: ignore[arg-type]
        while json.loads(receive())["type"] not in END:
            pass
    assert telemetry.spans == []


def test_events_results_and_types_are_the_clients_own(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    def watched() -> list[Any]:
        server.script = respond
        with client.responses.connect() as connection:
            assert type(connection) is responses.ResponsesConnection
            assert connection.send(dict(ASK)) is None  # type: ignore[arg-type,func-returns-value]
            events = []
            for event in connection:
                events.append(event)
                if event.type in END:
                    return events
        raise AssertionError

    with_us = watched()
    telemetry.patches.undo()
    without = watched()
    assert [type(event) for event in with_us] == [type(event) for event in without]
    assert [event.to_dict() for event in with_us] == [event.to_dict() for event in without]


FAULTS = [
    (channels.Channel, "_start"),
    (channels.Channel, "_note"),
    (channels.Channel, "_read"),
    (channels.Channel, "_finish"),
    (channels.Channel, "received"),
    (channels.Channel, "sent"),
    (channels.Channel, "end"),
    (dialects.ResponsesChannel, "_created"),
    (dialects.ResponsesChannel, "_owner"),
    (channels, "read_request"),
    (channels, "read_responses"),
    (channels, "parsed"),
    (channels, "capture_request"),
    (dialects, "parsed"),
    (websocket._Watch, "channel"),
    (websocket, "_far_end"),
]


@contextmanager
def faulty(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Iterator[None]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("injected")

    with monkeypatch.context() as patch:
        patch.setattr(_guard, "strict", False)
        patch.setattr(owner, name, fail)
        yield


@pytest.mark.parametrize(("owner", "name"), FAULTS, ids=[name for _, name in FAULTS])
def test_no_fault_of_ours_reaches_the_program(
    owner: Any, name: str, client: OpenAI, server: Server, telemetry: Telemetry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    server.script = respond
    with faulty(monkeypatch, owner, name), client.responses.connect() as connection:
        connection.response.create(model=MODEL, input="hello")
        seen = until(connection, *END)
    assert seen.count("response.output_text.delta") == 3
    assert seen[-1] == "response.completed"


@pytest.mark.parametrize(("owner", "name"), FAULTS, ids=[name for _, name in FAULTS])
async def test_no_fault_of_ours_reaches_the_program_async(
    owner: Any, name: str, aclient: AsyncOpenAI, server: Server, telemetry: Telemetry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    server.script = half_then_drop
    with faulty(monkeypatch, owner, name):
        async with aclient.responses.connect() as connection:
            await connection.response.create(model=MODEL, input="hello")
            with pytest.raises(ConnectionClosedError):
                await auntil(connection)


@pytest.mark.parametrize("whole", [True, False])
def test_content_is_captured_where_it_is_asked_for(
    whole: bool, client: OpenAI, server: Server, outspoken: Telemetry
) -> None:
    def script(peer: Peer) -> None:
        peer.hear()
        peer.created("resp_1")
        for _ in range(2):
            peer.say("response.output_text.delta", output_index=0, content_index=0, delta="ho")
        if whole:
            said = {"type": "message", "content": [{"type": "output_text", "text": "hoho"}]}
            peer.say("response.completed", response=answer("resp_1", "completed", output=[said]))

    server.script = script
    with client.responses.connect() as connection:
        connection.response.create(model=MODEL, input="hello", instructions="be kind")
        for _ in range(4 if whole else 3):
            connection.recv()
    found = dict(outspoken.span.attributes or {})
    assert "hello" in str(found["gen_ai.input.messages"])
    assert "be kind" in str(found["gen_ai.system_instructions"])
    assert "hoho" in str(found["gen_ai.output.messages"])


def test_transcripts_are_content_and_audio_is_not(
    client: OpenAI, server: Server, outspoken: Telemetry
) -> None:
    def script(peer: Peer) -> None:
        peer.hear()
        peer.say("response.created", response=spoken("resp_1", "in_progress"))
        place = {"response_id": "resp_1", "output_index": 0, "content_index": 0}
        peer.say("response.output_audio.delta", delta="QUJD" * 9, **place)
        peer.say("response.output_audio_transcript.delta", delta="spoken", **place)

    server.script = script
    with client.realtime.connect(model="gpt-realtime") as connection:
        connection.response.create(response={"instructions": "be kind"})
        for _ in range(3):
            connection.recv()
    found = outspoken.span.to_json()
    assert "spoken" in found
    assert "be kind" in found
    assert "QUJD" not in found


def test_the_source_as_a_whole_sees_websockets_and_counts_them(
    client: OpenAI, server: Server
) -> None:
    server.script = respond
    with capture(sources=("openai",)) as seen:
        with client.responses.connect() as connection:
            connection.response.create(model=MODEL, input="hello")
            until(connection, *END)
        (span,) = seen.spans
        assert (span.attributes or {})["openai.api.type"] == "responses"
        (point,) = seen.metrics()["gen_ai.client.operation.duration"]
        assert point.count == 1  # type: ignore[union-attr]


def test_no_key_and_no_audio_reaches_a_span(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = speak
    with client.realtime.connect(
        model="gpt-realtime", extra_query={"key": "sk-query"}
    ) as connection:
        connection.input_audio_buffer.append(audio="QUJD" * 100)
        connection.response.create(response={"instructions": "private"})
        until(connection, *END)
    text = telemetry.span.to_json()
    assert all(word not in text for word in ("sk-", "QUJD", "private", "word"))
