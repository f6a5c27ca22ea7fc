"""Watch responses on websockets: ``responses.connect``, ``realtime.connect`` and their kin.

Whatever a program receives with (iteration, ``recv``, ``recv_bytes``, ``dispatch_events``, the
client's sessions with lanes), ``recv_bytes`` is called; so that is where frames are timed. Each
request or server-made response becomes one operation; nothing is attached across a wait.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import Lock, local
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

from llmwatch._guard import Guard
from llmwatch.patching import Patch
from llmwatch.signals.operation import Signals, ending_of
from llmwatch.sources.openai.neighbours import Neighbours
from llmwatch.sources.openai.provider import Server, parse

if TYPE_CHECKING:
    from llmwatch.sources.openai.channel import Channel, InFlight
    from llmwatch.sources.openai.dialects import Dialect

_SEND = Guard("openai.websocket.send")
_RECEIVE = Guard("openai.websocket.receive")
_CLOSE = Guard("openai.websocket.close")

_CONNECTIONS: tuple[tuple[str, str, Dialect], ...] = (
    ("openai.resources.responses.responses", "Responses", "responses"),
    ("openai.resources.beta.responses.responses", "Responses", "responses"),
    ("openai.resources.realtime.realtime", "Realtime", "realtime"),
    ("openai.resources.beta.realtime.realtime", "Realtime", "realtime"),
    ("openai.resources.realtime.translations.translations", "Translations", "translation"),
)
"""Module, first part of its classes' names, and how their events are read."""

_LANES = "openai.lib.responses_websocket._session"
_TRANSLATION = "openai.lib.realtime_translation"

Call = Callable[..., Any]


def patches(signals: Signals, neighbours: Neighbours) -> list[Patch]:
    """The patch table for every kind of websocket connection.

    Args:
        signals: Where operations are made.
        neighbours: Who is asked whether somebody else watches a response already.
    """
    rows: list[Patch] = []
    watches: dict[Dialect, _Watch] = {}
    for module, name, dialect in _CONNECTIONS:
        watch = watches.setdefault(dialect, _Watch(signals, neighbours, dialect))
        for path, wrapper in watch.table(name):
            rows.append(Patch(module, path, wrapper, optional=True))
    lanes, translation = watches["responses"], watches["translation"]
    return [
        *rows,
        Patch(_LANES, "ResponsesWebSocketLane.send", lanes.send_in_lane, optional=True),
        Patch(_LANES, "AsyncResponsesWebSocketLane.send", lanes.asend_in_lane, optional=True),
        Patch(_TRANSLATION, "TranslationConnection.recv", translation.recv_within, optional=True),
        Patch(_TRANSLATION, "_parse", translation.parse_within, optional=True),
    ]


class _Watch:
    """The wrappers of one kind of connection, and the channel of each that is alive."""

    def __init__(self, signals: Signals, neighbours: Neighbours, dialect: Dialect) -> None:
        self._signals = signals
        self._neighbours = neighbours
        self._dialect = dialect
        self._channels: WeakKeyDictionary[Any, Channel] = WeakKeyDictionary()
        self._early: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()
        """Events given to a connection's manager before it has connected."""
        self._creating = Lock()
        self._within = local()

    def table(self, name: str) -> list[tuple[str, Any]]:
        """Attribute paths and wrappers for the classes whose names begin with *name*."""
        return [
            (f"{name}Connection.send", self.send),
            (f"{name}Connection.send_raw", self.send_raw),
            (f"{name}Connection.recv_bytes", self.receive),
            (f"{name}Connection.close", self.close),
            (f"{name}ConnectionManager.send", self.send_early),
            (f"{name}ConnectionManager.__enter__", self.enter),
            (f"{name}ConnectionManager.enter", self.enter),
            (f"Async{name}Connection.send", self.asend),
            (f"Async{name}Connection.send_raw", self.asend_raw),
            (f"Async{name}Connection.recv_bytes", self.areceive),
            (f"Async{name}Connection.close", self.close),
            (f"Async{name}ConnectionManager.send", self.send_early),
            (f"Async{name}ConnectionManager.__aenter__", self.aenter),
            (f"Async{name}ConnectionManager.enter", self.aenter),
        ]

    def channel(self, connection: Any) -> Channel:
        """The channel of *connection*, made when it is first used."""
        channel = self._channels.get(connection)
        if channel is None:
            with self._creating:
                channel = self._channels.get(connection)
                if channel is None:
                    from llmwatch.sources.openai.dialects import CHANNELS  # few programs need it

                    kind = CHANNELS[self._dialect]
                    channel = kind(self._signals, self._neighbours, *_far_end(connection))
                    self._channels[connection] = channel
        return channel

    # --- receiving -------------------------------------------------------------------------------

    def receive(self, wrapped: Call, instance: Any, args: Any, kwargs: Any) -> Any:
        asked = perf_counter()
        try:
            data = wrapped(*args, **kwargs)
        except Exception as error:
            self._lost(instance, error)
            raise
        got = perf_counter()
        with _RECEIVE:
            self.channel(instance).received(data, asked, got)
        return data

    async def areceive(self, wrapped: Call, instance: Any, args: Any, kwargs: Any) -> Any:
        # A cancelled wait ends nothing: no data is lost by it, and the next call goes on.
        asked = perf_counter()
        try:
            data = await wrapped(*args, **kwargs)
        except Exception as error:
            self._lost(instance, error)
            raise
        got = perf_counter()
        with _RECEIVE:
            self.channel(instance).received(data, asked, got)
        return data

    def recv_within(self, wrapped: Call, instance: Any, args: Any, kwargs: Any) -> Any:
        """A translation's ``recv(timeout=…)``, which alone goes round ``recv_bytes``."""
        if kwargs.get("timeout") is None:
            return wrapped(*args, **kwargs)
        self._within.asked = instance._connection, perf_counter()
        try:
            return wrapped(*args, **kwargs)
        except Exception as error:
            self._lost(instance._connection, error)
            raise
        finally:
            self._within.asked = None

    def parse_within(self, wrapped: Call, instance: Any, args: Any, kwargs: Any) -> Any:
        """Inside `recv_within`, as soon as a frame is there: the last one closes the connection."""
        got = perf_counter()
        with _RECEIVE:
            if (asked := getattr(self._within, "asked", None)) is not None:
                data = _given("data", args, kwargs)
                frame = data.encode() if isinstance(data, str) else data
                self.channel(asked[0]).received(frame, asked[1], got)
        return wrapped(*args, **kwargs)

    def _lost(self, connection: Any, error: Exception) -> None:
        with _RECEIVE:
            from websockets.exceptions import ConnectionClosed

            if isinstance(error, ConnectionClosed):
                self.channel(connection).end(error)

    # --- sending ---------------------------------------------------------------------------------

    def send(self, wrapped: Call, instance: Any, args: Any, kwargs: Any) -> Any:
        with self._request(instance, args, kwargs):
            return wrapped(*args, **kwargs)

    async def asend(self, wrapped: Call, instance: Any, args: Any, kwargs: Any) -> Any:
        with self._request(instance, args, kwargs):
            return await wrapped(*args, **kwargs)

    def send_raw(self, wrapped: Call, instance: Any, args: Any, kwargs: Any) -> Any:
        with self._raw_request(instance, args, kwargs):
            return wrapped(*args, **kwargs)

    async def asend_raw(self, wrapped: Call, instance: Any, args: Any, kwargs: Any) -> Any:
        with self._raw_request(instance, args, kwargs):
            return await wrapped(*args, **kwargs)

    def send_in_lane(self, wrapped: Call, instance: Any, args: Any, kwargs: Any) -> Any:
        with self._lane_request(instance, args, kwargs):
            return wrapped(*args, **kwargs)

    async def asend_in_lane(self, wrapped: Call, instance: Any, args: Any, kwargs: Any) -> Any:
        with self._lane_request(instance, args, kwargs):
            return await wrapped(*args, **kwargs)

    def _request(self, connection: Any, args: Any, kwargs: Any) -> _Request:
        request = _Request()
        with _SEND:
            request.starts(self.channel(connection), _given("event", args, kwargs))
        return request

    def _raw_request(self, connection: Any, args: Any, kwargs: Any) -> _Request:
        request = _Request()
        with _SEND:
            channel = self.channel(connection)
            request.starts(channel, channel.deserialized(_given("data", args, kwargs)))
        return request

    def _lane_request(self, lane: Any, args: Any, kwargs: Any) -> _Request:
        request = _Request()
        with _SEND:
            channel = self.channel(lane._session.connection)
            request.starts(channel, _given("event", args, kwargs), lane._state.stream_id)
        return request

    # --- before the connection, and at its end ----------------------------------------------------

    def send_early(self, wrapped: Call, instance: Any, args: Any, kwargs: Any) -> Any:
        """A manager keeps events until it has connected; their operations start then."""
        result = wrapped(*args, **kwargs)
        with _SEND:
            self._early.setdefault(instance, []).append(_given("event", args, kwargs))
        return result

    def enter(self, wrapped: Call, instance: Any, args: Any, kwargs: Any) -> Any:
        connection = wrapped(*args, **kwargs)
        self._connected(instance, connection)
        return connection

    async def aenter(self, wrapped: Call, instance: Any, args: Any, kwargs: Any) -> Any:
        connection = await wrapped(*args, **kwargs)
        self._connected(instance, connection)
        return connection

    def _connected(self, manager: Any, connection: Any) -> None:
        with _SEND:
            for event in self._early.pop(manager, ()):
                self.channel(connection).sent(event)

    def close(self, wrapped: Call, instance: Any, args: Any, kwargs: Any) -> Any:
        """Sync and async alike: all ends when the call is made."""
        with _CLOSE:
            channel = self._channels.get(instance)
            if channel is not None and channel.open:
                error = sys.exc_info()[1]
                if error is not None and ending_of(error) == "cancelled":
                    channel.end(error)
                else:
                    channel.end(ending="closed")
        return wrapped(*args, **kwargs)


class _Request:
    """Round the sending of an event: what it starts is given up where it cannot be sent."""

    __slots__ = ("_channel", "_response")

    def __init__(self) -> None:
        self._channel: Channel | None = None
        self._response: InFlight | None = None

    def starts(self, channel: Channel, event: Any, lane: str | None = None) -> None:
        self._channel = channel
        self._response = channel.sent(event, lane)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None and self._channel is not None and self._response is not None:
            with _SEND:
                self._channel.give_up(self._response, error)


def _given(name: str, args: Any, kwargs: Any) -> Any:
    return args[0] if args else kwargs.get(name)


def _far_end(connection: Any) -> tuple[Server, str | None]:
    """Server and model, from the URL that the websocket was opened with."""
    protocol = connection._connection.protocol
    uri = getattr(protocol, "uri", None) or getattr(protocol, "wsuri", None)
    if uri is None:
        return Server("openai", None, None), None
    query = parse_qs(uri.query or "")
    model = query.get("model") or query.get("deployment")
    return parse(uri), model[0] if model else None
