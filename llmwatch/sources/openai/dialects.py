"""The dialects that OpenAI speaks on websockets: responses, realtime, realtime translation.

The client starts an operation with ``response.create``. A server may start one by itself (voice
activity detection, a steered successor); its request is then the end of the input, where the server
said when that was, else ``response.created``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from llmwatch import semconv
from llmwatch.signals.operation import Operation, Signals
from llmwatch.sources.openai.channel import READ, Channel, InFlight, Moment, body_of, parsed
from llmwatch.sources.openai.neighbours import Neighbours
from llmwatch.sources.openai.provider import Server
from llmwatch.sources.openai.response import get, note_failure, read_responses
from llmwatch.sources.openai.routes import Route

Dialect = Literal["responses", "realtime", "translation"]

_LANE = re.compile(rb'"stream_id"\s*:\s*"([^"]*)"')
_RESPONSE = re.compile(rb'"response_id"\s*:\s*"([^"]*)"')


class ResponsesChannel(Channel):
    """Responses API: one response at a time on each lane, in the order of the requests."""

    route = Route("/responses", "chat", "responses", "responses")

    def __init__(
        self, signals: Signals, neighbours: Neighbours, server: Server, model: str | None
    ) -> None:
        super().__init__(signals, neighbours, server, model)
        self._lanes = False

    def _asked_for(self, body: Mapping[str, Any], lane: Any) -> InFlight:
        response = self._start(body)
        if isinstance(lane, str):
            self._lanes = True
            response.lane = lane
        return self._put(response)

    def _created(self, event: Mapping[str, Any]) -> InFlight:
        lane, answer = event.get("stream_id"), event.get("response")
        response = self._first(lane)
        identity = get(answer, "id")
        if response is not None and response.response_id not in (None, identity):
            # Lanes are sequential: the end of the one before was lost.
            self._take(response)
            response.finish(ending="abandoned")
            response = self._first(lane)
        if response is None:
            response = self._start({"model": get(answer, "model")}, self._now())
            response.lane = lane
            self._put(response)
        response.response_id = identity
        if response.operation is not None:
            with READ:
                self._read(response.operation, event)
        return response

    def _owner(self, data: bytes) -> InFlight | None:
        found = _LANE.search(data) if self._lanes else None
        return self._first(found[1].decode() if found is not None else None)

    def _ending(self, event: Mapping[str, Any]) -> InFlight | None:
        return self._first(event.get("stream_id"))

    def _first(self, lane: str | None) -> InFlight | None:
        for each in self.open:
            if each.lane == lane:
                return each
        return None

    def _other(self, kind: bytes, data: bytes) -> None:
        if kind == b"error":
            event = parsed(data)
            if (response := self._ending(event)) is not None:
                self._fail(response, event)


class RealtimeChannel(Channel):
    """Realtime API: several responses at a time, told apart by their ids."""

    route = Route("/realtime", "chat", "responses", "realtime")

    def __init__(
        self, signals: Signals, neighbours: Neighbours, server: Server, model: str | None
    ) -> None:
        super().__init__(signals, neighbours, server, model)
        self._input_ended: Moment | None = None

    def _asked_for(self, body: Mapping[str, Any], lane: Any) -> InFlight:
        wanted = body_of(body.get("response"))
        # Here "conversation" is no id, but says whether the response belongs to the only one.
        response = self._start({key: wanted[key] for key in wanted if key != "conversation"})
        response.outside = wanted.get("conversation") == "none"
        event_id = body.get("event_id")
        response.event_id = event_id if isinstance(event_id, str) else None
        return self._put(response)

    def _created(self, event: Mapping[str, Any]) -> InFlight:
        answer = event.get("response")
        outside = get(answer, "conversation_id") is None
        waiting = [each for each in self.open if each.response_id is None]
        response = next((each for each in waiting if each.outside == outside), None)
        if response is None and outside and waiting:
            response = waiting[0]  # a compatible server may not name its conversation
        if response is None:
            response = self._put(self._start({}, self._input_ended or self._now()))
        response.response_id = get(answer, "id")
        if response.operation is not None:
            response.operation.response_id = response.response_id
        if not response.outside:
            self._input_ended = None
        return response

    def _owner(self, data: bytes) -> InFlight | None:
        found = _RESPONSE.search(data)
        return self._created_as(found[1].decode()) if found is not None else None

    def _ending(self, event: Mapping[str, Any]) -> InFlight | None:
        return self._created_as(get(event.get("response"), "id"))

    def _created_as(self, identity: Any) -> InFlight | None:
        for each in self.open:
            if each.response_id == identity is not None:
                return each
        return None

    def _other(self, kind: bytes, data: bytes) -> None:
        if kind in (b"input_audio_buffer.speech_stopped", b"input_audio_buffer.committed"):
            self._input_ended = self._input_ended or self._now()
        elif kind == b"input_audio_buffer.speech_started":
            self._input_ended = None
        elif kind in (b"session.created", b"session.updated"):
            self._learn_model(parsed(data).get("session"))
        elif kind == b"error":
            event = parsed(data)
            if (response := self._refused(event)) is not None:
                self._fail(response, event)

    def _learn_model(self, session: Any) -> None:
        if isinstance(model := get(session, "model"), str):
            self.reported_model = model
            self.model = self.model or model

    def _refused(self, event: Mapping[str, Any]) -> InFlight | None:
        """The request that an error answers: most errors answer other events, and end nothing."""
        error = event.get("error")
        blamed, field = get(error, "event_id"), get(error, "param")
        waiting = (each for each in self.open if each.response_id is None)
        if blamed is not None:
            return next((each for each in waiting if each.event_id == blamed), None)
        if field is not None and not str(field).startswith("response"):
            return None
        return next((each for each in waiting if each.event_id is None), None)

    def _read(self, operation: Operation, event: Mapping[str, Any]) -> None:
        answer = event.get("response")
        read_responses(operation, answer)
        found = operation.attributes
        if isinstance(conversation := get(answer, "conversation_id"), str):
            found[semconv.CONVERSATION_ID] = conversation
        modalities = get(answer, "output_modalities") or get(answer, "modalities") or ()
        if modalities:
            found[semconv.OUTPUT_TYPE] = "speech" if "audio" in modalities else "text"
        details = get(answer, "status_details")
        if get(answer, "status") == "failed":
            error = get(details, "error")
            note_failure(operation, get(error, "code") or get(error, "type"), "response_failed")
        elif isinstance(reason := get(details, "reason"), str):
            operation.finish_reasons = [reason]


class TranslationChannel(Channel):
    """Realtime translation: one operation from the first audio to the end of the session."""

    route = Route("/realtime/translations", "translation", output="speech")
    starts = "session.input_audio_buffer.append"

    def sent(self, event: Any, lane: str | None = None) -> InFlight | None:
        """Start at the first audio; all that follows belongs to the same session."""
        if self.open or get(event, "type") != self.starts:
            return None
        return self._put(self._start({}))

    def _event(self, kind: bytes, data: bytes, asked: float) -> None:
        if kind == b"session.created":
            model = get(parsed(data).get("session"), "model")
            self.reported_model = model if isinstance(model, str) else None
        elif kind == b"session.closed":
            self.end(ending="exhausted")
        elif kind.startswith(b"session.output_"):
            for response in self.open:
                self._note(response, kind, asked)


CHANNELS: dict[Dialect, type[Channel]] = {
    "responses": ResponsesChannel,
    "realtime": RealtimeChannel,
    "translation": TranslationChannel,
}
