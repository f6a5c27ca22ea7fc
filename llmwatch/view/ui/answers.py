"""What the front end can ask, answered from a `View`. Both server and report use nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmwatch import semconv
from llmwatch import semconv_hardware as hardware
from llmwatch._version import __version__
from llmwatch.view.records import Filter, Finding, View
from llmwatch.view.ui import shape
from llmwatch.view.ui.query import filter_of, limit_of

Query = Mapping[str, str]

MACHINE = tuple(
    each.name
    for group in (
        hardware.GPU_METRICS,
        hardware.PEAK_METRICS,
        hardware.TORCH_METRICS,
        hardware.PROCESS_METRICS,
    )
    for each in group.values()
)
DRIFT = (semconv.DRIFT_METRICS["p_value"].name, semconv.DRIFT_METRICS["effect"].name)


def state(view: View, query: Query) -> dict[str, Any]:
    """What the frame of the page needs: services, and when there was a request last."""
    latest = view.requests(Filter(), limit=1)
    return {
        "version": __version__,
        "services": view.services(),
        "latest": shape.record(latest[0])["start"] if latest else None,
    }


def overview(view: View, query: Query) -> dict[str, Any]:
    """Operations by model and route; what they did over time."""
    by = filter_of(query)
    return {
        "operations": [shape.record(each) for each in view.operations(by)],
        "moments": shape.record(view.moments(by)),
        "lights": [shape.record(each) for each in view.drift(by)],
        "findings": [shape.record(each) for each in view.findings(by)],
    }


def requests(view: View, query: Query) -> dict[str, Any]:
    """The latest requests."""
    found = view.requests(filter_of(query), limit=limit_of(query))
    return {"requests": [shape.record(each) for each in found]}


def choices(view: View, query: Query) -> dict[str, Any]:
    """What there is to choose from in that time, and how many requests; takes longer."""
    by = filter_of(query)
    everything = Filter(since=by.since, until=by.until, service=by.service)
    operations = view.operations(everything)
    return {
        "choices": {
            name: _choices([getattr(each, name) for each in operations])
            for name in ("operation", "model", "route")
        },
        "count": sum(each.count for each in operations),
    }


def request(view: View, query: Query) -> dict[str, Any] | None:
    """One request by ``trace`` and ``span``; by the trace alone, the first that began in it."""
    trace, span = query.get("trace", ""), query.get("span", "")
    if not span:
        found = [row for row in view.requests(Filter(text=trace)) if row.trace_id == trace]
        span = min(found, key=lambda row: row.start).span_id if found else ""
    whole = view.request(trace, span) if span else None
    return None if whole is None else shape.request(whole)


def layers(view: View, query: Query) -> dict[str, Any]:
    """The heat map, and what was found in the layers."""
    by = filter_of(query)
    return {
        "cells": [shape.record(each) for each in view.layers(by)],
        "findings": [shape.record(each) for each in view.findings(by) if not _is_drift(each)],
    }


def machine(view: View, query: Query) -> dict[str, Any]:
    """GPUs, process and host over time."""
    return {"series": [shape.series(each) for each in view.series(list(MACHINE), filter_of(query))]}


def drift(view: View, query: Query) -> dict[str, Any]:
    """Lights, p-values over time, alarms."""
    by = filter_of(query)
    return {
        "lights": [shape.record(each) for each in view.drift(by)],
        "series": [shape.series(each) for each in view.series(list(DRIFT), by)],
        "findings": [shape.record(each) for each in view.findings(by) if _is_drift(each)],
    }


ANSWERS: dict[str, Callable[[View, Query], dict[str, Any] | None]] = {
    each.__name__: each
    for each in (state, overview, requests, choices, request, layers, machine, drift)
}
"""By name, as in the URL."""


def _choices(values: Sequence[str | None]) -> list[str]:
    return sorted({value for value in values if value})


def _is_drift(found: Finding) -> bool:
    return semconv.DRIFT_MONITOR in found.attributes
