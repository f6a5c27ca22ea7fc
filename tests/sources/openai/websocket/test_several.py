"""Several responses on one websocket, also those that the server makes by itself."""

from __future__ import annotations

import asyncio
from time import perf_counter, sleep

import pytest
from openai import AsyncOpenAI, OpenAI
from openai.lib.responses_websocket import (
    AsyncResponsesWebSocketSession,
    ResponsesWebSocketLimits,
    ResponsesWebSocketSession,
)

from tests.sources.openai.websocket.peer import (
    ASK,
    END,
    MODEL,
    NEAR,
    Peer,
    Server,
    Telemetry,
    answer,
    first_chunk,
    patient,
    spoken,
    started,
    until,
)

pytestmark = pytest.mark.timing


@patient
def test_two_responses_in_turn_are_two_spans(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    def script(peer: Peer) -> None:
        for identity in ("resp_1", "resp_2"):
            peer.hear()
            peer.respond(identity)

    server.script = script
    with client.responses.connect() as connection:
        for previous in (None, "resp_1"):
            connection.response.create(model=MODEL, input="hello", previous_response_id=previous)
            until(connection, *END)
    one, two = telemetry.spans
    assert (one.attributes or {})["gen_ai.response.id"] == "resp_1"
    assert (two.attributes or {})["gen_ai.response.id"] == "resp_2"
    assert (two.attributes or {})["gen_ai.request.previous_response.id"] == "resp_1"
    for span, stamp in ((one, server.stamps[0]), (two, server.stamps[3])):
        assert first_chunk(span) == pytest.approx(stamp - started(span), abs=NEAR)


@patient
def test_two_realtime_responses_in_flight_are_told_apart_by_id(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    def script(peer: Peer) -> None:
        peer.hear()
        peer.hear()
        for identity in ("resp_1", "resp_2"):
            peer.say("response.created", response=spoken(identity, "in_progress"))
        for identity in ("resp_1", "resp_1", "resp_2", "resp_1", "resp_2"):
            peer.voice(identity, count=1)
        peer.done("resp_2")
        peer.done("resp_1")

    server.script = script
    with client.realtime.connect(model="gpt-realtime") as connection:
        connection.response.create()
        connection.response.create(response={"conversation": "auto"})
        until(connection, *END)
        until(connection, *END)
    spans = {(span.attributes or {})["gen_ai.response.id"]: span for span in telemetry.spans}
    one, two = (dict(spans[name].attributes or {}) for name in ("resp_1", "resp_2"))
    assert (one["llmwatch.stream.chunks"], two["llmwatch.stream.chunks"]) == (3, 2)
    assert first_chunk(spans["resp_1"]) == pytest.approx(
        server.stamps[0] - started(spans["resp_1"]), abs=NEAR
    )
    assert first_chunk(spans["resp_2"]) == pytest.approx(
        server.stamps[2] - started(spans["resp_2"]), abs=NEAR
    )
    # Frames of the other response came in between: that was waiting for the server all the same.
    assert two["llmwatch.stream.server_wait"] > 0.18  # type: ignore[operator]
    assert two["llmwatch.stream.consumer_time"] < 0.08  # type: ignore[operator]
    assert two["llmwatch.stream.gap.max"] == pytest.approx(
        server.stamps[4] - server.stamps[2], abs=NEAR
    )


@patient
def test_a_response_outside_the_conversation_is_not_taken_for_one_of_the_server(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    def script(peer: Peer) -> None:
        peer.hear()
        peer.say("input_audio_buffer.speech_stopped", audio_end_ms=10, item_id="item")
        peer.speak("resp_1")
        peer.say("response.created", response=spoken("resp_2", "in_progress", conversation_id=None))
        peer.voice("resp_2")
        peer.done("resp_2", conversation_id=None)

    server.script = script
    with client.realtime.connect(model="gpt-realtime") as connection:
        connection.response.create(
            response={"conversation": "none", "output_modalities": ["text"], "max_output_tokens": 5}
        )
        until(connection, *END)
        until(connection, *END)
    one, two = (dict(span.attributes or {}) for span in telemetry.spans)
    assert (one["gen_ai.response.id"], two["gen_ai.response.id"]) == ("resp_1", "resp_2")
    assert "gen_ai.request.max_tokens" not in one
    assert two["gen_ai.request.max_tokens"] == 5
    assert "gen_ai.conversation.id" not in two


LIMITS = ResponsesWebSocketLimits(
    max_lanes=4, max_events_per_lane=99, max_events=99, max_bytes_per_lane=10**6, max_bytes=10**6
)


def lanes(peer: Peer) -> None:
    first, second = peer.hear(), peer.hear()
    a, b = first.get("stream_id"), second["stream_id"]
    mark = {"stream_id": a} if a is not None else {}
    peer.created("resp_a", **mark)
    peer.created("resp_b", stream_id=b)
    for _ in range(3):
        peer.text(1, **mark)
        peer.text(1, stream_id=b)
    peer.text(1, stream_id=b)
    peer.completed("resp_b", stream_id=b)
    peer.completed("resp_a", **mark)


def check_lanes(telemetry: Telemetry, server: Server) -> None:
    spans = {(span.attributes or {})["gen_ai.response.id"]: span for span in telemetry.spans}
    assert len(telemetry.spans) == 2
    for name, count, first in (("resp_a", 3, 0), ("resp_b", 4, 1)):
        assert (spans[name].attributes or {})["llmwatch.stream.chunks"] == count
        expected = server.stamps[first] - started(spans[name])
        assert first_chunk(spans[name]) == pytest.approx(expected, abs=NEAR)


@patient
def test_lanes_of_one_connection_are_told_apart(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = lanes
    for _ in range(2):  # the first time, the client's own accumulators are slow
        telemetry.exporter.clear()
        with (
            client.responses.connect() as connection,
            ResponsesWebSocketSession(connection, limits=LIMITS) as session,
        ):
            other = session.lane("other")
            session.default.send(dict(ASK))  # type: ignore[arg-type]
            other.send(dict(ASK))  # type: ignore[arg-type]
            assert other.get_final_response().id == "resp_b"
            assert session.default.get_final_response().id == "resp_a"
    check_lanes(telemetry, server)


@patient
async def test_lanes_of_one_connection_are_told_apart_async(
    aclient: AsyncOpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = lanes
    for _ in range(2):
        telemetry.exporter.clear()
        async with (
            aclient.responses.connect() as connection,
            AsyncResponsesWebSocketSession(connection, limits=LIMITS) as session,
        ):
            one, other = session.lane("one"), session.lane("other")
            await one.send(dict(ASK))  # type: ignore[arg-type]
            await other.send(dict(ASK))  # type: ignore[arg-type]
            await asyncio.gather(one.get_final_response(), other.get_final_response())
    check_lanes(telemetry, server)


@patient
def test_after_speech_a_response_starts_at_the_end_of_the_input(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    ends: list[float] = []

    def script(peer: Peer) -> None:
        peer.say("session.created", session={"type": "realtime", "model": "gpt-realtime-2026"})
        peer.hear("input_audio_buffer.append")
        peer.say("input_audio_buffer.speech_started", audio_start_ms=0, item_id="item")
        sleep(0.02)
        ends.append(perf_counter())
        peer.say("input_audio_buffer.speech_stopped", audio_end_ms=20, item_id="item")
        peer.say("input_audio_buffer.committed", item_id="item")
        sleep(0.1)
        peer.speak("resp_1")

    server.script = script
    with client.realtime.connect(call_id="call") as connection:
        connection.input_audio_buffer.append(audio="AAAA" * 4000)
        until(connection, *END)
    span = telemetry.span
    found = dict(span.attributes or {})
    assert started(span) == pytest.approx(ends[-1], abs=NEAR)
    assert first_chunk(span) == pytest.approx(server.stamps[0] - ends[-1], abs=NEAR)
    assert found["llmwatch.stream.chunks"] == 3
    assert found["llmwatch.stream.consumer_time"] < 0.08  # type: ignore[operator]
    assert found["gen_ai.request.model"] == "gpt-realtime-2026"
    assert found["gen_ai.response.model"] == "gpt-realtime-2026"


@patient
def test_a_successor_that_nobody_asked_for_starts_when_it_is_created(
    client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    created: list[float] = []

    def script(peer: Peer) -> None:
        peer.hear()
        peer.created("resp_1")
        peer.text()
        steered = answer("resp_1", "incomplete", incomplete_details={"reason": "steered"})
        peer.say("response.incomplete", response=steered)
        sleep(0.03)
        created.append(perf_counter())
        peer.respond("resp_2")

    server.script = script
    with client.responses.connect() as connection:
        connection.response.create(model=MODEL, input="hello")
        until(connection, *END)
    one, two = telemetry.spans
    assert (one.attributes or {})["gen_ai.response.finish_reasons"] == ("steered",)
    assert (two.attributes or {})["gen_ai.response.id"] == "resp_2"
    assert started(two) == pytest.approx(created[-1], abs=NEAR)
    assert first_chunk(two) == pytest.approx(server.stamps[3] - created[-1], abs=NEAR)
