"""Send only the traces that are worth it, as can be told when they are over.

The spans of a trace wait until all of them that began in this process have ended, or until a rule
holds for one: from then on the trace is kept. Traces above the limit of a second are left out
whatever they are. Metrics know nothing of this: they are counted before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import inf
from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import StatusCode

from llmwatch import semconv
from llmwatch import semconv_models as models
from llmwatch._guard import Guard
from llmwatch.config import parse
from llmwatch.export import dropped
from llmwatch.export.added import Added

if TYPE_CHECKING:
    from llmwatch.keep import Keep

MOST_SPANS = 8192
"""Ended spans that wait for the end of their traces; beyond, the oldest trace's are left out."""

CHARACTERS = 16_384
"""A span counts once more among them for so many characters of content."""

MOST_TRACES = 8192
"""Traces in progress that are known at a time: a span that never ends leaves one behind. And as
many of those that were decided lately."""

_CONTENT = frozenset(
    (
        semconv.INPUT_MESSAGES,
        semconv.OUTPUT_MESSAGES,
        semconv.SYSTEM_INSTRUCTIONS,
        semconv.TOOL_DEFINITIONS,
    )
)
_START = Guard("sampling.start")
_END = Guard("sampling.end")


class TailSampling(SpanProcessor):
    """Passes on the spans of traces that are kept.

    `instrument` puts one into the provider that it builds. A provider of your own does the same
    with ``provider.add_span_processor(TailSampling(BatchSpanProcessor(exporter), "errors,5%"))``.

    Args:
        processor: What exports.
        keep: Rules as in the setting ``keep``; None: every trace is worth it.
        trace_limit: Traces a second that are sent, at most; None: any number.

    Raises:
        ConfigError: If the rules or the limit cannot be used.
    """

    def __init__(
        self,
        processor: SpanProcessor,
        keep: str | Keep | None = None,
        trace_limit: float | None = None,
    ) -> None:
        self._processor = processor
        self._keep: Keep | None = None if keep is None else parse("keep", keep, "keep=")
        self._limit: _Limit | None = None
        if trace_limit is not None:
            self._limit = _Limit(parse("trace_limit", trace_limit, "trace_limit="))
        self._left_out = dropped.left_out
        self.forget()
        _all.add(self)

    def forget(self) -> None:
        """Forget every trace: in a forked child, they are the parent's to send."""
        self._lock = RLock()  # a finaliser may end a span in the midst of our own work
        self._traces: dict[int, _Trace] = {}
        """Those in progress, the oldest first."""
        self._over: dict[int, _Trace] = {}
        """Those that are over and were decided, for what comes late: layers that were timed."""
        self._undecided: dict[int, _Trace] = {}
        """Those of them of which spans wait, the oldest first."""
        self._waiting = 0

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """A span begins: its trace is in progress."""
        self._processor.on_start(span, parent_context)
        context = span.get_span_context()
        if context.trace_flags.sampled:
            with _START, self._lock:
                self._trace(context.trace_id).open += 1

    def on_end(self, span: ReadableSpan) -> None:
        """A span ends: it is passed on, or waits, or is left out."""
        context = span.get_span_context()
        if context is None or not context.trace_flags.sampled:
            return
        with _END:
            with self._lock:
                trace = self._trace(context.trace_id)
                ready = self._ended(context.trace_id, trace, span)
            for each in ready:
                self._processor.on_end(_saying(each, trace.why))

    def release(self) -> None:
        """Leave out what still waits: nothing more will be learned of it."""
        with _END, self._lock:
            for trace_id in tuple(self._undecided):
                self._leave_out(trace_id, "keep")
            self._traces.clear()
            self._over.clear()

    def shutdown(self) -> None:
        """Decide what is undecided, and shut the processor down."""
        self.release()
        self._processor.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush what was passed on; traces in progress go on waiting."""
        return self._processor.force_flush(timeout_millis)

    def _trace(self, trace_id: int) -> _Trace:
        trace = self._traces.get(trace_id)
        if trace is None:
            if len(self._traces) >= MOST_TRACES:
                oldest = next(iter(self._traces))
                self._leave_out(oldest, "overflow")
                self._close(oldest, self._traces[oldest])
            trace = self._over.pop(trace_id, None) or self._begin(trace_id)
            self._traces[trace_id] = trace
        return trace

    def _begin(self, trace_id: int) -> _Trace:
        trace = _Trace()
        if self._keep is None:
            trace.kept = self._allowed()
        elif self._keep.holds_share(trace_id):
            trace.kept, trace.why = self._allowed(), "share"
        return trace

    def _close(self, trace_id: int, trace: _Trace) -> None:
        self._traces.pop(trace_id, None)
        if trace.kept is not None:
            self._over[trace_id] = trace
            if len(self._over) > MOST_TRACES:
                del self._over[next(iter(self._over))]

    def _ended(self, trace_id: int, trace: _Trace, span: ReadableSpan) -> list[ReadableSpan]:
        """What is to be passed on now."""
        trace.open -= 1
        if trace.kept is None and (why := self._judge(trace, span)):
            trace.kept, trace.why = self._allowed(), why
        trace.spans.append(span)
        weight = _weight(span) if trace.kept is None else 1
        trace.weight += weight
        self._waiting += weight
        self._undecided[trace_id] = trace
        over = trace.open <= 0
        if over:
            self._close(trace_id, trace)
        if trace.kept:
            return self._take(trace_id)
        if trace.kept is False:
            self._leave_out(trace_id, "trace_limit")
        elif over:
            self._leave_out(trace_id, "keep")
        while self._waiting > MOST_SPANS and self._undecided:
            self._leave_out(next(iter(self._undecided)), "overflow")
        return []

    def _judge(self, trace: _Trace, span: ReadableSpan) -> str:
        """The rule that holds now that *span* is known; "" if none does."""
        keep, attributes = self._keep, span.attributes or {}
        assert keep is not None
        trace.cost += _number(attributes, semconv.COST)
        if keep.errors and span.status.status_code is StatusCode.ERROR:
            return "errors"
        if keep.flagged and attributes.get(semconv.FLAGGED):
            return "flagged"
        if keep.slow is not None and _duration(span, attributes) > keep.slow:
            return "slow"
        if keep.ttft is not None and _ttft(attributes) > keep.ttft:
            return "ttft"
        return "cost" if keep.cost is not None and trace.cost > keep.cost else ""

    def _allowed(self) -> bool:
        return self._limit is None or self._limit.allows()

    def _take(self, trace_id: int) -> list[ReadableSpan]:
        """The spans of a trace that wait; none of them does any more."""
        trace = self._undecided.pop(trace_id, None)
        if trace is None:
            return []
        spans, trace.spans = trace.spans, []
        self._waiting -= trace.weight
        trace.weight = 0
        return spans

    def _leave_out(self, trace_id: int, by: str) -> None:
        if spans := self._take(trace_id):
            self._left_out.add(by, len(spans))


class _Trace:
    """What is known of one trace, as far as it runs in this process."""

    __slots__ = ("cost", "kept", "open", "spans", "weight", "why")

    def __init__(self) -> None:
        self.open = 0
        """Spans that have begun and not ended."""
        self.spans: list[ReadableSpan] = []
        """Those that wait."""
        self.weight = 0
        """How many they count as."""
        self.cost = 0.0
        self.kept: bool | None = None
        """None: undecided."""
        self.why = ""
        """The rule that keeps it."""


class _Limit:
    """Allows so many a second, and as many at once (one at least)."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._most = self._left = max(rate, 1.0)
        self._at = monotonic()

    def allows(self) -> bool:
        """Take one, if any is left."""
        now = monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _saying(span: ReadableSpan, why: str) -> ReadableSpan:
    return Added(span, {semconv.KEPT: why}) if why else span


def _weight(span: ReadableSpan) -> int:
    """How many spans one counts as while it waits. Cost: 2 µs."""
    said = span.attributes or {}
    return 1 + sum(len(str(said[name])) for name in _CONTENT.intersection(said)) // CHARACTERS


def _duration(span: ReadableSpan, attributes: Mapping[str, Any]) -> float:
    """Seconds that an operation took; of other spans, which may last as they like, 0."""
    if semconv.OPERATION_NAME not in attributes:
        return 0.0
    return ((span.end_time or 0) - (span.start_time or 0)) / 1e9


def _ttft(attributes: Mapping[str, Any]) -> float:
    return _number(attributes, semconv.RESPONSE_TIME_TO_FIRST_CHUNK) or _number(
        attributes, models.GENERATION_TIME_TO_FIRST_TOKEN
    )


def _number(attributes: Mapping[str, Any], name: str) -> float:
    """Of one's own spans, an attribute may be anything: what is no positive number is 0."""
    found = attributes.get(name)
    return found if isinstance(found, (int, float)) and 0 < found < inf else 0.0


_all: WeakSet[TailSampling] = WeakSet()
_ours: WeakSet[TailSampling] = WeakSet()


def of_ours(processor: SpanProcessor, keep: Keep | None, trace_limit: float | None) -> TailSampling:
    """One for a provider that llmwatch builds, and `release_ours` reaches."""
    made = TailSampling(processor, keep, trace_limit)
    _ours.add(made)
    return made


def release_ours() -> None:
    """`TailSampling.release`: the process is about to end, or watching."""
    for each in tuple(_ours):
        each.release()


def _forget_all() -> None:
    for each in tuple(_all):
        each.forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forget_all)
