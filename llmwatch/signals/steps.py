"""Watch a generator: its body runs inside the operation, its consumer does not.

OpenTelemetry's current context is put in place before each step of the body and taken away right
after it, by the same frame: a generator may be asked by another thread, or in another task, each
time. What the body itself attached (a span it holds open across a ``yield``) is kept for its next
step, so the consumer never sees it either. `send`, `throw`, `close` and the returned value pass
through as if nobody watched.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import ContextVar
from time import perf_counter
from typing import Any, TypeVar

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from llmwatch.measure.timeline import Timeline
from llmwatch.signals.context import OPERATION_KEY, detach
from llmwatch.signals.operation import Operation

Item = TypeVar("Item")
Sent = TypeVar("Sent")
Returned = TypeVar("Returned")

Begin = Callable[[], Operation | None]
"""Called at the first step: a generator that is never asked for anything has no operation."""


def steps(
    begin: Begin, generator: Generator[Item, Sent, Returned]
) -> Generator[Item, Sent, Returned]:
    """Pass *generator* on, step by step, inside its operation.

    Cost: about 0.6 µs a step.
    """
    operation = begin()
    del begin  # it holds the call's arguments
    timeline, variable, context = _place(operation)
    ask, get, now = timeline.asked.append, timeline.got.append, perf_counter
    step: Callable[[Any], Item] = generator.send
    value: Any = None
    while True:
        token = variable.set(context)
        ask(now())
        try:
            items = [step(value)]
        except BaseException as error:
            detach(token)
            _end(operation, error, closing=isinstance(value, GeneratorExit))
            value = None  # what was thrown in holds this frame: no cycle
            if isinstance(error, StopIteration):
                return error.value  # type: ignore[no-any-return]
            raise
        get(now())
        context = variable.get()
        variable.reset(token)
        try:
            value = yield items.pop()  # not kept here: an item may be large
            step = generator.send
        except BaseException as error:  # noqa: BLE001 - handed to the body, whose error it is
            step, value = generator.throw, error


async def asteps(begin: Begin, generator: AsyncGenerator[Item, Sent]) -> AsyncGenerator[Item, Sent]:
    """Like `steps`, for asynchronous generators."""
    operation = begin()
    del begin
    timeline, variable, context = _place(operation)
    ask, get, now = timeline.asked.append, timeline.got.append, perf_counter
    step: Callable[[Any], Any] = generator.asend
    value: Any = None
    while True:
        token = variable.set(context)
        ask(now())
        try:
            items = [await step(value)]
        except BaseException as error:
            detach(token)
            _end(operation, error, closing=isinstance(value, GeneratorExit))
            value = None
            if isinstance(error, StopAsyncIteration):
                return
            raise
        get(now())
        context = variable.get()
        detach(token)
        try:
            value = yield items.pop()
            step = generator.asend
        except BaseException as error:  # noqa: BLE001 - handed to the body, whose error it is
            step, value = generator.athrow, error


def _place(operation: Operation | None) -> tuple[Timeline, ContextVar[Context], Context]:
    """Where readings go, where OpenTelemetry keeps its context, and that of the first step.

    The variable is used directly, for OpenTelemetry's functions around it cost more than all the
    rest of a step. Without an operation the steps only pass through.
    """
    context = otel_context.get_current()
    token = otel_context.attach(context)
    detach(token)
    if operation is None:
        return Timeline(0.0), token.var, context
    context = otel_context.set_value(OPERATION_KEY, operation, operation.context)
    return operation.timeline or operation.stream(), token.var, context


def _end(operation: Operation | None, error: BaseException, *, closing: bool) -> None:
    """After the last step, which raised *error*; *closing* if the consumer had closed it."""
    if operation is None:
        return
    if isinstance(error, GeneratorExit):
        operation.abandon("closed" if closing else "abandoned")
    elif not isinstance(error, (StopIteration, StopAsyncIteration)):
        operation.finish(error)
    elif closing:
        operation.abandon("closed")
    else:
        operation.finish(ending="exhausted")
