"""What a call of a decorated function does, by the kind of function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType, TracebackType
from typing import Any

from opentelemetry import context as otel_context

from llmwatch.signals import active
from llmwatch.signals.operation import Operation
from llmwatch.signals.steps import asteps, steps
from llmwatch.sources.decorators.plan import Call, Plan

Maker = Callable[[Call, Plan], Call]


def maker(function: Call) -> Maker:
    """Which of the four below suits a function, or an object with such a ``__call__``."""
    for each in (function, type(function).__call__):
        if inspect.iscoroutinefunction(each):
            return coroutine
        if inspect.isgeneratorfunction(each):
            return generator
        if inspect.isasyncgenfunction(each):
            return async_generator
    return plain


def plain(function: Call, plan: Plan) -> Call:
    """Watch a function that returns its result (or something that will give it)."""

    def watched(*args: Any, **kwargs: Any) -> Any:
        operation = None if active.signals is None else plan.begin(args, kwargs)
        if operation is None:
            return function(*args, **kwargs)
        with _Inside(operation):
            result = function(*args, **kwargs)
        return _result(operation, result)

    return watched


def coroutine(function: Call, plan: Plan) -> Call:
    """Watch a coroutine function; the operation starts when the coroutine does."""

    async def watched(*args: Any, **kwargs: Any) -> Any:
        operation = None if active.signals is None else plan.begin(args, kwargs)
        if operation is None:
            return await function(*args, **kwargs)
        with _Inside(operation):
            result = await function(*args, **kwargs)
        operation.finish()
        return result

    return watched


def generator(function: Call, plan: Plan) -> Call:
    """Watch a generator function: in the context of the call, from the first step on."""

    def watched(*args: Any, **kwargs: Any) -> Any:
        made = function(*args, **kwargs)
        if active.signals is None or not _is_generator(made):
            return made
        begin = partial(plan.begin_in, otel_context.get_current(), args, kwargs)
        return _named(steps(begin, made), made)

    return watched


def async_generator(function: Call, plan: Plan) -> Call:
    """Like `generator`, for asynchronous ones."""

    def watched(*args: Any, **kwargs: Any) -> Any:
        made = function(*args, **kwargs)
        if active.signals is None or type(made) is not AsyncGeneratorType:
            return made
        begin = partial(plan.begin_in, otel_context.get_current(), args, kwargs)
        return _named(asteps(begin, made), made)

    return watched


class _Inside:
    """Run code inside an operation, which is finished here only if the code fails."""

    __slots__ = ("_operation", "_token")

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    def __enter__(self) -> None:
        self._token = self._operation.enter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._operation.leave(self._token)
        if isinstance(error, GeneratorExit):  # a coroutine that nobody waits for any more
            self._operation.error_type = "GeneratorExit"
            self._operation.abandon()
        elif error is not None:
            self._operation.finish(error)


def _result(operation: Operation, result: Any) -> Any:
    """What a plain function returned; where the work is still to come, its end is watched too."""
    if _is_generator(result):
        return _named(steps(lambda: operation, result), result)
    if type(result) is AsyncGeneratorType:
        return _named(asteps(lambda: operation, result), result)
    if type(result) is CoroutineType:
        return _named(_awaited(operation, result), result)
    operation.finish()
    return result


async def _awaited(operation: Operation, coroutine: Coroutine[Any, Any, Any]) -> Any:
    with _Inside(operation):
        result = await coroutine
    operation.finish()
    return result


def _is_generator(result: Any) -> bool:
    """Whether it is a generator, and not one that `types.coroutine` made awaitable."""
    awaitable = inspect.CO_ITERABLE_COROUTINE
    return type(result) is GeneratorType and not result.gi_code.co_flags & awaitable


def _named(watched: Any, original: Any) -> Any:
    """Give a generator or coroutine the name that tracebacks and warnings should show."""
    watched.__name__, watched.__qualname__ = original.__name__, original.__qualname__
    return watched
