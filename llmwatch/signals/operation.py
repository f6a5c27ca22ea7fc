"""One call to a model, from its start to its single finish.

`Signals.start` opens the span, so that children nest and samplers see the required attributes;
whoever watches then writes what it learns on the `Operation`, and calls `finish` as often as it
likes: the first call counts. Nothing here raises into the user's call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Token
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self
from weakref import ref

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from llmwatch import semconv
from llmwatch._guard import Guard
from llmwatch.measure.generation import Decoding, Generation, summarise
from llmwatch.measure.record import OperationRecord, Series, Usage
from llmwatch.measure.timeline import StreamTiming, Timeline
from llmwatch.signals.context import (
    ATTRIBUTES_KEY,
    NO_ATTRIBUTES,
    OPERATION_KEY,
    AttributeValue,
    detach,
    encodable,
)
from llmwatch.signals.cost import price
from llmwatch.signals.events import Events
from llmwatch.signals.metrics import Metrics
from llmwatch.signals.observed import Source
from llmwatch.signals.span_attributes import span_attributes

if TYPE_CHECKING:
    from llmwatch.config import Config
    from llmwatch.signals.content import Content

Ending = Literal["exhausted", "closed", "abandoned", "cancelled", "failed"]
"""How a stream ended: read to its end, closed by the consumer, dropped, cancelled, broken."""

Phase = Literal["prefill", "decode"]
"""Processing the prompt, or one step per new token."""

_START = Guard("signals.start")
_FINISH = Guard("signals.finish")
_ABANDON = Guard("signals.abandon")
_LISTEN = Guard("signals.listener")
_CLOSE = Guard("signals.close")
_SUPPRESS = "suppress_instrumentation"
_SUPPRESS_SDK = getattr(otel_context, "_SUPPRESS_INSTRUMENTATION_KEY", _SUPPRESS)
"""What users set, and what exporters of the SDK set round their own requests."""


class Listener(Protocol):
    """Somebody who wants to know when operations start and finish, on the caller's thread."""

    def started(self, operation: Operation) -> None:
        """An operation has started."""

    def finished(self, operation: Operation, record: OperationRecord) -> None:
        """An operation has finished, with this result."""


class Holder(Protocol):
    """Somebody who learns of an operation after its end what belongs on its span and metrics."""

    def hold(self, operation: Operation, record: OperationRecord) -> bool:
        """Take an operation that has ended; True promises to `Signals.complete` it soon."""

    def release(self) -> None:
        """Complete everything that is held, now, with what is known."""


class Operation:
    """One watched call in progress; a source writes on it what it learns.

    All attributes below `span` may be set by the source at any time before `finish`.
    """

    # Defaults live on the class: an operation sets few of them, and starting it must be cheap.
    known: Mapping[str, Any] = NO_ATTRIBUTES
    """Attributes that its span was started with, for its events."""
    extra: Mapping[str, AttributeValue] = NO_ATTRIBUTES
    """What `llmwatch.attributes` said when it started."""
    server_address: str | None = None
    server_port: int | None = None
    response_model: str | None = None
    response_id: str | None = None
    finish_reasons: list[str] | None = None
    usage: Usage | None = None
    client_wait: float | None = None
    error_type: str | None = None
    """Overrides the error's class name as ``error.type``."""
    timeline: Timeline | None = None
    """Set for streamed operations only."""
    decodings: list[Decoding] | None = None
    """The decoding loops of a local model, for operations whose tokens are watched only."""
    inputs: int | None = None
    """How many texts, pictures, … it holds, where a model in this process takes them."""
    queue_time: float | None = None
    """Seconds that it waited before that model began with it."""
    content: Content | None = None
    """Set only where content is captured."""
    refused: bool = False
    """True where the answer is a refusal that its finish reason does not tell."""
    body: bytes | None = None
    """The answer as it came; kept for embeddings only, and only where drift is watched."""
    secrets: tuple[str, ...] = ()
    """Keys that an error message must not quote."""
    local: bool = False
    """True where the model runs in this process."""
    phase: Phase | None = None
    """What a model in this process is doing for it right now."""
    ticket: int = 0
    """Under which a holder knows it; 0: under none."""
    absorbs: bool = False
    """True: operations inside this one are part of it and get none of their own."""
    ending: Ending | None = None
    _undo: Callable[[], None] | None = None
    reader: Callable[[Operation], None] | None = None
    """Called once just before the end with this operation, to write on it what was seen. It must
    not refer to the operation: a cycle would keep a dropped one alive."""

    def __init__(
        self,
        signals: Signals,
        name: str,
        provider: str,
        model: str | None,
        span: Span,
        context: Context,
    ) -> None:
        self._signals = signals
        self.name = name
        self.provider = provider
        self.request_model = model
        self.span = span
        self.context = context
        """The context with this operation's span in it, and not the operation: no cycle, so that
        dropping the last reference to an operation ends it."""
        self.attributes: dict[str, Any] = {}
        """Span attributes to add at the end, by full name."""
        self.started = perf_counter()

    @property
    def active(self) -> bool:
        """False once finished."""
        return id(self) in self._signals.live

    def at_end(self, undo: Callable[[], None]) -> None:
        """Call *undo* once when this operation ends; it must not refer to it."""
        self._undo = undo

    def enter(self) -> Token[Context]:
        """Make this operation and its span current; give the result to `leave`."""
        return otel_context.attach(otel_context.set_value(OPERATION_KEY, self, self.context))

    @staticmethod
    def leave(token: Token[Context]) -> None:
        """Undo `enter`, in the same frame as it was called."""
        detach(token)

    def stream(self) -> Timeline:
        """Say that this operation is streamed, and get the timeline to write readings on."""
        self.timeline = timeline = Timeline(self.started)
        return timeline

    def finish(self, error: BaseException | None = None, *, ending: Ending | None = None) -> None:
        """End the operation; only the first call does anything.

        Args:
            error: What the call raised, if it failed.
            ending: How a stream ended; None: as *error* says.
        """
        if self._signals.live.pop(id(self), None) is None:
            return
        with _FINISH:
            if self._undo is not None:
                self._undo()
            if ending is None and error is not None and self.timeline is not None:
                ending = ending_of(error)
            self.ending = ending
            self._signals.finish(self, error)

    def abandon(self, ending: Ending = "abandoned") -> None:
        """End an operation that nobody waits for any more; safe inside a garbage collection."""
        with _ABANDON:
            signals = self._signals
            if signals.collecting and id(self) in signals.live:
                # The collector may have run while this thread held a lock of the SDK's.
                signals.late.append(self)
            else:
                self.finish(ending=ending)

    def abandon_with(self, held: object) -> None:
        """Abandon this operation when *held* is dropped, which must be weakly referable."""
        mine = ref(self)

        def dropped(_: object) -> None:
            if (operation := mine()) is not None:
                operation.abandon()

        self._held = ref(held, dropped)

    def __del__(self) -> None:
        signals = getattr(self, "_signals", None)
        if signals is not None and id(self) in signals.live:
            self.abandon()


class InFlight(ref[Operation]):
    """A weak reference to an operation in flight, and what its metrics are told apart by."""

    __slots__ = ("series",)
    series: Series

    @classmethod
    def of(cls, operation: Operation, series: Series) -> Self:
        """Refer to *operation*."""
        made = cls(operation)
        made.series = series
        return made


class Signals:
    """Makes operations, and turns finished ones into spans, metrics and events.

    Args:
        config: The settings.
        tracer: Where spans go.
        metrics: Where records go to be counted.
        events: Where events go.
    """

    def __init__(
        self, config: Config, tracer: trace.Tracer, metrics: Metrics, events: Events
    ) -> None:
        self.config = config
        self.tracer = tracer
        self.metrics = metrics
        self.events = events
        self.listeners: tuple[Listener, ...] = ()
        self.holder: Holder | None = None
        self.live: dict[int, InFlight] = {}
        """Operations in flight, by id; removing one is what decides who finishes it."""
        self.collecting = False
        """True while the garbage collector runs, on whatever thread."""
        self.late: deque[Operation] = deque()
        """Operations that the collector found; they are finished at the next occasion."""
        self._observed: list[tuple[semconv.Metric, Source]] = []
        self._feeds: list[Callable[[], None]] = []
        self._at_close: list[Callable[[], object]] = []
        self._versions = semconv.versions(config.semconv)
        self._metric_keys = tuple(
            semconv.METRIC_ATTRIBUTES.get(key, key) for key in config.metric_attributes
        )
        metrics.watch_active(self.active)

    def rewire(self, tracer: trace.Tracer, metrics: Metrics, events: Events) -> None:
        """Send everything elsewhere from now on; operations in flight go there too."""
        metrics.watch_active(self.active)
        if metrics is not self.metrics:
            for metric, source in self._observed:
                metrics.observe(metric, source)
            for hand_over in self._feeds:
                metrics.feed(hand_over)
        self.tracer, self.metrics, self.events = tracer, metrics, events

    def observe(self, metric: semconv.Metric, source: Source) -> None:
        """Let *source* say what *metric* is whenever a reader collects, wherever metrics go."""
        self._observed.append((metric, source))
        self.metrics.observe(metric, source)

    def feed(self, hand_over: Callable[[], None]) -> None:
        """Have *hand_over* put what a source holds before a reader collects: see `Metrics.feed`."""
        self._feeds.append(hand_over)
        self.metrics.feed(hand_over)

    def at_close(self, callback: Callable[[], object]) -> None:
        """Call *callback* after the last collection: what is observed must live until then."""
        self._at_close.append(callback)

    def close(self) -> None:
        """Nothing is observed any more: let go of what it was read from."""
        self._observed.clear()
        while self._at_close:
            with _CLOSE:
                self._at_close.pop()()

    def on_collection(self, phase: str, info: dict[str, int]) -> None:
        """To be put among `gc.callbacks`."""
        self.collecting = phase == "start"

    def finish_late(self) -> None:
        """Finish the operations that the garbage collector found."""
        while self.late:
            with _ABANDON:
                self.late.popleft().finish(ending="abandoned")

    def active(self) -> list[Series]:
        """The series of every operation in flight."""
        return [each.series for each in list(self.live.values())]

    def abandon_all(self) -> None:
        """End whatever is still in flight: at the end of the process, or of watching."""
        self.finish_late()
        for each in list(self.live.values()):
            if (operation := each()) is not None:
                operation.abandon()

    def start(
        self,
        name: str,
        provider: str,
        model: str | None,
        attributes: Mapping[str, Any],
        *,
        server_address: str | None = None,
        server_port: int | None = None,
        kind: SpanKind = SpanKind.CLIENT,
        span_name: str | None = None,
        started: float | None = None,
    ) -> Operation | None:
        """Open an operation, or return None where instrumentation is suppressed (or failed).

        Args:
            name: ``gen_ai.operation.name``: chat, text_completion, embeddings, …
            provider: ``gen_ai.provider.name``.
            model: The model asked for, if any.
            attributes: Further span attributes known at the start, by full name.
            server_address: Host the request goes to.
            server_port: Its port.
            kind: CLIENT for remote calls, INTERNAL for models in this process.
            span_name: Instead of ``{name} {model}``.
            started: Reading of `perf_counter` at which it began; None: now.
        """
        with _START:
            if self.late:
                self.finish_late()
            parent = otel_context.get_current()
            if parent.get(_SUPPRESS) or parent.get(_SUPPRESS_SDK):
                return None
            model = encodable(model)
            extra: Mapping[str, AttributeValue] = parent.get(ATTRIBUTES_KEY) or NO_ATTRIBUTES  # type: ignore[assignment]
            known = _known(name, provider, model, server_address, server_port)
            known.update(attributes)
            known.update(extra)
            span = self.tracer.start_span(
                span_name or (f"{name} {model}" if model else name),
                parent,
                kind,
                known,
                start_time=None if started is None else _unix_ns(started),
            )
            context = trace.set_span_in_context(span, parent)
            operation = Operation(self, name, provider, model, span, context)
            operation.known = known
            if kind is SpanKind.INTERNAL:
                operation.local = True
            if started is not None:
                operation.started = started
            if extra:
                operation.extra = extra
            operation.server_address = server_address
            operation.server_port = server_port
            self.live[id(operation)] = InFlight.of(
                operation, Series(name, provider, model, None, server_address, server_port)
            )
            for listener in self.listeners:
                with _LISTEN:
                    listener.started(operation)
            return operation
        return None

    def finish(self, operation: Operation, error: BaseException | None) -> None:
        """Turn an operation into its record, span attributes, metrics and events."""
        duration = perf_counter() - operation.started
        ended_at = time_ns()
        if operation.reader is not None:
            with Guard("signals.read"):
                operation.reader(operation)
        record = None
        try:
            timing = operation.timeline.summary() if operation.timeline is not None else None
            error_type = operation.error_type
            if error is not None and error_type is None:
                error_type = type(error).__qualname__
            _make_encodable(operation)
            record = self._record(operation, duration, ended_at, timing, error_type)
        finally:
            if record is None:
                operation.span.end(ended_at)
        # An error is not held: its traceback would keep the user's objects alive.
        holder = self.holder if error is None else None
        if holder is None or not holder.hold(operation, record):
            self.complete(operation, record, error)

    def complete(
        self, operation: Operation, record: OperationRecord, error: BaseException | None = None
    ) -> None:
        """Tell of an operation that has ended, everywhere; from any thread."""
        error_type = record.series.error_type
        span = operation.span
        try:
            if span.is_recording() or self.events.details:
                span.set_attributes(span_attributes(operation, record, self.config, self._versions))
                if error_type is not None:
                    span.set_status(Status(StatusCode.ERROR, _describe(error, error_type)))
        finally:
            span.end(record.ended_at)
            self.metrics.put(record)
        self.events.emit(operation, record, error)
        for listener in self.listeners:
            with _LISTEN:
                listener.finished(operation, record)

    def _record(
        self,
        operation: Operation,
        duration: float,
        ended_at: int,
        timing: StreamTiming | None,
        error_type: str | None,
    ) -> OperationRecord:
        usage, generation = operation.usage, None
        if operation.decodings is not None:
            generation = summarise(operation.decodings, operation.started)
            if usage is None:
                operation.usage = usage = _usage_of(generation)
        if usage is None and self.config.estimate_usage and timing is not None:
            operation.usage = usage = _estimate(timing)
        extra = operation.extra
        series = Series(
            operation.name,
            operation.provider,
            operation.request_model,
            operation.response_model,
            operation.server_address,
            operation.server_port,
            error_type,
            tuple((key, extra[key]) for key in self._metric_keys if key in extra) if extra else (),
        )
        span_context = operation.span.get_span_context()
        sampled = span_context.trace_flags.sampled
        return OperationRecord(
            series,
            duration,
            ended_at,
            usage,
            timing,
            self._cost(series, usage, operation),
            operation.client_wait,
            span_context.trace_id if sampled else 0,
            span_context.span_id if sampled else 0,
            generation=generation,
            inputs=operation.inputs if error_type is None else None,
            queue_time=operation.queue_time,
        )

    def _cost(self, series: Series, usage: Usage | None, operation: Operation) -> float | None:
        if usage is None or not self.config.cost or operation.name == "fetch_response":
            return None  # what is fetched was paid for when it was made
        return price(series, usage, operation.attributes.get(semconv.OPENAI_RESPONSE_SERVICE_TIER))


def _make_encodable(operation: Operation) -> None:
    """What the server said, as far as it is no content."""
    operation.response_model = encodable(operation.response_model)
    operation.response_id = encodable(operation.response_id)
    if operation.finish_reasons is not None:
        operation.finish_reasons = [encodable(each) for each in operation.finish_reasons]


def _estimate(timing: StreamTiming) -> Usage | None:
    """Output tokens counted from chunks that carried output, where there were any."""
    tokens = timing.chunks - timing.quiet_chunks
    return Usage(output_tokens=tokens, estimated=True) if tokens else None


def _usage_of(generation: Generation) -> Usage | None:
    """What a local generation counted."""
    counts = generation.prompt_tokens, generation.output_tokens, generation.cached_tokens
    return None if counts == (None, None, None) else Usage(*counts)


def _known(
    name: str, provider: str, model: str | None, address: str | None, port: int | None
) -> dict[str, Any]:
    """The attributes that every span has from its start, as far as they are known."""
    known: dict[str, Any] = {semconv.OPERATION_NAME: name, semconv.PROVIDER_NAME: provider}
    if model is not None:
        known[semconv.REQUEST_MODEL] = model
    if address is not None:
        known[semconv.SERVER_ADDRESS] = address
        if port is not None:
            known[semconv.SERVER_PORT] = port
    return known


def ending_of(error: BaseException) -> Ending:
    """How a stream ended that raised *error* while it was waited for."""
    # By name, so that neither asyncio nor trio need be imported.
    cancelled = type(error).__name__ in ("CancelledError", "Cancelled")
    return "cancelled" if cancelled else "failed"


def _unix_ns(reading: float) -> int:
    """A recent reading of `perf_counter` as Unix time in nanoseconds."""
    return time_ns() - round((perf_counter() - reading) * 1e9)


def _describe(error: BaseException | None, error_type: str) -> str:
    """The status description: the class alone. A message may hold content or secrets."""
    return type(error).__qualname__ if error is not None else error_type
