"""Serve the page until interrupted."""

from __future__ import annotations

import socket
from contextlib import suppress
from types import FrameType

import uvicorn

from llmwatch.errors import LlmwatchError
from llmwatch.view.records import View
from llmwatch.view.ui.app import About, application
from llmwatch.view.ui.guard import is_loopback


class ServerError(LlmwatchError):
    """The page cannot be served there."""


def bind(host: str, port: int, *, remote: bool = False) -> socket.socket:
    """Take the address; what connects from then on is answered once `serve` runs.

    Args:
        host: Name or address.
        port: 0 takes a free one.
        remote: Whether others than this machine may reach it.

    Raises:
        ServerError: If the address is taken, or others would reach it and *remote* is False.
    """
    if not remote and not is_loopback(host):
        raise ServerError(
            f"--host {host} would let other machines read what was recorded. If that is meant, and "
            "something before it asks who they are, say --remote too."
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ServerError(
            f"cannot serve on {host}:{port}: {error.strerror}. Choose another --port; 0 takes a "
            "free one."
        ) from error


def url_of(taken: socket.socket) -> str:
    """Where a browser finds the page."""
    host, port, *_ = taken.getsockname()
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


class Server(uvicorn.Server):
    """Ends although pages still wait for news."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On the first signal, let them go."""
        self.config.app.state.reader.closing = True  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def serve(
    view: View, taken: socket.socket, *, host: str = "localhost", about: About | None = None
) -> None:
    """Serve the page on *taken* until a signal ends it.

    Args:
        view: What to show.
        taken: From `bind`.
        host: What it was bound to; the server answers to that name.
        about: As in `application`.
    """
    names = [host, socket.gethostname()]
    app = application(view, names=names, loopback=is_loopback(host), about=about)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2
    )
    with suppress(KeyboardInterrupt):  # uvicorn raises it again, when all is closed
        Server(config).run(sockets=[taken])
