"""Responses on websockets: the real client against a real server whose stamps are the truth."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from time import perf_counter, sleep
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.sources.openai.websocket.peer import (
    ASK,
    END,
    MODEL,
    NEAR,
    Peer,
    Server,
    Telemetry,
    auntil,
    check_realtime,
    check_responses,
    patient,
    resource,
    respond,
    speak,
    started,
    until,
)

pytestmark = pytest.mark.timing


@pytest.mark.parametrize("api", ["responses", "beta.responses"])
@patient
def test_a_response_is_one_span(
    api: str, client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = respond
    with resource(client, api, server).connect() as connection:
        connection.response.create(model=MODEL, input="hello")
        until(connection, *END)
    check_responses(telemetry.span, server)


@pytest.mark.parametrize("api", ["responses", "beta.responses"])
@patient
async def test_a_response_is_one_span_async(
    api: str, aclient: AsyncOpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = respond
    async with resource(aclient, api, server).connect() as connection:
        await connection.response.create(model=MODEL, input="hello")
        await auntil(connection, *END)
    check_responses(telemetry.span, server)


@pytest.mark.parametrize("api", ["realtime", "beta.realtime"])
@patient
def test_a_realtime_response_is_one_span(
    api: str, client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = speak
    with resource(client, api, server).connect(model="gpt-realtime") as connection:
        connection.response.create()
        until(connection, *END)
    check_realtime(telemetry.span, server)


@pytest.mark.parametrize("api", ["realtime", "beta.realtime"])
@patient
async def test_a_realtime_response_is_one_span_async(
    api: str, aclient: AsyncOpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = speak
    async with resource(aclient, api, server).connect(model="gpt-realtime") as connection:
        await connection.response.create()
        await auntil(connection, *END)
    check_realtime(telemetry.span, server)


WAYS: dict[str, Callable[[Any], Any]] = {
    "send": lambda connection: connection.send(dict(ASK)),
    "send_raw": lambda connection: connection.send_raw(json.dumps(ASK)),
    "send_raw bytes": lambda connection: connection.send_raw(json.dumps(ASK).encode()),
    "resource": lambda connection: connection.response.create(model=MODEL, input="hello"),
}


@pytest.mark.parametrize("way", WAYS)
@patient
def test_however_a_request_is_sent_it_is_seen(
    way: str, client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = respond
    with client.responses.connect() as connection:
        WAYS[way](connection)
        until(connection, *END)
    check_responses(telemetry.span, server)


@pytest.mark.parametrize("way", WAYS)
@patient
async def test_however_a_request_is_sent_it_is_seen_async(
    way: str, aclient: AsyncOpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = respond
    async with aclient.responses.connect() as connection:
        await WAYS[way](connection)
        await auntil(connection, *END)
    check_responses(telemetry.span, server)


@patient
def test_a_request_given_before_connecting_starts_when_it_is_sent(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = respond
    manager = client.responses.connect()
    manager.send(dict(ASK))  # type: ignore[arg-type]
    sleep(0.05)
    before = perf_counter()
    connection = manager.enter()
    until(connection, *END)
    connection.close()
    check_responses(telemetry.span, server)
    assert started(telemetry.span) > before - 0.002


@patient
async def test_a_request_given_before_connecting_starts_when_it_is_sent_async(
    aclient: AsyncOpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = respond
    manager = aclient.responses.connect()
    manager.send(dict(ASK))  # type: ignore[arg-type]
    async with manager as connection:
        await auntil(connection, *END)
    check_responses(telemetry.span, server)


@patient
def test_however_events_are_received_they_are_timed(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = respond

    def raw(connection: Any) -> None:
        while json.loads(connection.recv_bytes())["type"] not in END:
            pass

    def dispatched(connection: Any) -> None:
        connection.on("response.completed", lambda event: connection.close())
        connection.dispatch_events()

    def received(connection: Any) -> None:
        while connection.recv().type not in END:
            pass

    for receive in (raw, dispatched, received):
        with client.responses.connect() as connection:
            connection.response.create(model=MODEL, input="hello")
            receive(connection)
        check_responses(telemetry.span, server)
        telemetry.exporter.clear()


@patient
def test_a_reader_that_waits_before_the_request_waits_only_since_the_request(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = respond
    with client.responses.connect() as connection:
        reader = threading.Thread(target=until, args=(connection, *END))
        reader.start()
        sleep(0.1)
        connection.response.create(model=MODEL, input="hello")
        reader.join()
    check_responses(telemetry.span, server)
    found = dict(telemetry.span.attributes or {})
    assert 0.1 < found["llmwatch.stream.server_wait"] < 0.19  # type: ignore[operator]


@patient
def test_reasoning_and_visible_output_are_timed_apart(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    def script(peer: Peer) -> None:
        peer.hear()
        peer.created("resp_1")
        sleep(0.02)
        peer.delta("response.reasoning_summary_text.delta")
        peer.text()
        peer.completed("resp_1")

    server.script = script
    with client.responses.connect() as connection:
        connection.response.create(model=MODEL, input="hello", reasoning={"effort": "low"})
        until(connection, *END)
    span = telemetry.span
    found = dict(span.attributes or {})
    assert found["gen_ai.request.reasoning.level"] == "low"
    reasoning, output = (stamp - started(span) for stamp in server.stamps[:2])
    assert found["llmwatch.response.time_to_first_reasoning"] == pytest.approx(reasoning, abs=NEAR)
    assert found["llmwatch.response.time_to_first_output"] == pytest.approx(output, abs=NEAR)
