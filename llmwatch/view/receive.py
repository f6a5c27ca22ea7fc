"""Listen for OTLP/HTTP on a local port, and write what arrives into a store.

So a view shows any program that exports OTLP, in whatever language, with no collector between.
gRPC is not understood: such programs need ``OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from os import PathLike
from pathlib import Path
from socket import SHUT_RDWR, socket
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Final, Self

from google.protobuf.json_format import MessageToJson  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from llmwatch._guard import note
from llmwatch._version import __version__
from llmwatch.config import Config
from llmwatch.errors import ConfigError
from llmwatch.export.local_store import StoreFile
from llmwatch.view.arrivals import (
    JSON,
    KINDS,
    PROTOBUF,
    Kind,
    RefusedError,
    count,
    drop_nameless,
    lines,
    parsed,
    unpacked,
)

_log = logging.getLogger("llmwatch")

PORT: Final = 4318
"""Where exporters of OTLP/HTTP send to if nobody says otherwise."""

LARGEST: Final = 20 * 1024 * 1024
"""Bytes of one request, after its compression is undone."""

PATIENCE: Final = 30.0
"""Seconds without a byte after which a connection is closed."""


class Receiver:
    """Receives while it is entered; needs no permission, and asks nobody for any.

    Args:
        path: Directory of the store.
        port: 0: any that is free, told by `port`.
        host: Where to listen. Whoever can reach it can write to the store.
        limit: Bytes that the store may take; None: the settings `store_limit` and `store_age` of
            the environment.

    Raises:
        ConfigError: If those cannot be used; when entered, if the port cannot be listened on.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        port: int = PORT,
        *,
        host: str = "127.0.0.1",
        limit: int | None = None,
    ) -> None:
        self.host = host
        self.port = port
        config = Config.load()
        bounds = config.store_limit if limit is None else limit, config.store_age
        self._files = {
            kind.signal: StoreFile(Path(path), kind.signal, *bounds) for kind in KINDS.values()
        }
        self._lock = Lock()
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        receiver = self

        class Bound(_Handler):
            take = staticmethod(receiver.take)

        try:
            self._server = _Server((self.host, self.port), Bound)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"llmwatch cannot listen on {self.host}:{self.port} ({error}). If a collector runs "
                "there, choose another port, and tell the programs by OTEL_EXPORTER_OTLP_ENDPOINT."
            ) from error
        self.port = self._server.server_address[1]
        Thread(
            target=self._server.serve_forever, args=(0.1,), name="llmwatch-receiver", daemon=True
        ).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        with self._lock:
            for file in self._files.values():
                file.close()

    def take(self, kind: Kind, request: Any) -> int:
        """Write a message to the store; returns how many items could not be written.

        Raises:
            RefusedError: If none could.
        """
        nameless = drop_nameless(kind, request)
        lost = 0
        with self._lock:
            file = self._files[kind.signal]
            for items, line in lines(kind, request):
                lost += 0 if file.append([(items, line)]) else items
        if lost and lost == count(kind, request):
            raise RefusedError(503, "The store cannot be written.")
        return nameless + lost


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        self._open: set[socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """End connections that are kept alive, too: nothing is taken any more."""
        super().server_close()
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, Exception) and not isinstance(error, OSError):
            note("view.receive", error)  # else the client went away, which is no news


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = f"llmwatch/{__version__}"
    sys_version = ""
    timeout = PATIENCE
    take: Any

    def do_POST(self) -> None:
        """Take one request."""
        try:
            kind = KINDS.get(self.path.partition("?")[0])
            body = self._body()
            if kind is None:
                raise RefusedError(404, f"OTLP is taken at {', '.join(KINDS)}.")
            plain = unpacked(body, self.headers.get("Content-Encoding", "").lower(), LARGEST)
            rejected = self.take(kind, parsed(kind, plain, self._type))
        except RefusedError as error:
            self._answer(error.status, Status(message=str(error)))
        else:
            self._answer(200, _response(kind, rejected))

    def do_GET(self) -> None:
        """OTLP is posted."""
        self._answer(405, Status(message="Use POST."))

    @property
    def _type(self) -> str:
        return str(self.headers.get_content_type())

    def _body(self) -> bytes:
        """The whole body, as it was sent.

        Raises:
            RefusedError: If it is too long, nobody knows how long, or a web page sends it, which
                may be anybody's that the user visits.
        """
        if "Origin" in self.headers:
            raise self._broken(403, "Nothing is taken from pages in a browser.")
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(self._chunks())
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = -1
        if length < 0:
            raise self._broken(411, "Content-Length is missing.")
        if length > LARGEST:
            raise self._broken(413, f"The body is larger than {LARGEST} bytes.")
        return self.rfile.read(length)

    def _chunks(self) -> Iterator[bytes]:
        total = 0
        while True:
            try:
                size = int(self.rfile.readline(32).partition(b";")[0], 16)
            except ValueError:
                raise self._broken(400, "A chunk does not say how long it is.") from None
            total += size
            if size < 0 or total > LARGEST:
                raise self._broken(413, f"The body is larger than {LARGEST} bytes.")
            if size:
                yield self.rfile.read(size)
            self.rfile.readline(8)
            if not size:
                return

    def _broken(self, status: int, message: str) -> RefusedError:
        """What is left of the body cannot be skipped: the connection ends with the answer."""
        self.close_connection = True
        return RefusedError(status, message)

    def _answer(self, status: int, message: Any) -> None:
        """In the encoding that was asked in."""
        as_json = self._type == JSON
        body = MessageToJson(message).encode() if as_json else message.SerializeToString()
        self.send_response(status)
        self.send_header("Content-Type", JSON if as_json else PROTOBUF)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        if status == 503:
            self.send_header("Retry-After", "5")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as it is called
        """Not on stderr: a view may have the terminal."""
        _log.debug("llmwatch's receiver: " + format, *args)


def _response(kind: Kind, rejected: int) -> Any:
    response = kind.response()
    if rejected:
        setattr(response.partial_success, kind.rejected, rejected)
        response.partial_success.error_message = (
            "Without valid ids, larger than the store, or it is full."
        )
    return response
