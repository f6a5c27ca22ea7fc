"""Watch every request that a client of OpenAI's API makes.

One choke point serves all methods of the client: ``OpenAI.request`` and its asynchronous twin (not
the base class's: a neighbour that patched ``OpenAI.request`` first would hide those from us). The
request's options say what is asked for, after the client has stripped ``Omit`` and materialised
iterators; what comes back says how it is watched to its end.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from time import perf_counter
from typing import Any

from opentelemetry.context import Context

from llmwatch import semconv
from llmwatch._guard import Guard
from llmwatch.patching import Patch
from llmwatch.signals import drift_feed
from llmwatch.signals.operation import Operation, Signals
from llmwatch.sources.openai import usage_request
from llmwatch.sources.openai.capture import capture_answer, capture_request, capture_stream
from llmwatch.sources.openai.neighbours import Neighbours
from llmwatch.sources.openai.provider import server_of
from llmwatch.sources.openai.raw import watch_raw
from llmwatch.sources.openai.request import read_request
from llmwatch.sources.openai.response import (
    READERS,
    coded,
    read_headers,
    read_vectors,
    safe_code,
    vectors_in,
)
from llmwatch.sources.openai.routes import Route, find
from llmwatch.sources.openai.stream import watch_stream

_BEGIN = Guard("openai.begin")
_END = Guard("openai.end")
_FAIL = Guard("openai.fail")
_ATTEMPT = Guard("openai.attempt")
_RAW_HEADER = "X-Stainless-Raw-Response"

Wrapped = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]
Tokens = tuple[Token[Context], Token[Operation | None]]


_current: ContextVar[Operation | None] = ContextVar("llmwatch-openai-call", default=None)
"""The operation of the request that is being made, for what the client does underneath."""


def _absorbed() -> bool:
    """True inside an operation that makes requests of its own, while that goes on."""
    outer = _current.get()
    return outer is not None and outer.absorbs and outer.active


class _Unwatched:
    """A request that is not watched itself: what it does says nothing of one it is made inside."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        inside = _current.get() is not None and not _absorbed()
        self._token = _current.set(None) if inside else None

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _current.reset(self._token)


def _kinds() -> tuple[tuple[type, ...], tuple[type, ...]]:
    """The client's stream classes and its raw response classes."""
    modules = sys.modules
    streaming = modules["openai._streaming"]
    return (
        (streaming.Stream, streaming.AsyncStream),
        (
            modules["openai._response"].BaseAPIResponse,
            modules["openai._legacy_response"].LegacyAPIResponse,
        ),
    )


class Calls:
    """The wrappers, and what they share.

    Args:
        signals: Where operations are made.
    """

    def __init__(self, signals: Signals) -> None:
        self.signals = signals
        self.config = signals.config
        self.neighbours = Neighbours(signals.config.alongside)
        self.refusing: set[str | None] = set()
        """Hosts that refused to be asked for the usage of a stream."""
        self.tried: set[str | None] = set()
        """Hosts that answered when asked, or failed for another reason."""

    def patches(self) -> list[Patch]:
        """The patch table of the client's choke points."""
        base, pool = "openai._base_client", "httpcore2._{}.connection_pool"
        legacy = pool.replace("2", "")
        return [
            Patch("openai._client", "OpenAI.request", self.request),
            Patch("openai._client", "AsyncOpenAI.request", self.arequest),
            Patch(base, "BaseClient._build_request", self.build_request, optional=True),
            Patch(base, "SyncAPIClient._process_response", self.process_response, optional=True),
            Patch(base, "AsyncAPIClient._process_response", self.process_response, optional=True),
            *(
                row
                for path in (pool, legacy)
                for row in (
                    Patch(
                        path.format("sync"), "PoolRequest.wait_for_connection", self.pool_wait, True
                    ),
                    Patch(
                        path.format("async"),
                        "AsyncPoolRequest.wait_for_connection",
                        self.apool_wait,
                        True,
                    ),
                )
            ),
        ]

    # --- the call ------------------------------------------------------------------------------

    def request(self, wrapped: Wrapped, client: Any, args: Args, kwargs: Kwargs) -> Any:
        """Watch one synchronous request."""
        call = self.begin(client, args, kwargs)
        if call is None:
            with _Unwatched():
                return wrapped(*args, **kwargs)
        token = call.enter()
        try:
            try:
                answer = wrapped(*call.args, **call.kwargs)
            except Exception as error:
                if not (call.asking and call.refused(error)):
                    raise
                answer = wrapped(*args, **kwargs)
                call.note_refusal()
        except BaseException as error:
            call.fail(error)
            raise
        finally:
            call.leave(token)
        call.end(answer, asynchronous=False)
        return answer

    async def arequest(self, wrapped: Wrapped, client: Any, args: Args, kwargs: Kwargs) -> Any:
        """Watch one asynchronous request."""
        call = self.begin(client, args, kwargs)
        if call is None:
            with _Unwatched():
                return await wrapped(*args, **kwargs)
        token = call.enter()
        try:
            try:
                answer = await wrapped(*call.args, **call.kwargs)
            except Exception as error:
                if not (call.asking and call.refused(error)):
                    raise
                answer = await wrapped(*args, **kwargs)
                call.note_refusal()
        except BaseException as error:
            call.fail(error)
            raise
        finally:
            call.leave(token)
        call.end(answer, asynchronous=True)
        return answer

    def begin(self, client: Any, args: Args, kwargs: Kwargs) -> Call | None:
        """Open an operation for a request that causes inference; None for any other."""
        with _BEGIN:
            options = kwargs["options"] if "options" in kwargs else args[1]
            route = find(options.method, options.url)
            if route is None or self.neighbours.watching(client, route.path) is not None:
                return None
            if _absorbed():
                return None
            return self._open(client, route, options, args, kwargs)
        return None

    def _open(
        self, client: Any, route: Route, options: Any, args: Args, kwargs: Kwargs
    ) -> Call | None:
        body = options.json_data
        if not isinstance(body, (dict, Mapping)):  # a dict is told at once
            body = {}
        if options.extra_json:
            body = {**body, **options.extra_json}
        server = server_of(client)
        streamed = bool(kwargs.get("stream", args[2:3] == (True,)))
        attributes = read_request(route, body, streamed=streamed)
        model = body.get("model")
        operation = self.signals.start(
            route.operation,
            server.provider,
            model if isinstance(model, str) else None,
            attributes,
            server_address=server.address,
            server_port=server.port,
        )
        if operation is None:
            return None
        call = Call(self, operation, route, args, kwargs)
        call.several = body.get("n") not in (None, 1)
        call.eventful = call.several or "tools" in body or "functions" in body
        capture_request(operation, route, body, self.config)
        if self.config.stream_usage and server.address not in self.refusing:
            raw = bool(options.headers) and _RAW_HEADER in options.headers
            asking = usage_request.with_usage(route, options, streamed=streamed, raw=raw)
            if asking is not None:
                call.ask(asking)
        return call

    # --- on the way ----------------------------------------------------------------------------

    def build_request(self, wrapped: Wrapped, client: Any, args: Args, kwargs: Kwargs) -> Any:
        """Note each attempt's time, and send the trace context to hosts that may see it."""
        request = wrapped(*args, **kwargs)
        with _ATTEMPT:
            if (operation := _current.get()) is not None:
                if retries := kwargs.get("retries_taken", 0):
                    operation.attributes[semconv.CLIENT_RETRIES] = retries
                    operation.client_wait = perf_counter() - operation.started
                allowed = operation.server_address in self.config.propagate
                if allowed and "traceparent" not in request.headers:
                    from opentelemetry import propagate  # it loads every installed propagator

                    propagate.inject(request.headers, operation.context)
        return request

    def process_response(self, wrapped: Wrapped, client: Any, args: Args, kwargs: Kwargs) -> Any:
        """Read the response's headers; the result, or coroutine, passes through."""
        with _ATTEMPT:
            response = kwargs.get("response")
            if response is not None and (operation := _current.get()) is not None:
                read_headers(operation, response)
                if drift_feed.feed is not None and operation.name == "embeddings":
                    operation.body = getattr(response, "_content", None)  # None: not read yet
        return wrapped(*args, **kwargs)

    def pool_wait(self, wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
        """Time the wait for a connection from the client's pool."""
        before = perf_counter()
        connection = wrapped(*args, **kwargs)
        self._waited(perf_counter() - before)
        return connection

    async def apool_wait(self, wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
        """Time the wait for a connection from the asynchronous client's pool."""
        before = perf_counter()
        connection = await wrapped(*args, **kwargs)
        self._waited(perf_counter() - before)
        return connection

    def _waited(self, seconds: float) -> None:
        with _ATTEMPT:
            if (operation := _current.get()) is not None:
                before = operation.attributes.get(semconv.CLIENT_POOL_WAIT, 0.0)
                operation.attributes[semconv.CLIENT_POOL_WAIT] = before + seconds
                operation.client_wait = (operation.client_wait or 0.0) + seconds


class Call:
    """One request in progress: its operation, and how its answer is read."""

    __slots__ = ("args", "asking", "calls", "eventful", "kwargs", "operation", "route", "several")

    def __init__(
        self, calls: Calls, operation: Operation, route: Route, args: Args, kwargs: Kwargs
    ) -> None:
        self.calls = calls
        self.operation = operation
        self.route = route
        self.args = args
        self.kwargs = kwargs
        self.asking = False
        self.eventful = True
        """See `chunks.reader_for`."""
        self.several = False
        """True if several answers to the same question were asked for."""

    def enter(self) -> Tokens | None:
        """Make the operation current while the request is made."""
        with _BEGIN:
            return self.operation.enter(), _current.set(self.operation)
        return None

    def leave(self, tokens: Tokens | None) -> None:
        """Undo `enter`, in the same frame as it was called."""
        if tokens is not None:
            with _END:
                _current.reset(tokens[1])
                self.operation.leave(tokens[0])

    def ask(self, options: Any) -> None:
        """Send *options*, which ask for usage, instead of the user's."""
        self.asking = True
        if "options" in self.kwargs:
            self.kwargs = {**self.kwargs, "options": options}
        else:
            self.args = (self.args[0], options, *self.args[2:])

    def refused(self, error: BaseException) -> bool:
        """True if *error* may be the server's answer to our asking, not to the user's request.

        Where the error does not say so, it is found out once for each host.
        """
        with _FAIL:
            if getattr(error, "status_code", None) not in usage_request.REFUSALS:
                return False
            if "stream_options" in str(error):
                return True
            host, tried = self.operation.server_address, self.calls.tried
            if host in tried:
                return False
            tried.add(host)
            return True
        return False

    def note_refusal(self) -> None:
        """Without our asking it worked: this host is not asked again."""
        self.asking = False
        self.calls.refusing.add(self.operation.server_address)

    def fail(self, error: BaseException) -> None:
        """The request raised: end the operation with what the error tells."""
        with _FAIL:
            found = self.operation.attributes
            if (status := getattr(error, "status_code", None)) is not None:
                found[semconv.HTTP_STATUS_CODE] = status
            if (code := safe_code(getattr(error, "code", None))) is not None:
                found[semconv.ERROR_CODE] = code
            self.operation.secrets = _keys(error)
            if (response := getattr(error, "response", None)) is not None:
                read_headers(self.operation, response)
        self.operation.finish(error)

    def end(self, answer: Any, *, asynchronous: bool) -> None:
        """The request returned: read the answer, or follow it if it is a stream."""
        with _END:
            streams, raws = _kinds()
            if isinstance(answer, streams):
                self.follow(answer)
                return
            if isinstance(answer, raws):
                watch_raw(self, answer, asynchronous=asynchronous)
                return
            self.read(answer)
        self.operation.finish()

    def follow(self, stream: Any) -> None:
        """Watch a stream of chunks to its end."""
        self.operation.stream().interleaved = self.several
        if self.asking:
            self.calls.tried.add(self.operation.server_address)
        watch_stream(
            self.operation,
            stream,
            self.route.shape,
            eventful=self.eventful,
            hide=usage_request.hide if self.asking else None,
            also=capture_stream(self.operation, self.route),
        )

    def read(self, answer: Any) -> None:
        """Write on the operation what a whole answer tells."""
        READERS[self.route.shape](self.operation, answer)
        if drift_feed.feed is not None and self.route.shape == "embeddings":
            self._feed(drift_feed.feed, read_vectors(answer))
        if self.route.output == "speech":
            body = getattr(getattr(answer, "response", None), "content", None)
            if isinstance(body, bytes):
                self.operation.attributes[semconv.OUTPUT_BYTES] = len(body)
        capture_answer(self.operation, self.route, answer)

    def _feed(self, feed: drift_feed.Feed, vectors: list[Any]) -> None:
        """Hand on vectors; where they came as base64, the answer's bytes: they need no copy."""
        body = self.operation.body
        if body is None or not vectors or isinstance(vectors[0], str) or not coded(body):
            feed.put(self.operation, vectors)
        else:
            feed.put_body(self.operation, body, len(vectors), vectors_in)


def _keys(error: BaseException) -> tuple[str, ...]:
    """The keys that the failed request carried: a server may quote them in its message."""
    headers = getattr(getattr(error, "request", None), "headers", None) or {}
    values = [headers.get(name) or "" for name in ("authorization", "api-key")]
    return tuple(value.rpartition(" ")[2] for value in values if value)
