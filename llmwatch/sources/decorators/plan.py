"""How the calls of one decorated function become operations: decided once, when it is decorated."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from llmwatch import semconv
from llmwatch._guard import Guard
from llmwatch.errors import ConfigError
from llmwatch.signals import active
from llmwatch.signals.operation import Operation

Call = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]

_BEGIN = Guard("decorators.begin")
_MODEL = Guard("decorators.model")

_TITLES = {
    "create_agent": semconv.AGENT_NAME,
    "execute_tool": semconv.TOOL_NAME,
    "invoke_agent": semconv.AGENT_NAME,
    "invoke_workflow": semconv.WORKFLOW_NAME,
}
"""Operations that the conventions name after what they run, not after a model."""


class Options(NamedTuple):
    """What `watch` was told."""

    name: str | None
    operation: str
    model: str | None
    model_from: str | None
    provider: str


class Plan:
    """How the calls of one function become operations."""

    __slots__ = ("attributes", "fallback", "model", "operation", "provider", "span_name")

    def __init__(self, function: Call, options: Options) -> None:
        inner: Any = function
        while isinstance(inner, partial):
            inner = inner.func
        named = inner if hasattr(inner, "__qualname__") else type(inner)
        title = options.name or named.__name__
        self.operation, self.provider = options.operation, options.provider
        self.model = _model(function, options)
        self.attributes: dict[str, Any] = {
            semconv.CODE_FUNCTION_NAME: f"{named.__module__}.{named.__qualname__}"
        }
        if self.operation in _TITLES:
            self.attributes[_TITLES[self.operation]] = title
        self.fallback = f"{self.operation} {title}"
        self.span_name = self.fallback if options.name or self.operation in _TITLES else None

    def begin(self, args: Args, kwargs: Kwargs) -> Operation | None:
        """Start the operation of one call; None where it is not to be watched."""
        signals = active.signals
        if signals is None:
            return None
        with _BEGIN:
            model = self.model(args, kwargs)
            return signals.start(
                self.operation,
                self.provider,
                model,
                self.attributes,
                kind=SpanKind.INTERNAL,
                span_name=self.span_name or (None if model else self.fallback),
            )
        return None

    def begin_in(self, context: Context, args: Args, kwargs: Kwargs) -> Operation | None:
        """`begin` in the context of an earlier moment."""
        token = otel_context.attach(context)
        try:
            return self.begin(args, kwargs)
        finally:
            otel_context.detach(token)


def _model(function: Call, options: Options) -> Callable[[Args, Kwargs], str | None]:
    if options.model_from is None:
        return lambda args, kwargs: options.model
    parameter, _, path = options.model_from.partition(".")
    position, default = _find(function, parameter)
    read = attrgetter(path) if path else None

    def model(args: Args, kwargs: Kwargs) -> str | None:
        value = default
        if parameter in kwargs:
            value = kwargs[parameter]
        elif position < len(args):
            value = args[position]
        with _MODEL:
            if read is not None:
                value = read(value)
        return value if isinstance(value, str) else None

    return model


def _find(function: Call, parameter: str) -> tuple[int, Any]:
    """Where a parameter is among positional arguments, and its default."""
    parameters: Mapping[str, inspect.Parameter] = {}
    with suppress(TypeError, ValueError):  # builtins need not have one
        parameters = inspect.signature(function).parameters
    for position, (name, each) in enumerate(parameters.items()):
        if name == parameter and each.kind is each.KEYWORD_ONLY:
            return sys.maxsize, each.default
        if name == parameter and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            return position, each.default
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return sys.maxsize, None
    raise ConfigError(
        f"watch(model_from={parameter!r}) cannot be used: {function!r} has no such parameter. "
        f"It has: {', '.join(parameters) or 'none that can be known'}."
    )
