"""However a response on a websocket ends, it is one span, with the right ending."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import suppress
from time import sleep
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from opentelemetry.trace import StatusCode
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from llmwatch.sources.openai import channel as channels
from tests.sources.openai.websocket.peer import (
    ASK,
    END,
    MODEL,
    NEAR,
    Peer,
    Server,
    Telemetry,
    answer,
    auntil,
    check_responses,
    connect,
    ending,
    first_chunk,
    half,
    half_then_drop,
    patient,
    respond,
    spoken,
    started,
    until,
)


@patient
def test_an_error_event_ends_its_response_with_the_code(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    def script(peer: Peer) -> None:
        peer.hear()
        peer.say(
            "error", status=429, error={"type": "requests", "code": "rate_limit", "message": "m"}
        )
        peer.hear()
        peer.respond("resp_1")

    server.script = script
    with client.responses.connect() as connection:
        connection.response.create(model=MODEL, input="hello")
        until(connection, "error")
        connection.response.create(model=MODEL, input="hello")
        until(connection, *END)
    failed, fine = telemetry.spans
    assert (failed.attributes or {})["error.type"] == "error"
    assert (failed.attributes or {})["llmwatch.error.code"] == "rate_limit"
    assert ending(failed) == "failed"
    assert failed.status.status_code is StatusCode.ERROR
    assert "gen_ai.response.time_to_first_chunk" not in (failed.attributes or {})
    assert fine.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("api", ["responses", "realtime"])
def test_a_response_that_fails_is_an_error(
    api: str, client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    def fail(peer: Peer) -> None:
        peer.hear()
        peer.created("resp_1")
        error = {"code": "server_error", "message": "m"}
        peer.say("response.failed", response=answer("resp_1", "failed", error=error))

    def mute(peer: Peer) -> None:
        peer.hear()
        peer.say("response.created", response=spoken("resp_1", "in_progress"))
        details = {"type": "failed", "error": {"type": "server_error"}}
        peer.done("resp_1", "failed", status_details=details)

    server.script = fail if api == "responses" else mute
    with connect(client, api) as connection:
        connection.send(dict(ASK) if api == "responses" else {"type": "response.create"})
        until(connection, "response.failed", "response.done")
    assert (telemetry.span.attributes or {})["error.type"] == "server_error"
    assert telemetry.span.status.status_code is StatusCode.ERROR
    assert ending(telemetry.span) == "failed"


def test_a_realtime_error_ends_only_the_request_that_it_blames(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    def refuse(peer: Peer, **error: Any) -> None:
        peer.say(
            "error", event_id="e", error={"type": "invalid_request_error", "message": "m", **error}
        )

    def script(peer: Peer) -> None:
        peer.hear("input_audio_buffer.commit")
        refuse(peer, code="input_audio_buffer_commit_empty", event_id="commit")
        peer.hear()
        refuse(peer, code="bad_item", param="item.content")
        refuse(peer, code="busy", event_id="mine")
        peer.hear()
        refuse(peer, code="invalid", param="response.tools")
        peer.hear()
        peer.speak("resp_1")

    server.script = script
    with client.realtime.connect(model="gpt-realtime") as connection:
        connection.input_audio_buffer.commit(event_id="commit")
        connection.response.create(event_id="mine")
        for _ in range(3):
            until(connection, "error")
        connection.response.create()
        until(connection, "error")
        connection.response.create()
        until(connection, *END)
    kinds = [(span.attributes or {}).get("llmwatch.error.code") for span in telemetry.spans]
    assert kinds == ["busy", "invalid", None]


def test_a_realtime_response_that_was_interrupted_says_why(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    def script(peer: Peer) -> None:
        peer.hear()
        peer.say("response.created", response=spoken("resp_1", "in_progress"))
        peer.voice("resp_1", 1)
        peer.done(
            "resp_1", "cancelled", status_details={"type": "cancelled", "reason": "turn_detected"}
        )

    server.script = script
    with client.realtime.connect(model="gpt-realtime") as connection:
        connection.response.create()
        until(connection, *END)
    assert (telemetry.span.attributes or {})["gen_ai.response.finish_reasons"] == ("turn_detected",)
    assert telemetry.span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("api", ["responses", "realtime"])
def test_a_dropped_connection_fails_what_is_in_flight(
    api: str, client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = half_then_drop
    with connect(client, api) as connection:
        connection.send(dict(ASK) if api == "responses" else {"type": "response.create"})
        with pytest.raises(ConnectionClosedError):
            until(connection)
    span = telemetry.span
    assert (span.attributes or {})["error.type"] == "ConnectionClosedError"
    assert (span.attributes or {})["llmwatch.stream.chunks"] == 1
    assert ending(span) == "failed"
    assert span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("api", ["responses", "realtime"])
async def test_a_dropped_connection_fails_what_is_in_flight_async(
    api: str, aclient: AsyncOpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = half_then_drop
    async with connect(aclient, api) as connection:
        await connection.send(dict(ASK) if api == "responses" else {"type": "response.create"})
        with pytest.raises(ConnectionClosedError):
            await auntil(connection)
    assert (telemetry.span.attributes or {})["error.type"] == "ConnectionClosedError"
    assert ending(telemetry.span) == "failed"


def test_a_server_that_says_goodbye_in_the_middle_fails_what_is_in_flight(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    def script(peer: Peer) -> None:
        half(peer)
        peer.socket.close()

    server.script = script
    with client.responses.connect() as connection:
        connection.response.create(model=MODEL, input="hello")
        until(connection)  # ends without an error, as ever
    assert (telemetry.span.attributes or {})["error.type"] == "ConnectionClosedOK"
    assert ending(telemetry.span) == "failed"


@patient
def test_after_a_reconnection_the_next_response_is_a_span_of_its_own(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = half_then_drop

    def reconnecting(event: Any) -> None:
        server.script = respond

    with client.responses.connect(on_reconnecting=reconnecting, initial_delay=0.01) as connection:
        connection.response.create(model=MODEL, input="hello")
        seen = 0
        for event in connection:
            if event.type == "response.output_text.delta" and not seen:
                seen = 1
                threading.Timer(0.2, connection.send, (dict(ASK),)).start()
            if event.type in END:
                break
    lost, fine = telemetry.spans
    assert ending(lost) == "failed"
    assert ending(fine) == "exhausted"
    assert first_chunk(fine) == pytest.approx(server.stamps[0] - started(fine), abs=NEAR)


@pytest.mark.parametrize("how", ["close", "exit", "raise"])
def test_a_consumer_that_leaves_closes_its_span(
    how: str, client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = half
    with suppress(KeyError), client.responses.connect() as connection:
        connection.response.create(model=MODEL, input="hello")
        until(connection, "response.output_text.delta")
        if how == "raise":
            raise KeyError
        if how == "close":
            connection.close()
            assert telemetry.spans
    assert ending(telemetry.span) == "closed"
    assert telemetry.span.status.status_code is StatusCode.UNSET
    assert (telemetry.span.attributes or {})["llmwatch.stream.chunks"] == 1


@pytest.mark.parametrize("api", ["responses", "realtime"])
async def test_a_consumer_that_leaves_closes_its_span_async(
    api: str, aclient: AsyncOpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = half
    async with connect(aclient, api) as connection:
        await connection.send(dict(ASK) if api == "responses" else {"type": "response.create"})
        await auntil(connection, "response.output_text.delta")
    assert ending(telemetry.span) == "closed"


async def test_a_cancelled_task_cancels_its_span(
    aclient: AsyncOpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = half
    waiting = asyncio.Event()
    manager = aclient.responses.connect()

    async def work() -> None:
        async with manager as connection:
            await connection.response.create(model=MODEL, input="hello")
            await auntil(connection, "response.output_text.delta")
            waiting.set()
            await connection.recv()

    task = asyncio.create_task(work())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ending(telemetry.span) == "cancelled"


@patient
async def test_a_cancelled_wait_ends_nothing(
    aclient: AsyncOpenAI, server: Server, telemetry: Telemetry
) -> None:
    def script(peer: Peer) -> None:
        peer.hear()
        sleep(0.1)
        peer.respond("resp_1")

    server.script = script
    async with aclient.responses.connect() as connection:
        await connection.response.create(model=MODEL, input="hello")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.recv(), 0.02)
        await auntil(connection, *END)
    check_responses(telemetry.span, server)


def test_a_forgotten_connection_abandons_its_span(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = half
    manager = client.responses.connect()
    connection = manager.enter()
    connection.response.create(model=MODEL, input="hello")
    until(connection, "response.output_text.delta")
    websocket = connection._connection
    del connection, manager
    gc.collect()
    assert ending(telemetry.span) == "abandoned"
    websocket.close()


def test_a_request_that_cannot_be_sent_is_a_failed_span(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    with client.responses.connect() as connection:
        connection.close()
        with pytest.raises(ConnectionClosed):
            connection.response.create(model=MODEL, input="hello")
    assert (telemetry.span.attributes or {})["error.type"] == "ConnectionClosedOK"


@patient
def test_what_is_in_flight_on_a_connection_is_bounded(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = lambda peer: peer.hear("never")  # type: ignore[assignment]
    with client.responses.connect() as connection:
        for _ in range(channels.LIMIT + 5):
            connection.response.create(model=MODEL, input="hello")
        assert len(telemetry.signals.live) == channels.LIMIT
    endings = [ending(span) for span in telemetry.spans]
    assert endings == ["abandoned"] * 5 + ["closed"] * channels.LIMIT
