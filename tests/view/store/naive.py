"""What a view should answer, computed from all that the store's reader reads, without an index."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from math import ceil
from pathlib import Path
from typing import Any

from llmwatch import semconv
from llmwatch import semconv_layers as layers
from llmwatch import semconv_models as models
from llmwatch.export.store_reader import (
    StoredPoint,
    StoredSpan,
    read_logs,
    read_metrics,
    read_spans,
)
from llmwatch.view.records import Filter


def spans(where: Path) -> list[StoredSpan]:
    """Every span once."""
    return list({(each.trace_id, each.span_id): each for each in read_spans(where)}.values())


def kind(span: StoredSpan) -> tuple[Any, Any]:
    found = span.attributes
    model = found.get(semconv.REQUEST_MODEL) or found.get(semconv.RESPONSE_MODEL)
    return found.get(semconv.OPERATION_NAME), model


def ancestors(span: StoredSpan, every: Iterable[StoredSpan]) -> Iterator[StoredSpan]:
    by_id = {(each.trace_id, each.span_id): each for each in every}
    seen = {span.span_id}
    parent = span.parent_id
    while parent is not None and parent not in seen and (span.trace_id, parent) in by_id:
        seen.add(parent)
        above = by_id[span.trace_id, parent]
        yield above
        parent = above.parent_id


def operations(where: Path) -> list[StoredSpan]:
    """Operations that are not inside another one of their kind."""
    every = spans(where)
    return [
        span
        for span in every
        if kind(span)[0]
        and (
            kind(span)[1] is None
            or all(kind(above) != kind(span) for above in ancestors(span, every))
        )
    ]


def chosen(where: Path, by: Filter) -> list[StoredSpan]:
    """Those that a filter lets through."""

    def fits(span: StoredSpan) -> bool:
        found = span.attributes
        names = [*kind(span), found.get(semconv.ROUTE), found.get(semconv.ERROR_TYPE)]
        texts = [name.casefold() for name in names if name]
        return (
            (by.since is None or span.end >= by.since)
            and (by.until is None or span.end < by.until)
            and by.service in (None, span.resource["service.name"])
            and by.operation in (None, kind(span)[0])
            and by.model in (None, kind(span)[1])
            and by.route in (None, found.get(semconv.ROUTE))
            and (not by.errors or span.status == 2)
            and (
                any(by.text.casefold() in text for text in texts)
                or by.text.lower() in span.trace_id
                or by.text.lower() in span.span_id
            )
        )

    return [span for span in operations(where) if fits(span)]


def first_of(span: StoredSpan, *names: str) -> Any:
    return next((span.attributes[name] for name in names if name in span.attributes), None)


def rate(span: StoredSpan) -> float | None:
    if semconv.OUTPUT_TOKEN_RATE in span.attributes:
        return float(span.attributes[semconv.OUTPUT_TOKEN_RATE])
    tokens = span.attributes.get(semconv.USAGE_OUTPUT_TOKENS)
    streamed = {semconv.STREAM_ENDING, semconv.STREAM_CHUNKS} & set(span.attributes)
    return None if streamed or not tokens or span.duration <= 0 else tokens / span.duration


def outcome(span: StoredSpan) -> str:
    if span.status == 2:
        return "error"
    return "ok" if first_of(span, semconv.STREAM_ENDING) in (None, "exhausted") else "left"


TTFT = (models.GENERATION_TIME_TO_FIRST_TOKEN, semconv.RESPONSE_TIME_TO_FIRST_CHUNK)
GAP_P50 = (models.GENERATION_GAP_P50, semconv.STREAM_GAP_P50)
GAP_P95 = (models.GENERATION_GAP_P95, semconv.STREAM_GAP_P95)


def quantile(values: Iterable[float | None], share: float) -> float | None:
    known = sorted(value for value in values if value is not None)
    return known[max(ceil(share * len(known)) - 1, 0)] if known else None


def total(values: Iterable[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def table(where: Path, by: Filter, now: int) -> list[tuple[Any, ...]]:
    """The fields of every row of the table of operations."""
    found = chosen(where, by)
    if not found:
        return []
    begin = min(span.start for span in found) if by.since is None else by.since
    last = max(span.end for span in found)
    end = by.until
    if end is None:
        end = last if by.since is None else max(now, last)
    seconds = (end - begin) / 1e9

    def name(span: StoredSpan) -> tuple[str, str, str]:
        operation, model = kind(span)
        return operation, model or "", span.attributes.get(semconv.ROUTE, "")

    rows = []
    for names, group in groupby(sorted(found, key=name), key=name):
        of = list(group)
        values = [
            names[0],
            names[1] or None,
            names[2] or None,
            len(of),
            sum(span.status == 2 for span in of),
            len(of) / seconds if seconds > 0 else 0.0,
            quantile((span.duration for span in of), 0.5),
            quantile((span.duration for span in of), 0.95),
            quantile((first_of(span, *TTFT) for span in of), 0.5),
            quantile((first_of(span, *TTFT) for span in of), 0.95),
            quantile((first_of(span, *GAP_P50) for span in of), 0.5),
            quantile((first_of(span, *GAP_P95) for span in of), 0.95),
            quantile(map(rate, of), 0.5),
            total(first_of(span, semconv.USAGE_INPUT_TOKENS) for span in of),
            total(first_of(span, semconv.USAGE_OUTPUT_TOKENS) for span in of),
            total(first_of(span, semconv.COST) for span in of),
        ]
        rows.append(tuple(values))
    return sorted(rows, key=lambda row: (-row[3], row[0], row[1] or "", row[2] or ""))


def request(span: StoredSpan) -> tuple[Any, ...]:
    """The fields of the row of one request."""
    return (
        span.trace_id,
        span.span_id,
        span.resource["service.name"],
        span.start,
        span.duration,
        *kind(span),
        span.attributes.get(semconv.ROUTE),
        outcome(span),
        span.attributes.get(semconv.ERROR_TYPE),
        first_of(span, *TTFT),
        first_of(span, *GAP_P50),
        first_of(span, *GAP_P95),
        first_of(span, semconv.USAGE_INPUT_TOKENS),
        first_of(span, semconv.USAGE_OUTPUT_TOKENS),
        rate(span),
        first_of(span, semconv.COST),
    )


# --- metrics -------------------------------------------------------------------------------------


def _line(point: StoredPoint) -> str:
    """What points of one line of a chart have in common."""
    level = point.kind == "gauge" or (point.kind == "sum" and not point.monotonic)
    return json.dumps([point.resource, point.metric, point.attributes, level], sort_keys=True)


def inside(time: int, by: Filter) -> bool:
    return (by.since is None or time >= by.since) and (by.until is None or time < by.until)


def fits(point: StoredPoint, by: Filter) -> bool:
    names = {"operation": semconv.OPERATION_NAME, "model": semconv.REQUEST_MODEL}
    names["route"] = semconv.ROUTE
    return by.service in (None, point.resource["service.name"]) and all(
        getattr(by, field) in (None, point.attributes.get(name, getattr(by, field)))
        for field, name in names.items()
    )


def series(where: Path, metrics: list[str], by: Filter, most: int) -> dict[str, Any]:
    """Times and values, by what points have in common."""
    lines: dict[str, list[StoredPoint]] = {}
    for point in read_metrics(where):
        if point.metric in metrics and point.kind in ("sum", "gauge") and fits(point, by):
            lines.setdefault(_line(point), []).append(point)
    found = {}
    for name, points in lines.items():
        pieces = sorted(piece for piece in _pieces(points) if inside(piece[0], by))
        size = -(-len(pieces) // most)
        chunks = [pieces[begin : begin + size] for begin in range(0, len(pieces), size or 1)]
        if chunks:
            found[name] = (
                [chunk[-1][0] for chunk in chunks],
                [sum(p[1] for p in chunk) / sum(p[2] for p in chunk) for chunk in chunks],
            )
    return found


def _pieces(points: list[StoredPoint]) -> Iterator[tuple[int, float, float]]:
    one = points[0]
    for point in points:
        assert point.value is not None
        if one.kind == "gauge" or not one.monotonic:
            yield point.time, point.value, 1.0
        elif one.temporality == 1:
            yield point.time, point.value, (point.time - point.start) / 1e9
    if one.kind == "sum" and one.monotonic and one.temporality == 2:
        for start in {point.start for point in points}:
            of = sorted((p.time, p.value or 0.0) for p in points if p.start == start)
            for (before, low), (after, high) in pairwise(of):
                if high >= low:
                    yield after, high - low, (after - before) / 1e9


def cells(where: Path, by: Filter) -> dict[tuple[Any, ...], tuple[int, float]]:
    """Count and seconds of each cell of the heat map."""
    found: dict[tuple[Any, ...], tuple[int, float]] = {}
    streams: dict[str, list[StoredPoint]] = {}
    for point in read_metrics(where):
        if point.metric == layers.DURATION.name and fits(point, by):
            begun = point.start if point.temporality == 2 else 0
            streams.setdefault(f"{_line(point)} {begun}", []).append(point)
    for points in streams.values():
        points.sort(key=lambda point: point.time)
        count, seconds = _timed(points, by)
        attributes = points[0].attributes
        place = (
            points[0].resource["service.name"],
            attributes.get(semconv.REQUEST_MODEL),
            attributes[layers.LAYER_NAME],
            attributes[layers.LAYER_PHASE],
            attributes.get(layers.LAYER_DEVICE),
        )
        old = found.get(place, (0, 0.0))
        found[place] = old[0] + count, old[1] + seconds
    return {place: each for place, each in found.items() if each[0]}


def _timed(points: list[StoredPoint], by: Filter) -> tuple[int, float]:
    seen = [point for point in points if inside(point.time, by)]
    if not seen:
        return 0, 0.0
    if points[0].temporality == 1:
        return sum(point.count for point in seen), sum(point.sum or 0.0 for point in seen)
    before = [point for point in points if by.since is not None and point.time < by.since]
    count, seconds = (before[-1].count, before[-1].sum or 0.0) if before else (0, 0.0)
    if seen[-1].count < count:
        count, seconds = 0, 0.0
    return seen[-1].count - count, (seen[-1].sum or 0.0) - seconds


def findings(where: Path, by: Filter) -> list[tuple[Any, ...]]:
    """When each finding was raised and cleared; the latest first."""
    logs = sorted(read_logs(where), key=lambda log: log.time)
    found = []
    for index, log in enumerate(logs):
        if not log.event_name.endswith(".raised") or not inside(log.time, by):
            continue
        cleared = None
        for later in logs[index + 1 :]:
            if later.resource == log.resource and later.attributes == log.attributes:
                if later.event_name == log.event_name.replace("raised", "cleared"):
                    cleared = later.time
                if later.event_name.startswith("llmwatch"):
                    break
        found.append((log.resource["service.name"], log.event_name, log.time, cleared))
    return sorted(found, key=lambda each: -each[2])
