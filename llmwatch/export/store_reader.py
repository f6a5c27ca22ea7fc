"""Read the embedded store back, as light typed records.

Lines that are not whole (a process was killed while it wrote) are skipped. Reading needs neither
the OpenTelemetry SDK nor protobuf.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

Attributes = dict[str, Any]

OF_STORE = re.compile(r"(traces|metrics|logs)-\d{8}T\d{6}\.\d{6}-\d+\.jsonl")
"""Names of the store's own files; the user may keep other things there."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event on a span."""

    name: str
    time: int
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """One span. Times are Unix nanoseconds, ids hex, `kind` and `status` OTLP's integers."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    start: int
    end: int
    kind: int
    attributes: Attributes
    events: list[StoredEvent]
    status: int
    """0 unset, 1 ok, 2 error."""
    status_message: str
    scope: str
    resource: Attributes

    @property
    def duration(self) -> float:
        """Seconds."""
        return (self.end - self.start) / 1e9


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """One data point of a metric. Times are Unix nanoseconds."""

    metric: str
    unit: str
    kind: str
    """``sum``, ``gauge``, ``histogram``, …"""
    temporality: int
    """0 where it does not apply, 1 delta, 2 cumulative."""
    attributes: Attributes
    start: int
    time: int
    value: float | None
    """Of a sum or gauge."""
    count: int
    """Of a histogram, like the four below."""
    sum: float | None
    min: float | None
    max: float | None
    bounds: list[float]
    buckets: list[int]
    scope: str
    resource: Attributes
    monotonic: bool = False
    """Of a sum: it only grows. One that does not is a level, like a gauge."""


@dataclass(frozen=True, slots=True)
class StoredLog:
    """One log record or event. `time` is Unix nanoseconds; ids are hex, None outside a span."""

    event_name: str
    time: int
    severity: int
    body: Any
    attributes: Attributes
    trace_id: str | None
    span_id: str | None
    scope: str
    resource: Attributes


def read_spans(path: str | PathLike[str]) -> Iterator[StoredSpan]:
    """The spans in the store at *path*, file by file in the order the files were begun."""
    for request in _requests(Path(path), "traces"):
        yield from spans_in(request)


def read_metrics(path: str | PathLike[str]) -> Iterator[StoredPoint]:
    """The data points in the store at *path*, file by file in the order the files were begun."""
    for request in _requests(Path(path), "metrics"):
        yield from points_in(request)


def read_logs(path: str | PathLike[str]) -> Iterator[StoredLog]:
    """The log records in the store at *path*, file by file in the order the files were begun."""
    for request in _requests(Path(path), "logs"):
        yield from logs_in(request)


def spans_in(request: dict[str, Any], only: Container[str] | None = None) -> Iterator[StoredSpan]:
    """The spans of one line; with *only* these of their attributes, and without their events."""
    for each, scope, resource in _items(request, "resourceSpans", "scopeSpans", "spans"):
        status = each.get("status", {})
        yield StoredSpan(
            name=str(each.get("name", "")),
            trace_id=each["traceId"],
            span_id=each["spanId"],
            parent_id=each.get("parentSpanId") or None,
            start=int(each.get("startTimeUnixNano", 0)),
            end=int(each.get("endTimeUnixNano", 0)),
            kind=each.get("kind", 0),
            attributes=_attributes(each, only),
            events=[] if only is not None else [_event(event) for event in each.get("events", ())],
            status=status.get("code", 0),
            status_message=str(status.get("message", "")),
            scope=scope,
            resource=resource,
        )


def _event(event: dict[str, Any]) -> StoredEvent:
    time = int(event.get("timeUnixNano", 0))
    return StoredEvent(str(event.get("name", "")), time, _attributes(event))


def points_in(request: dict[str, Any]) -> Iterator[StoredPoint]:
    """The data points of one line."""
    keys = ("resourceMetrics", "scopeMetrics", "metrics")
    for metric, scope, resource in _items(request, *keys):
        kind = next((each for each in _KINDS if each in metric), None)
        for point in metric[kind].get("dataPoints", ()) if kind is not None else ():
            yield _point(metric, kind or "", point, scope, resource)


def logs_in(request: dict[str, Any]) -> Iterator[StoredLog]:
    """The log records of one line."""
    for each, scope, resource in _items(request, "resourceLogs", "scopeLogs", "logRecords"):
        yield StoredLog(
            event_name=str(each.get("eventName", "")),
            time=int(each.get("timeUnixNano", 0)),
            severity=each.get("severityNumber", 0),
            body=_value(each["body"]) if "body" in each else None,
            attributes=_attributes(each),
            trace_id=each.get("traceId") or None,
            span_id=each.get("spanId") or None,
            scope=scope,
            resource=resource,
        )


_KINDS = ("sum", "gauge", "histogram", "exponentialHistogram", "summary")


def _point(
    metric: dict[str, Any], kind: str, point: dict[str, Any], scope: str, resource: Attributes
) -> StoredPoint:
    value = point.get("asDouble", point.get("asInt"))
    return StoredPoint(
        metric=metric.get("name", ""),
        unit=metric.get("unit", ""),
        kind=kind,
        temporality=metric[kind].get("aggregationTemporality", 0),
        attributes=_attributes(point),
        start=int(point.get("startTimeUnixNano", 0)),
        time=int(point.get("timeUnixNano", 0)),
        value=None if value is None else float(value),
        count=int(point.get("count", 0)),
        sum=_number(point, "sum"),
        min=_number(point, "min"),
        max=_number(point, "max"),
        bounds=[float(bound) for bound in point.get("explicitBounds", ())],
        buckets=[int(count) for count in point.get("bucketCounts", ())],
        scope=scope,
        resource=resource,
        monotonic=bool(metric[kind].get("isMonotonic", False)),
    )


def _number(point: dict[str, Any], key: str) -> float | None:
    return float(point[key]) if key in point else None  # "NaN" and "Infinity" come as strings


def _items(
    request: dict[str, Any], resources: str, scopes: str, items: str
) -> Iterator[tuple[dict[str, Any], str, Attributes]]:
    for by_resource in request.get(resources, ()):
        resource = _attributes(by_resource.get("resource", {}))
        for by_scope in by_resource.get(scopes, ()):
            scope = by_scope.get("scope", {}).get("name", "")
            for item in by_scope.get(items, ()):
                yield item, scope, resource


def _requests(path: Path, signal: str) -> Iterator[dict[str, Any]]:
    for file in sorted(path.glob(f"{signal}-*.jsonl")):
        try:
            lines = file.open("rb")
        except FileNotFoundError:  # made room for newer ones meanwhile
            continue
        with lines:
            for line in lines:
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    continue


def _attributes(holder: dict[str, Any], only: Container[str] | None = None) -> Attributes:
    pairs = holder.get("attributes", ())
    return _pairs(pairs if only is None else (each for each in pairs if each.get("key") in only))


def _pairs(pairs: Iterable[dict[str, Any]]) -> Attributes:
    return {each.get("key", ""): _value(each.get("value", {})) for each in pairs}


def _value(value: dict[str, Any]) -> Any:
    for kind, found in value.items():
        match kind:
            case "stringValue":  # most are
                return found
            case "intValue":
                return int(found)
            case "doubleValue":
                return float(found)
            case "arrayValue":
                return [_value(each) for each in found.get("values", ())]
            case "kvlistValue":
                return _pairs(found.get("values", ()))
            case _:
                return found
    return None
