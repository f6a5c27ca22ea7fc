"""Who may ask the server, and what a browser may do with its answers.

A page of somebody else's that the user visits can make their browser ask servers on their own
machine. It cannot read the answers, unless it moves a name of its own to 127.0.0.1 (DNS rebinding):
then the browser sends that name as ``Host``, and here it is turned away.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmwatch.view.ui.page import POLICY

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""On every answer."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that name or address."""
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and ip_address(address).is_loopback


class Guarded:
    """An application that answers only to its own names, and says what may be done with answers.

    Args:
        app: What to guard.
        names: Names it is reached by, beside addresses and ``localhost``. An address cannot be
            rebound: whoever uses one has it from the user.
        loopback: Whether to answer only to addresses of this machine.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str] = (), *, loopback: bool = True) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names)
        self._loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Turn away, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        host = _host(Headers(scope=scope).get("host", ""))
        if self._knows(host):
            await self._app(scope, receive, with_headers)
        else:
            refusal = PlainTextResponse(f"This server is not called {host!r}.\n", status_code=421)
            await refusal(scope, receive, with_headers)

    def _knows(self, host: str) -> bool:
        if is_loopback(host) or host in self._names:
            return True
        return not self._loopback and _address(host) is not None


def _host(header: str) -> str:
    """``Host`` without its port, in lower case."""
    if header.startswith("["):
        return header.partition("]")[0].lower() + "]"
    return header.partition(":")[0].lower()


def _address(host: str) -> str | None:
    plain = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return str(ip_address(plain))
    except ValueError:
        return None
