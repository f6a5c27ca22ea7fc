"""Realtime translation: a session is one span."""

from __future__ import annotations

from time import sleep

import pytest
from openai import AsyncOpenAI, OpenAI
from openai.lib.realtime_translation import TranslationSession
from opentelemetry.sdk.trace import ReadableSpan

from tests.sources.openai.websocket.peer import (
    NEAR,
    Peer,
    Server,
    Telemetry,
    auntil,
    ending,
    first_chunk,
    patient,
    started,
)


def translate(peer: Peer) -> None:
    peer.say("session.created", session={"type": "translation", "model": "gpt-translate-2026"})
    peer.hear("session.input_audio_buffer.append")
    for _ in range(3):
        sleep(0.02)
        peer.delta("session.output_audio.delta", event_id="e")
    peer.hear("session.close")
    peer.say("session.closed", event_id="e")


def check_translation(span: ReadableSpan, server: Server) -> None:
    found = dict(span.attributes or {})
    assert found["gen_ai.operation.name"] == "translation"
    assert found["gen_ai.request.model"] == "gpt-translate"
    assert found["gen_ai.output.type"] == "speech"
    assert found["llmwatch.stream.chunks"] == 3
    assert ending(span) == "exhausted"
    assert first_chunk(span) == pytest.approx(server.stamps[0] - started(span), abs=NEAR)


@pytest.mark.parametrize("timeout", [None, 5])
@patient
def test_a_translation_session_is_one_span(
    timeout: float | None, client: OpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = translate
    with TranslationSession(client.realtime.translations, model="gpt-translate") as session:
        for _ in range(3):
            session.send({"type": "session.input_audio_buffer.append", "audio": "AAAA"})
        for _ in range(4):
            session.recv(timeout=timeout)
        session.send({"type": "session.close"})
        assert session.recv(timeout=timeout).type == "session.closed"
    check_translation(telemetry.span, server)


@patient
async def test_a_translation_session_is_one_span_async(
    aclient: AsyncOpenAI, server: Server, telemetry: Telemetry
) -> None:
    server.script = translate
    async with aclient.realtime.translations.connect(model="gpt-translate") as connection:
        await connection.session.input_audio_buffer.append(audio="AAAA")
        for _ in range(4):
            await connection.recv()
        await connection.session.close()
        await auntil(connection, "session.closed")
    check_translation(telemetry.span, server)
