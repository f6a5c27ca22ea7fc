"""Records as JSON has them: times in Unix seconds, of a request's parts in seconds from its start.

A JavaScript number holds Unix nanoseconds only to 256 of them, so offsets are taken here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from math import isfinite
from typing import TYPE_CHECKING, Any

from llmwatch.export.store_reader import StoredEvent, StoredLog, StoredSpan
from llmwatch.view.records import Request, Series

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_TIMES = frozenset({"start", "time", "raised", "cleared"})
"""Fields of records that are Unix nanoseconds."""


def record(each: DataclassInstance) -> dict[str, Any]:
    """A flat record by the names of its fields."""
    return {field.name: _field(field.name, getattr(each, field.name)) for field in fields(each)}


def series(each: Series, zero: int = 0) -> dict[str, Any]:
    """A line of a chart; its times from *zero* on."""
    return {
        "metric": each.metric,
        "unit": each.unit,
        "attributes": plain(each.attributes),
        "service": each.service,
        "times": [(time - zero) / 1e9 for time in each.times],
        "values": [value if isfinite(value) else None for value in each.values],
    }


def request(found: Request) -> dict[str, Any]:
    """One operation; all times in it are seconds from its start."""
    zero = found.row.start
    return {
        "row": record(found.row),
        "spans": [span(each, zero) for each in found.spans],
        "tokens": found.tokens,
        "prefill": found.prefill,
        "machine": [series(each, zero) for each in found.machine],
        "logs": [log(each, zero) for each in found.logs],
    }


def span(each: StoredSpan, zero: int) -> dict[str, Any]:
    """One span; ``at`` is when it began."""
    return {
        "name": each.name,
        "id": each.span_id,
        "parent": each.parent_id,
        "at": (each.start - zero) / 1e9,
        "duration": each.duration,
        "attributes": plain(each.attributes),
        "events": [_event(event, zero) for event in each.events],
        "status": each.status,
        "message": each.status_message,
        "scope": each.scope,
        "resource": plain(each.resource),
    }


def _event(each: StoredEvent, zero: int) -> dict[str, Any]:
    return {
        "name": each.name,
        "at": (each.time - zero) / 1e9,
        "attributes": plain(each.attributes),
    }


def log(each: StoredLog, zero: int) -> dict[str, Any]:
    """One log record or event."""
    return {
        "name": each.event_name,
        "at": (each.time - zero) / 1e9,
        "severity": each.severity,
        "body": plain(each.body),
        "attributes": plain(each.attributes),
        "span": each.span_id,
    }


def plain(value: Any) -> Any:
    """What JSON can hold: a number that is none is said in words."""
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value


def _field(name: str, value: Any) -> Any:
    if name in _TIMES and value is not None:
        return value / 1e9
    if name == "times":
        return [time / 1e9 for time in value]
    return plain(value)
