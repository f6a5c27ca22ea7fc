"""The server's application: the page, its parts, and answers as JSON; it only reads."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from llmwatch.view.records import View
from llmwatch.view.ui import page
from llmwatch.view.ui.answers import ANSWERS
from llmwatch.view.ui.guard import Guarded
from llmwatch.view.ui.query import QueryError
from llmwatch.view.ui.reader import Reader

About = Mapping[str, str]


def application(
    view: View, *, names: Sequence[str] = (), loopback: bool = True, about: About | None = None
) -> Starlette:
    """The page over a view.

    Args:
        view: What is shown; used on a thread of its own, and not closed.
        names: Names that the server is reached by, beside ``localhost`` and addresses.
        loopback: Whether to answer only to addresses of this machine.
        about: What a page that is empty says: the ``path`` of the store, where it can ``listen``.
    """
    reader = Reader(view)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        reader.close()

    app = Starlette(
        routes=[
            Route("/", _page),
            Route("/trace/{trace}", _trace),
            Route("/api/news", partial(_news, reader)),
            Route("/api/{name}", partial(_answer, reader, about or {})),
            Mount("/static", StaticFiles(packages=[("llmwatch.view.ui", "static")])),
        ],
        middleware=[Middleware(Guarded, names=names, loopback=loopback)],
        lifespan=lifespan,
    )
    app.state.reader = reader
    return app


async def _page(request: Request) -> Response:
    return HTMLResponse(page.linked())


async def _trace(request: Request) -> Response:
    """For links from elsewhere, which know a trace by its id."""
    trace = request.path_params["trace"]
    if not trace.isalnum():
        raise HTTPException(404)
    return RedirectResponse(f"/#/request/{trace}")


async def _answer(reader: Reader, about: About, request: Request) -> Response:
    name = request.path_params["name"]
    answer = ANSWERS.get(name)
    if answer is None:
        raise HTTPException(404)
    query = dict(request.query_params)
    more = about if name == "state" else {}
    try:
        found = await reader.ask(lambda view: _encoded(answer(view, query), more))
    except QueryError as error:
        raise HTTPException(400, str(error)) from error
    if found is None:
        raise HTTPException(404)
    return Response(found, media_type="application/json")


def _encoded(found: dict[str, Any] | None, more: About) -> bytes | None:
    """JSON; made on the reader's thread, for it may be long."""
    if found is None:
        return None
    found.update(more)
    return json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


async def _news(reader: Reader, request: Request) -> Response:
    async def events() -> AsyncIterator[str]:
        async for version in reader.news():
            yield ":\n\n" if version is None else f"data: {version}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")
