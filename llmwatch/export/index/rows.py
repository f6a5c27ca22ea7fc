"""What the index keeps of a span, a data point, a log record: pure functions of records as read.

Attributes come from any program that wrote to the store: what is not of the type that its name
promises is unknown.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, Final, NamedTuple

from llmwatch import semconv
from llmwatch import semconv_hardware as hardware
from llmwatch import semconv_models as models
from llmwatch.export.index.schema import KEPT_EVENTS, OUTCOMES
from llmwatch.export.store_reader import Attributes, StoredLog, StoredPoint, StoredSpan

LARGEST: Final = 2**63 - 1
"""What an integer of sqlite holds."""

TTFT = (models.GENERATION_TIME_TO_FIRST_TOKEN, semconv.RESPONSE_TIME_TO_FIRST_CHUNK)
GAP_P50 = (models.GENERATION_GAP_P50, semconv.STREAM_GAP_P50)
GAP_P95 = (models.GENERATION_GAP_P95, semconv.STREAM_GAP_P95)
COST = (semconv.COST, hardware.GPU_COST)
"""Names by preference: a model in this process knows its tokens, a client only chunks."""

READ: Final = frozenset(
    (
        *TTFT,
        *GAP_P50,
        *GAP_P95,
        *COST,
        semconv.OPERATION_NAME,
        semconv.REQUEST_MODEL,
        semconv.RESPONSE_MODEL,
        semconv.ROUTE,
        semconv.ERROR_TYPE,
        semconv.STREAM_ENDING,
        semconv.STREAM_CHUNKS,
        semconv.OUTPUT_TOKEN_RATE,
        semconv.USAGE_INPUT_TOKENS,
        semconv.USAGE_OUTPUT_TOKENS,
    )
)
"""The attributes of spans that are looked at here."""


class OperationFacts(NamedTuple):
    """The columns of `operations`, without its keys."""

    start: int
    end: int
    outcome: int
    ttft: float | None
    gap_p50: float | None
    gap_p95: float | None
    input: int | None
    output: int | None
    rate: float | None
    cost: float | None


class Kind(NamedTuple):
    """What operations are told apart by."""

    operation: str
    model: str | None
    route: str | None
    error: str | None


def kind_of(span: StoredSpan) -> Kind | None:
    """The kind of the operation that a span is; None if it is none."""
    found = span.attributes
    if (operation := _text(found, semconv.OPERATION_NAME)) is None:
        return None
    return Kind(
        operation,
        _text(found, semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL),
        _text(found, semconv.ROUTE),
        _text(found, semconv.ERROR_TYPE),
    )


def facts_of(span: StoredSpan) -> OperationFacts:
    """The numbers of the operation that a span is."""
    found = span.attributes
    return OperationFacts(
        moment(span.start),
        moment(span.end),
        _outcome(span),
        number(found, *TTFT),
        number(found, *GAP_P50),
        number(found, *GAP_P95),
        _whole(found, semconv.USAGE_INPUT_TOKENS),
        _whole(found, semconv.USAGE_OUTPUT_TOKENS),
        _rate(span),
        number(found, *COST),
    )


def _outcome(span: StoredSpan) -> int:
    if span.status == 2:
        return OUTCOMES.index("error")
    ending = span.attributes.get(semconv.STREAM_ENDING)
    return OUTCOMES.index("ok" if ending in (None, "exhausted") else "left")


def _rate(span: StoredSpan) -> float | None:
    """Output tokens a second; of what was not streamed, over its duration."""
    found = span.attributes
    if (rate := number(found, semconv.OUTPUT_TOKEN_RATE)) is not None:
        return rate
    tokens, seconds = _whole(found, semconv.USAGE_OUTPUT_TOKENS), span.duration
    if not tokens or seconds <= 0 or semconv.STREAM_ENDING in found:
        return None
    return None if semconv.STREAM_CHUNKS in found else tokens / seconds


def number(found: Attributes, *names: str) -> float | None:
    """The first of some attributes that is a finite number."""
    for name in names:
        if name in found:
            value = found[name]
            if type(value) in (int, float) and isfinite(value):  # True is an int, and no number
                return float(value)
    return None


def _whole(found: Attributes, name: str) -> int | None:
    value = number(found, name)
    return None if value is None or not 0 <= value <= LARGEST else int(value)


def _text(found: Attributes, *names: str) -> str | None:
    for name in names:
        if value := found.get(name):
            return str(value)
    return None


def moment(time: int) -> int:
    """A time as sqlite can hold it."""
    return max(0, min(time, LARGEST))


def service_of(resource: Attributes) -> str:
    """``service.name``."""
    return _text(resource, "service.name") or "unknown_service"


def canonical(attributes: Attributes) -> str:
    """Attributes as one text, whatever their order."""
    return json.dumps(attributes, sort_keys=True, separators=(",", ":"))


def is_indexed(point: StoredPoint) -> bool:
    """Whether a point is of a kind that can be asked for."""
    if point.kind == "histogram":
        return point.sum is not None and isfinite(point.sum) and 0 <= point.count <= LARGEST
    return point.kind in ("sum", "gauge") and point.value is not None and isfinite(point.value)


class StreamFacts(NamedTuple):
    """The columns of `streams`, without its keys.

    A sum or histogram that has begun again, in another process or a forked child, is another one.
    """

    metric: str
    unit: str
    kind: str
    """``gauge`` (a level, too), ``sum`` that only grows, or ``histogram``."""
    delta: int
    start: int
    """Unix nanoseconds; 0 where points stand for themselves."""
    attributes: str


def stream_of(point: StoredPoint) -> StreamFacts:
    """The stream that a point belongs to."""
    kind = "gauge" if point.kind == "sum" and not point.monotonic else point.kind
    delta = point.temporality == 1
    start = 0 if delta or kind == "gauge" else moment(point.start)
    attributes = canonical(point.attributes)
    return StreamFacts(point.metric, point.unit, kind, int(delta), start, attributes)


def point_row(point: StoredPoint) -> tuple[int, int, float | None, int]:
    """Time, start, value (of a histogram: its sum) and count."""
    value = point.sum if point.kind == "histogram" else point.value
    return moment(point.time), moment(point.start), value, point.count


def log_attributes(log: StoredLog) -> str | None:
    """The attributes of a finding, as JSON; None of anything else."""
    return canonical(log.attributes) if log.event_name in KEPT_EVENTS else None


def identity(trace_id: Any) -> bytes | None:
    """An id as bytes; None if it is none."""
    try:
        return bytes.fromhex(trace_id) or None
    except (TypeError, ValueError):
        return None
