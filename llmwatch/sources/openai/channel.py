"""What the events of one websocket say about the responses on it.

A `Channel` belongs to one connection and keeps the operations in flight there; `dialects` has one
for each API. Frames are looked at as bytes: the type of an event, and whose it is, are found by
searching; only the few events that begin or end something are parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import perf_counter
from typing import Any, ClassVar, NamedTuple

from llmwatch import semconv
from llmwatch._guard import Guard
from llmwatch.measure.timeline import TOLERANCE
from llmwatch.signals.operation import Ending, Operation, Signals
from llmwatch.sources.openai.capture import capture_request, capture_stream
from llmwatch.sources.openai.neighbours import Neighbours
from llmwatch.sources.openai.provider import Server
from llmwatch.sources.openai.request import read_request
from llmwatch.sources.openai.response import get, note_failure, read_responses
from llmwatch.sources.openai.routes import Route

READ = Guard("openai.websocket.read")

LIMIT = 64
"""Operations in flight on one connection; beyond it the oldest is given up as abandoned."""

# A quote inside a JSON string is escaped, so text that quotes an event cannot match.
_KIND = re.compile(rb'"type"\s*:\s*"((?:response|session|input_audio_buffer)\.[\w.]+|error)"')

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

    __slots__ = ("collect", "event_id", "lane", "operation", "outside", "response_id", "waited")

    def __init__(self, operation: Operation | None, waited: float) -> None:
        self.operation = operation
        """None where nothing is to be seen of it: its events must still find an owner."""
        self.waited = waited
        """What the connection's reader had waited in all at the last event of this response."""
        self.collect: Callable[[Any], None] | None = None
        """Called with events, where content is captured."""
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
        body = body_of(event)
        return self._asked_for(body, body.get("stream_id") if lane is None else lane)

    def deserialized(self, data: Any) -> Mapping[str, Any]:
        """An event that the user has serialized, if it may start something; else empty."""
        text = data if isinstance(data, str) else bytes(data).decode(errors="replace")
        return parsed(text) if self.starts in text else {}

    def received(self, data: bytes, asked: float, got: float) -> None:
        """A frame has come: when the reader asked for it, and when it got it.

        Cost: about 3 µs for the common event, a delta.
        """
        wait = got - asked
        self._ready = wait < TOLERANCE < asked - self._got
        self._waited += wait
        self._got = got
        if (found := _KIND.search(data)) is not None:
            self._event(found[1], data, asked)

    def give_up(self, response: InFlight, error: BaseException) -> None:
        """The request for *response* could not be sent."""
        self._take(response)
        response.finish(error)

    def end(self, error: BaseException | None = None, *, ending: Ending | None = None) -> None:
        """The connection is over, and with it whatever is in flight."""
        over, self.open = self.open, []
        for response in over:
            response.finish(error, ending=ending)

    # --- what the dialects do each in their way --------------------------------------------------

    def _asked_for(self, body: Mapping[str, Any], lane: Any) -> InFlight:
        """What the client's request *body* starts."""
        raise NotImplementedError

    def _event(self, kind: bytes, data: bytes, asked: float) -> None:
        if not kind.startswith(b"response."):
            self._other(kind, data)
        elif kind == _CREATED:
            self._note(self._created(parsed(data)), kind, asked)
        elif kind in _LAST:
            event = parsed(data)
            if (response := self._ending(event)) is not None:
                self._note(response, kind, asked)
                self._finish(response, event)
        elif (response := self._owner(data)) is not None:
            self._note(response, kind, asked)
            if response.collect is not None and not kind.endswith(b"audio.delta"):
                response.collect(parsed(data))

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
        """A response that began now or *since* then; *body* is its request."""
        watched_already = self.neighbours.watching(None, self.route.path) is not None
        operation = None if watched_already else self._operation(body, since)
        response = InFlight(operation, since.waited if since is not None else self._waited)
        if operation is not None and self.route.shape == "responses":
            with READ:
                capture_request(operation, self.route, body, self.signals.config)
                response.collect = capture_stream(operation, self.route)
        return response

    def _put(self, response: InFlight) -> InFlight:
        """Put *response* in flight: from now on the reader's thread sees it."""
        if len(self.open) >= LIMIT:
            self.open.pop(0).finish(ending="abandoned")
        self.open.append(response)
        return response

    def _take(self, response: InFlight) -> None:
        with suppress(ValueError):  # the connection was closed meanwhile, by another thread
            self.open.remove(response)

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
        self._take(response)
        operation = response.operation
        if operation is not None:
            with READ:
                if response.collect is not None:
                    response.collect(event)
                self._read(operation, event)
            operation.finish(ending="failed" if operation.error_type else "exhausted")

    def _fail(self, response: InFlight, event: Mapping[str, Any]) -> None:
        self._take(response)
        if (operation := response.operation) is not None:
            error = event.get("error") or event
            note_failure(operation, get(error, "code") or get(error, "type"), "error")
            if isinstance(status := event.get("status"), int):
                operation.attributes[semconv.HTTP_STATUS_CODE] = status
        response.finish(ending="failed")


def body_of(event: Any) -> Mapping[str, Any]:
    """The fields that were given, of a dict or of a model of the client."""
    if not isinstance(event, Mapping):
        to_dict = getattr(event, "to_dict", None)
        return to_dict(warnings=False) if to_dict is not None else {}
    return {
        key: value
        for key, value in event.items()
        if type(value).__name__ not in ("Omit", "NotGiven")
    }


def parsed(data: str | bytes) -> Mapping[str, Any]:
    """The JSON object in *data*; empty where it is something else, which the user will see too."""
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
