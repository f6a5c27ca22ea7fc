"""The HTTP/1.1 side of the demo server: one request after another on one connection.

Written on `asyncio.Protocol` and not on a web framework, because the time of each write is what
the server is for: `Write.start` is read immediately before the call that hands the bytes to the
kernel, and nothing is queued in between.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from time import perf_counter
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from llmwatch.demo.script import Script

Ending = Literal["complete", "dropped", "client left"]
"""How an exchange ended: answered whole, broken by script, or left by the client."""


class Write(NamedTuple):
    """One network write of a part of the body; `time.perf_counter` seconds.

    On Linux that clock is the same in all processes. The bytes can have reached a client at any
    moment after `start`; `end` is when the call returned, and bounds the error of the stamp.
    """

    start: float
    end: float
    events: int
    """Server-sent events, or parts of a binary body, that this write held."""


class Event(NamedTuple):
    """One server-sent event, or one part of a binary body."""

    data: bytes
    output: bool = False
    """True where the model's output is inside: only these wait for `Script.delays`."""


@dataclass(frozen=True)
class Answer:
    """What to send back: a body, or a stream of events."""

    body: bytes = b""
    events: Iterable[Event] | None = None
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    error_events: tuple[bytes, ...] = ()
    """How an error looks in the middle of this stream."""


@dataclass(eq=False)
class Exchange:
    """One request and what became of it: the server's record.

    Complete once `wait` has returned; times are `time.perf_counter` seconds.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Request headers, names in lower case."""
    body: bytes
    received: float
    """When the last byte of the request had come."""
    status: int = 0
    request_id: str = ""
    """The ``x-request-id`` of the answer."""
    headers_sent: float | None = None
    writes: list[Write] = field(default_factory=list)
    finished: float | None = None
    ending: Ending | None = None
    _done: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def json(self) -> Any:
        """The request body, parsed."""
        return json.loads(self.body)

    def wait(self, timeout: float = 5.0) -> Exchange:
        """Wait until the server is done with this request.

        Raises:
            TimeoutError: If it takes longer than *timeout* seconds.
        """
        if not self._done.wait(timeout):
            raise TimeoutError(f"{self.method} {self.path} is not finished after {timeout:g} s")
        return self

    def finish(self, ending: Ending) -> None:
        """Close the record; only the first call counts."""
        if not self._done.is_set():
            self.finished, self.ending = perf_counter(), ending
            self._done.set()


Handler = Callable[[Exchange], tuple[Script, Answer]]

_HEAD_END = b"\r\n\r\n"
_CHUNK_HEAD = re.compile(rb"([0-9a-fA-F]+)[^\r\n]*\r\n")
_REFUSAL = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def _length(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"a length must be a number, not {text!r}")
    return int(text)


class Connection(asyncio.Protocol):
    """One client connection: parses requests, and sends what the handler answers as scripted."""

    def __init__(self, handler: Handler, connections: set[Connection]) -> None:
        self._handler = handler
        self._connections = connections
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._exchange: Exchange | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = asyncio.Event()

    # --- what asyncio calls ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=0)  # whatever the kernel did not take stops us
        self._connections.add(self)  # asyncio has set TCP_NODELAY

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone, whoever closed it."""
        self._connections.discard(self)
        self._lost.set()
        self._writable.set()
        if self._exchange is not None:
            self._exchange.finish("client left")

    def pause_writing(self) -> None:
        """The kernel took less than it was given."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The kernel has taken everything."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Some of a request, or all of it, has come."""
        self._buffer += data
        if self._task is None:
            self._next()

    def _next(self) -> None:
        """Answer the next request, if a whole one is here; leave a client that speaks no HTTP."""
        try:
            exchange = self._parse()
        except ValueError:
            self._buffer.clear()
            self.transport.write(_REFUSAL)
            self.transport.close()
            return
        if exchange is not None:
            self._exchange = exchange
            self._task = asyncio.get_running_loop().create_task(self._answer(exchange))

    # --- reading --------------------------------------------------------------------------

    def _parse(self) -> Exchange | None:
        """Take one whole request from the buffer; None while some of it is still to come.

        Raises:
            ValueError: If it is none, or none that this server can read.
        """
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return None
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines[1:])
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        start = end + len(_HEAD_END)
        if headers.get("transfer-encoding", "").lower() == "chunked":
            found = self._chunked_body(start)
        else:
            stop = start + _length(headers.get("content-length", "0"))
            found = (bytes(self._buffer[start:stop]), stop) if len(self._buffer) >= stop else None
        if found is None:
            return None
        body, stop = found
        del self._buffer[:stop]
        method, target, _ = lines[0].split(" ", 2)
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        return Exchange(method, parts.path, query, headers, body, perf_counter())

    def _chunked_body(self, position: int) -> tuple[bytes, int] | None:
        body = bytearray()
        while (head := _CHUNK_HEAD.match(self._buffer, position)) is not None:
            size = int(head[1], 16)
            start, position = head.end(), head.end() + size + 2
            if len(self._buffer) < position:
                return None
            if size == 0:
                return bytes(body), position
            body += self._buffer[start : start + size]
        if self._buffer.find(b"\r\n", position) >= 0:
            raise ValueError("a chunk without its size")
        return None

    # --- writing --------------------------------------------------------------------------

    async def _answer(self, exchange: Exchange) -> None:
        script, answer = self._handler(exchange)
        exchange.status = answer.status
        if await self._send(exchange, script, answer):
            exchange.finish("complete")
        self._task = self._exchange = None
        if exchange.headers.get("connection", "").lower() == "close":
            self.transport.close()
        elif self._buffer and not self.transport.is_closing():
            self._next()  # it is already here

    async def _send(self, exchange: Exchange, script: Script, answer: Answer) -> bool:
        """Send the answer as scripted; False if it did not come to its end."""
        if script.fault_after is None and script.fault in ("drop", "hang"):
            return await self._fail(exchange, script)
        if not await self._pause(script.delay):
            return False
        if answer.events is None:
            return await self._send_body(exchange, script, answer)
        self._send_head(exchange, answer, ("transfer-encoding", "chunked"))
        if not await self._send_events(exchange, script, answer):
            return False
        self.transport.write(b"0\r\n\r\n")
        return True

    def _send_head(self, exchange: Exchange, answer: Answer, framing: tuple[str, str]) -> None:
        lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
        fields = (("content-type", answer.content_type), framing, *answer.headers)
        lines += [f"{name}: {value}" for name, value in fields]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        exchange.headers_sent = perf_counter()
        self.transport.write(head)

    async def _send_body(self, exchange: Exchange, script: Script, answer: Answer) -> bool:
        self._send_head(exchange, answer, ("content-length", str(len(answer.body))))
        if script.fault is not None and script.fault != "error":
            return await self._fail(exchange, script)
        return await self._write(exchange, answer.body, 1)

    async def _send_events(self, exchange: Exchange, script: Script, answer: Answer) -> bool:
        assert answer.events is not None
        faulty = script.fault is not None
        events = islice(answer.events, script.fault_after or 0) if faulty else iter(answer.events)
        delays, delay = iter(script.delays), 0.0
        while batch := list(islice(events, script.burst)):
            if any(event.output for event in batch):
                delay = next(delays, delay)
                if not await self._pause(delay):
                    return False
            if not await self._write_events(exchange, [event.data for event in batch]):
                return False
        if script.fault == "error":
            return await self._write_events(exchange, list(answer.error_events))
        return not faulty or await self._fail(exchange, script)

    async def _write_events(self, exchange: Exchange, events: list[bytes]) -> bool:
        framed = b"".join(b"%x\r\n%b\r\n" % (len(data), data) for data in events)
        return await self._write(exchange, framed, len(events))

    async def _write(self, exchange: Exchange, data: bytes, events: int) -> bool:
        if not self._writable.is_set():
            await self._writable.wait()
        if self._lost.is_set():
            return False
        start = perf_counter()
        self.transport.write(data)
        exchange.writes.append(Write(start, perf_counter(), events))
        return True

    async def _pause(self, seconds: float) -> bool:
        """Let time pass; False if the client left meanwhile."""
        if seconds > 0:
            await asyncio.sleep(seconds)
        return not self._lost.is_set()

    async def _fail(self, exchange: Exchange, script: Script) -> bool:
        if script.fault == "hang":
            await self._lost.wait()
        else:
            exchange.finish("dropped")
            self.transport.close()
        return False
