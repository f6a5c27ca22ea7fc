"""The least that a careful engineer would write: what llmwatch is measured against.

One span a chat call with the conventions' attributes, two histograms, and for streams one clock
reading a chunk. It knows one method of the client, catches no failure of its own, and ends no span
of a stream that is closed from outside or dropped.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from time import perf_counter
from typing import Any

import wrapt
from openai import AsyncStream, Stream
from openai.resources.chat.completions import AsyncCompletions, Completions
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider

DURATION, TOKENS = "gen_ai.client.operation.duration", "gen_ai.client.token.usage"
OPERATION, PROVIDER = "gen_ai.operation.name", "gen_ai.provider.name"
REQUEST_MODEL, RESPONSE_MODEL = "gen_ai.request.model", "gen_ai.response.model"


class ByHand:
    """Spans and metrics of ``chat.completions.create``, synchronous and not.

    Args:
        tracer_provider: Where the spans go.
        meter_provider: Where the metrics go.
    """

    def __init__(self, tracer_provider: TracerProvider, meter_provider: MeterProvider) -> None:
        self.tracer = tracer_provider.get_tracer("by hand")
        meter = meter_provider.get_meter("by hand")
        self.durations = meter.create_histogram(DURATION, "s")
        self.tokens = meter.create_histogram(TOKENS, "{token}")

    def install(self) -> Callable[[], None]:
        """Wrap the two methods; what it returns puts them back."""
        before = [(kind, kind.create) for kind in (Completions, AsyncCompletions)]
        wrapt.wrap_function_wrapper(Completions, "create", self.create)
        wrapt.wrap_function_wrapper(AsyncCompletions, "create", self.acreate)

        def undo() -> None:
            for kind, create in before:
                setattr(kind, "create", create)  # noqa: B010 - mypy: methods are not assigned to

        return undo

    def create(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        call = _Call(self, kwargs)
        try:
            answer = wrapped(*args, **kwargs)
        except BaseException as error:
            call.end(None, error)
            raise
        if isinstance(answer, Stream):
            answer._iterator = call.timed(answer._iterator)
        else:
            call.end(answer)
        return answer

    async def acreate(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        call = _Call(self, kwargs)
        try:
            answer = await wrapped(*args, **kwargs)
        except BaseException as error:
            call.end(None, error)
            raise
        if isinstance(answer, AsyncStream):
            answer._iterator = call.atimed(answer._iterator)
        else:
            call.end(answer)
        return answer


class _Call:
    __slots__ = ("arrivals", "dimensions", "owner", "reason", "span", "started")

    def __init__(self, owner: ByHand, kwargs: dict[str, Any]) -> None:
        model = kwargs["model"]
        self.owner = owner
        self.dimensions = {OPERATION: "chat", PROVIDER: "openai", REQUEST_MODEL: model}
        known = {
            **self.dimensions,
            "server.address": "mock.invalid",
            "gen_ai.request.stream": bool(kwargs.get("stream")),
        }
        self.span = owner.tracer.start_span(f"chat {model}", None, SpanKind.CLIENT, known)
        self.arrivals: array[float] | None = None
        self.reason: str | None = None
        self.started = perf_counter()

    def timed(self, chunks: Iterator[Any]) -> Iterator[Any]:
        self.arrivals = array("d")
        add, now = self.arrivals.append, perf_counter
        before = last = error = None
        try:
            for chunk in chunks:
                add(now())
                before, last = last, chunk
                yield chunk
        except Exception as caught:
            error = caught
            raise
        finally:
            self.end_stream(before, last, error)

    async def atimed(self, chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        self.arrivals = array("d")
        add, now = self.arrivals.append, perf_counter
        before = last = error = None
        try:
            async for chunk in chunks:
                add(now())
                before, last = last, chunk
                yield chunk
        except Exception as caught:
            error = caught
            raise
        finally:
            self.end_stream(before, last, error)

    def end_stream(self, before: Any, last: Any, error: Exception | None) -> None:
        if before is not None and before.choices:  # the last chunk holds the usage, and no choice
            self.reason = before.choices[0].finish_reason
        self.end(last, error)

    def end(self, answer: Any, error: BaseException | None = None) -> None:
        duration = perf_counter() - self.started
        found: dict[str, Any] = {}
        dimensions, arrivals, owner = self.dimensions, self.arrivals, self.owner
        if answer is not None:
            dimensions[RESPONSE_MODEL] = found[RESPONSE_MODEL] = answer.model
            found["gen_ai.response.id"] = answer.id
            reason = answer.choices[0].finish_reason if answer.choices else self.reason
            found["gen_ai.response.finish_reasons"] = [reason or ""]
            if (usage := answer.usage) is not None:
                found["gen_ai.usage.input_tokens"] = usage.prompt_tokens
                found["gen_ai.usage.output_tokens"] = usage.completion_tokens
                key = "gen_ai.token.type"
                owner.tokens.record(usage.prompt_tokens, {**dimensions, key: "input"})
                owner.tokens.record(usage.completion_tokens, {**dimensions, key: "output"})
        if arrivals:
            found["gen_ai.response.time_to_first_chunk"] = arrivals[0] - self.started
            found["chunks"] = len(arrivals)
            found["mean_gap"] = (arrivals[-1] - arrivals[0]) / max(len(arrivals) - 1, 1)
        if error is not None:
            found["error.type"] = dimensions["error.type"] = type(error).__qualname__
            self.span.set_status(Status(StatusCode.ERROR, type(error).__qualname__))
        self.span.set_attributes(found)
        self.span.end()
        owner.durations.record(duration, dimensions)
