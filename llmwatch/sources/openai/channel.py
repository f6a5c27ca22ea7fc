"""What the events of one websocket say about the responses on it.

A `Channel` belongs to one connection and keeps the operations in flight there. The client starts
one with ``response.create``; a server may start one by itself (voice activity detection, a steered
successor), and then its request is the end of the input, where the server said when that was,
else ``response.created``. Frames are looked at as bytes: the type of an event, and whose it is, are
found by searching; only the few events that begin or end something are parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from time import perf_counter
from typing import Any, ClassVar, NamedTuple

from llmwatch import semconv
from llmwatch._guard import Guard
from llmwatch.measure.timeline import TOLERANCE
from llmwatch.signals.operation import Ending, Operation, Signals
from llmwatch.sources.openai.neighbours import Neighbours
from llmwatch.sources.openai.provider import Server
from llmwatch.sources.openai.request import read_request
from llmwatch.sources.openai.response import get, read_responses
from llmwatch.sources.openai.routes import Route

_READ = Guard("openai.websocket.read")

LIMIT = 64
"""Operations in flight on one connection; beyond it the oldest is given up as abandoned."""

# A quote inside a JSON string is escaped, so text that quotes an event cannot match.
_KIND = re.compile(rb'"type"\s*:\s*"((?:response|session|input_audio_buffer)\.[\w.]+|error)"')
_LANE = re.compile(rb'"stream_id"\s*:\s*"([^"]*)"')
_RESPONSE = re.compile(rb'"response_id"\s*:\s*"([^"]*)"')

_CREATED = b"response.created"
_LAST = frozenset(
    b"response." + each for each in (b"completed", b"done", b"failed", b"incomplete", b"cancelled")
)


class Moment(NamedTuple):
    """A point in a connection's life."""

    at: float
    waited: float
    """Seconds that the connection's reader had waited for the server until then."""


class InFlight:
    """One response on a websocket, from its request to its last event."""

    __slots__ = ("event_id", "lane", "operation", "outside", "response_id", "waited")

    def __init__(self, operation: Operation | None, waited: float) -> None:
        self.operation = operation
        """None where nothing is to be seen of it: its events must still find an owner."""
        self.waited = waited
        """What the connection's reader had waited in all at the last event of this response."""
        self.response_id: str | None = None
        """Known once the server has created the response."""
        self.event_id: str | None = None
        """The client's name for its request."""
        self.lane: str | None = None
        """``stream_id``: one of several sequences of responses on one connection."""
        self.outside = False
        """True if it was asked for outside the connection's conversation."""

    def arrived(self, kind: bytes, asked: float, got: float) -> None:
        """Put one event on the operation's timeline."""
        timeline = self.operation.timeline if self.operation is not None else None
        if timeline is None:
            return
        arrivals = timeline.got
        index = len(arrivals)
        # The reader may have been waiting since before the request.
        timeline.asked.append(max(asked, arrivals[-1] if index else timeline.started))
        arrivals.append(got)
        if not (kind.endswith(b".delta") or b"partial_image" in kind):
            timeline.silent.append(index)
        elif b".reasoning" in kind:
            if timeline.first_reasoning is None:
                timeline.first_reasoning = index
        elif timeline.first_output is None:
            timeline.first_output = index

    def finish(self, error: BaseException | None = None, *, ending: Ending | None = None) -> None:
        """End the operation, if there is one."""
        if self.operation is not None:
            self.operation.finish(error, ending=ending)


class Channel:
    """The operations in flight on one connection, and how its events tell them apart.

    Args:
        signals: Where operations are started.
        neighbours: Who is asked whether somebody else watches a response already.
        server: The far end.
        model: The model that the connection was opened for, if any.

    One thread or task may send while another one receives.
    """

    route: ClassVar[Route]
    starts: ClassVar[str] = "response.create"
    """Type of the client's event that starts an operation."""

    def __init__(
        self, signals: Signals, neighbours: Neighbours, server: Server, model: str | None
    ) -> None:
        self.signals = signals
        self.neighbours = neighbours
        self.server = server
        self.model = model
        self.open: list[InFlight] = []
        """In flight, oldest first: one, rarely more, so looking through them is cheap."""
        self.reported_model: str | None = None
        self._waited = 0.0
        self._got = perf_counter()
        self._ready = False

    def sent(self, event: Any, lane: str | None = None) -> InFlight | None:
        """The client is about to send *event*; what that starts, if anything."""
        if get(event, "type") != self.starts:
            return None
        body = _body(event)
        return self._asked_for(body, body.get("stream_id") if lane is None else lane)

    def deserialized(self, data: Any) -> Mapping[str, Any]:
        """An event that the user has serialized, if it may start something; else empty."""
        text = data if isinstance(data, str) else bytes(data).decode(errors="replace")
        return _parsed(text) if self.starts in text else {}

    def received(self, data: bytes, asked: float, got: float) -> None:
        """A frame has come: when the reader asked for it, and when it got it.

        Cost: about 1.5 µs for the common event, a delta.
        """
        wait = got - asked
        self._ready = wait < TOLERANCE < asked - self._got
        self._waited += wait
        self._got = got
        if (found := _KIND.search(data)) is not None:
            self._event(found[1], data, asked)

    def give_up(self, response: InFlight, error: BaseException) -> None:
        """The request for *response* could not be sent."""
        if response in self.open:
            self.open.remove(response)
        response.finish(error)

    def end(self, error: BaseException | None = None, *, ending: Ending | None = None) -> None:
        """The connection is over, and with it whatever is in flight."""
        over, self.open = self.open, []
        for response in over:
            response.finish(error, ending=ending)

    # --- for the kinds of channel ----------------------------------------------------------------

    def _asked_for(self, body: Mapping[str, Any], lane: Any) -> InFlight | None:
        return self._start(body)

    def _event(self, kind: bytes, data: bytes, asked: float) -> None:
        if not kind.startswith(b"response."):
            self._other(kind, data)
        elif kind == _CREATED:
            self._note(self._created(_parsed(data)), kind, asked)
        elif kind in _LAST:
            event = _parsed(data)
            if (response := self._ending(event)) is not None:
                self._note(response, kind, asked)
                self._finish(response, event)
        elif (response := self._owner(data)) is not None:
            self._note(response, kind, asked)

    def _created(self, event: Mapping[str, Any]) -> InFlight:
        """A response begins: the request that it answers, or else a new operation."""
        raise NotImplementedError

    def _owner(self, data: bytes) -> InFlight | None:
        """Whose event this is, one from the middle of a response."""
        raise NotImplementedError

    def _ending(self, event: Mapping[str, Any]) -> InFlight | None:
        """Whose event this is, the last one of a response."""
        raise NotImplementedError

    def _other(self, kind: bytes, data: bytes) -> None:
        """An event that does not belong to a response, or is an error."""

    def _read(self, operation: Operation, event: Mapping[str, Any]) -> None:
        read_responses(operation, event.get("response"))

    # --- shared ----------------------------------------------------------------------------------

    def _start(self, body: Mapping[str, Any], since: Moment | None = None) -> InFlight:
        """Put a response in flight, begun now or *since* then; *body* is its request."""
        watched_already = self.neighbours.watching(None, self.route.path) is not None
        operation = None if watched_already else self._operation(body, since)
        response = InFlight(operation, since.waited if since is not None else self._waited)
        if len(self.open) >= LIMIT:
            self.open.pop(0).finish(ending="abandoned")
        self.open.append(response)
        return response

    def _operation(self, body: Mapping[str, Any], since: Moment | None) -> Operation | None:
        model = body.get("model")
        operation = self.signals.start(
            self.route.operation,
            self.server.provider,
            model if isinstance(model, str) else self.model,
            read_request(self.route, body, streamed=True),
            server_address=self.server.address,
            server_port=self.server.port,
            started=since.at if since is not None else None,
        )
        if operation is not None:
            operation.stream()
            operation.response_model = self.reported_model
        return operation

    def _now(self) -> Moment:
        return Moment(self._got, self._waited)

    def _note(self, response: InFlight, kind: bytes, asked: float) -> None:
        """Time an event: frames of other responses came between, so waits are summed up."""
        if not self._ready:
            asked = self._got - (self._waited - response.waited)
        response.waited = self._waited
        response.arrived(kind, asked, self._got)

    def _finish(self, response: InFlight, event: Mapping[str, Any]) -> None:
        self.open.remove(response)
        operation = response.operation
        if operation is not None:
            with _READ:
                self._read(operation, event)
            operation.finish(ending="failed" if operation.error_type else "exhausted")

    def _fail(self, response: InFlight, event: Mapping[str, Any]) -> None:
        self.open.remove(response)
        if response.operation is not None:
            error = event.get("error") or event
            kind = get(error, "code") or get(error, "type") or "error"
            response.operation.error_type = str(kind)
        response.finish(ending="failed")


class ResponsesChannel(Channel):
    """Responses API: one response at a time on each lane, in the order of the requests."""

    route = Route("/responses", "chat", "responses", "responses")

    def __init__(
        self, signals: Signals, neighbours: Neighbours, server: Server, model: str | None
    ) -> None:
        super().__init__(signals, neighbours, server, model)
        self._lanes = False

    def _asked_for(self, body: Mapping[str, Any], lane: Any) -> InFlight | None:
        response = self._start(body)
        if isinstance(lane, str):
            self._lanes = True
            response.lane = lane
        return response

    def _created(self, event: Mapping[str, Any]) -> InFlight:
        lane, answer = event.get("stream_id"), event.get("response")
        response = self._first(lane)
        identity = get(answer, "id")
        if response is not None and response.response_id not in (None, identity):
            # Lanes are sequential: the end of the one before was lost.
            self.open.remove(response)
            response.finish(ending="abandoned")
            response = self._first(lane)
        if response is None:
            response = self._start({"model": get(answer, "model")}, self._now())
            response.lane = lane
        response.response_id = identity
        if response.operation is not None:
            with _READ:
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
            event = _parsed(data)
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

    def _asked_for(self, body: Mapping[str, Any], lane: Any) -> InFlight | None:
        wanted = _body(body.get("response"))
        # Here "conversation" is no id, but says whether the response belongs to the only one.
        response = self._start({key: wanted[key] for key in wanted if key != "conversation"})
        response.outside = wanted.get("conversation") == "none"
        event_id = body.get("event_id")
        response.event_id = event_id if isinstance(event_id, str) else None
        return response

    def _created(self, event: Mapping[str, Any]) -> InFlight:
        answer = event.get("response")
        outside = get(answer, "conversation_id") is None
        waiting = [each for each in self.open if each.response_id is None]
        response = next((each for each in waiting if each.outside == outside), None)
        if response is None and outside and waiting:
            response = waiting[0]  # a compatible server may not name its conversation
        if response is None:
            response = self._start({}, self._input_ended or self._now())
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
            self._learn_model(_parsed(data).get("session"))
        elif kind == b"error":
            event = _parsed(data)
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
            operation.error_type = str(
                get(error, "code") or get(error, "type") or "response_failed"
            )
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
        return self._start({})

    def _event(self, kind: bytes, data: bytes, asked: float) -> None:
        if kind == b"session.created":
            model = get(_parsed(data).get("session"), "model")
            self.reported_model = model if isinstance(model, str) else None
        elif kind == b"session.closed":
            self.end(ending="exhausted")
        elif kind.startswith(b"session.output_"):
            for response in self.open:
                self._note(response, kind, asked)


def _body(event: Any) -> Mapping[str, Any]:
    """The fields that were given, of a dict or of a model of the client."""
    if not isinstance(event, Mapping):
        to_dict = getattr(event, "to_dict", None)
        return to_dict(warnings=False) if to_dict is not None else {}
    return {
        key: value
        for key, value in event.items()
        if type(value).__name__ not in ("Omit", "NotGiven")
    }


def _parsed(data: str | bytes) -> Mapping[str, Any]:
    """The JSON object in *data*; empty where it is something else, which the user will see too."""
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
