"""Watch ``transformers serve``: a request's trace goes on in the model that answers it.

An incoming ``traceparent`` is taken up where no instrumentation of the server has done so. The
server generates on a thread of its own, which is handed the context along with the work.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context

from llmwatch import semconv
from llmwatch._guard import Guard
from llmwatch.patching import Patch, Wrapper
from llmwatch.signals import active
from llmwatch.signals.context import detach
from llmwatch.sources.transformers.asking import Asked, ask

_SERVE = Guard("transformers.serve")

_PACKAGE = "transformers.cli.serving."
_HANDLERS = {
    "chat_completion": ("ChatCompletionHandler", "chat"),
    "completion": ("CompletionHandler", "text_completion"),
    "response": ("ResponseHandler", "chat"),
}
"""Who answers which kind of request: module, class, and ``gen_ai.operation.name``."""

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def patches() -> list[Patch]:
    """The patch table; optional, for the server was built otherwise in older releases."""
    thread = f"{_PACKAGE}utils"
    return [
        Patch(f"{_PACKAGE}server", "build_server", _build, optional=True),
        Patch(thread, "InferenceThread.submit", _submit, optional=True),
        Patch(thread, "InferenceThread.async_submit", _submit, optional=True),
        *(
            Patch(f"{_PACKAGE}{module}", f"{kind}.handle_request", _handle(name), optional=True)
            for module, (kind, name) in _HANDLERS.items()
        ),
    ]


def _build(wrapped: Callable[..., Any], _: Any, args: Args, kwargs: Kwargs) -> Any:
    app = wrapped(*args, **kwargs)
    with _SERVE:
        app.add_middleware(Continue)
    return app


def _submit(wrapped: Callable[..., Any], _: Any, args: Args, kwargs: Kwargs) -> Any:
    """``(fn, …)``: run it in the context of whoever submits it."""
    if not args:
        return wrapped(*args, **kwargs)
    return wrapped(partial(copy_context().run, args[0]), *args[1:], **kwargs)


def _handle(name: str) -> Wrapper:
    async def handle(wrapped: Callable[..., Any], handler: Any, args: Args, kwargs: Kwargs) -> Any:
        """``(body, request_id)``: what is generated underneath answers a request of this kind."""
        key = args[1] if len(args) > 1 else kwargs.get("request_id")
        known = {semconv.RESPONSE_ID: key} if isinstance(key, str) else {}
        with ask(Asked(name, known)):
            return await wrapped(*args, **kwargs)

    return handle


class Continue:
    """ASGI middleware: take up the trace that a request belongs to.

    Args:
        app: The application inside.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        context = None
        with _SERVE:
            context = _incoming(scope)
        if context is None:
            await self.app(scope, receive, send)
            return
        token = otel_context.attach(context)
        try:
            await self.app(scope, receive, send)
        finally:
            detach(token)


def _incoming(scope: Any) -> Context | None:
    """The caller's context; None where there is none, or somebody has taken it up already."""
    if active.signals is None or scope.get("type") != "http":
        return None
    if trace.get_current_span().get_span_context().is_valid:
        return None
    headers = {
        name.decode("latin-1"): value.decode("latin-1") for name, value in scope.get("headers", ())
    }
    return propagate.extract(headers)
