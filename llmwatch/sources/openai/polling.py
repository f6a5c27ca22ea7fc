"""Helpers of the client that start work and poll until it is done, watched as one operation.

The request that starts the work would otherwise be all that is seen: a span of milliseconds,
without the usage that is known only at the end.
"""

from __future__ import annotations

from typing import Any

from llmwatch._guard import Guard
from llmwatch.patching import Patch, Wrapper
from llmwatch.sources.openai.calls import Args, Call, Calls, Kwargs, Wrapped
from llmwatch.sources.openai.provider import server_of
from llmwatch.sources.openai.request import read_request
from llmwatch.sources.openai.routes import Route, find

_BEGIN = Guard("openai.poll")
_RUNS, _THREADS = "openai.resources.beta.threads.runs.runs", "openai.resources.beta.threads.threads"

POLLING = (
    ("openai.resources.videos", "Videos.create_and_poll", "/videos"),
    (_RUNS, "Runs.create_and_poll", "/threads/{id}/runs"),
    (_RUNS, "Runs.submit_tool_outputs_and_poll", "/threads/{id}/runs/{id}/submit_tool_outputs"),
    (_THREADS, "Threads.create_and_run_poll", "/threads/runs"),
)
"""Module, method and the path of the request that starts the work."""


def patches(calls: Calls) -> list[Patch]:
    """The patch table of the polling helpers, synchronous and asynchronous."""
    rows = []
    for module, path, url in POLLING:
        route = find("post", url)
        assert route is not None
        rows.append(Patch(module, path, _poll(calls, route), optional=True))
        rows.append(Patch(module, f"Async{path}", _apoll(calls, route), optional=True))
    return rows


def _poll(calls: Calls, route: Route) -> Wrapper:
    def poll(wrapped: Wrapped, resource: Any, args: Args, kwargs: Kwargs) -> Any:
        call = _begin(calls, route, wrapped, resource, args, kwargs)
        if call is None:
            return wrapped(*args, **kwargs)
        token = call.enter()
        try:
            answer = wrapped(*args, **kwargs)
        except BaseException as error:
            call.fail(error)
            raise
        finally:
            call.leave(token)
        call.end(answer, asynchronous=False)
        return answer

    return poll


def _apoll(calls: Calls, route: Route) -> Wrapper:
    async def poll(wrapped: Wrapped, resource: Any, args: Args, kwargs: Kwargs) -> Any:
        call = _begin(calls, route, wrapped, resource, args, kwargs)
        if call is None:
            return await wrapped(*args, **kwargs)
        token = call.enter()
        try:
            answer = await wrapped(*args, **kwargs)
        except BaseException as error:
            call.fail(error)
            raise
        finally:
            call.leave(token)
        call.end(answer, asynchronous=True)
        return answer

    return poll


def _begin(
    calls: Calls, route: Route, wrapped: Wrapped, resource: Any, args: Args, kwargs: Kwargs
) -> Call | None:
    with _BEGIN:
        client = resource._client
        start = getattr(resource, wrapped.__name__.removesuffix("_poll").removesuffix("_and"))
        if calls.neighbours.watching(client, route.path, start=start) is not None:
            return None
        server = server_of(client)
        given = {
            name: value
            for name, value in kwargs.items()
            if type(value).__name__ not in ("Omit", "NotGiven")
        }
        model = given.get("model")
        operation = calls.signals.start(
            route.operation,
            server.provider,
            model if isinstance(model, str) else None,
            read_request(route, given, streamed=False),
            server_address=server.address,
            server_port=server.port,
        )
        if operation is None:
            return None
        operation.absorbs = True
        return Call(calls, operation, route, args, kwargs)
    return None
