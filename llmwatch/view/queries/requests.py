"""Single operations: the latest ones, and all that is known of one."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final, TypeVar

from llmwatch import semconv
from llmwatch import semconv_hardware as hardware
from llmwatch import semconv_models as models
from llmwatch.export.index.intake import MALFORMED
from llmwatch.export.index.rows import identity, number
from llmwatch.export.index.schema import OUTCOMES
from llmwatch.export.store_reader import StoredLog, StoredSpan, logs_in, spans_in
from llmwatch.view.queries.charts import around
from llmwatch.view.queries.selection import operations_where
from llmwatch.view.records import Filter, Request, RequestRow, Series

Stored = TypeVar("Stored", StoredSpan, StoredLog)

MOST_SPANS: Final = 10_000
"""Spans of one trace that are read."""

MACHINE: Final = [
    metric.name
    for metrics in (
        hardware.GPU_METRICS,
        hardware.PEAK_METRICS,
        hardware.TORCH_METRICS,
        hardware.PROCESS_METRICS,
    )
    for metric in metrics.values()
]

_ROW = (
    "SELECT lower(hex(trace)), lower(hex(span)), service, start, end, operation, model, route,"
    " outcome, error, ttft, gap_p50, gap_p95, input, output, rate, cost FROM operations"
    " JOIN spans USING (id) JOIN kinds k ON k.id = kind"
    " JOIN resources r ON r.id = operations.resource"
)


def latest(rows: sqlite3.Connection, by: Filter, limit: int) -> list[RequestRow]:
    """The operations that ended last, without what is nested; the last one first."""
    where = operations_where(rows, by)
    chosen = (
        f"SELECT id FROM operations WHERE NOT nested AND {where.text}"
        " ORDER BY end DESC, id DESC LIMIT ?"
    )
    found = rows.execute(
        f"{_ROW} WHERE operations.id IN ({chosen}) ORDER BY end DESC, operations.id DESC",
        [*where.values, limit],
    )
    return [_row(each) for each in found]


def _row(columns: Sequence[Any]) -> RequestRow:
    trace, span, service, start, end, operation, model, route, outcome, error, *numbers = columns
    return RequestRow(
        trace,
        span,
        service,
        start,
        (end - start) / 1e9,
        operation,
        model,
        route,
        OUTCOMES[outcome],
        error,
        *numbers,
    )


def one(rows: sqlite3.Connection, where: Path, trace_id: str, span_id: str) -> Request | None:
    """One operation with its trace, read from the files; None if they no longer have it."""
    trace, own = identity(trace_id), identity(span_id)
    found = rows.execute(f"{_ROW} WHERE trace = ? AND span = ?", (trace, own)).fetchone()
    if found is None:
        return None
    row = _row(found)
    found_spans = list(_spans(rows, where, trace))
    depths = _depths(found_spans)
    spans = sorted(found_spans, key=lambda span: (span.start, depths[span.span_id]))
    inside = list(_inside(spans, row.span_id))
    if not inside:
        return None
    return Request(
        row=row,
        spans=spans,
        tokens=_first(inside, lambda span: _tokens(span, row.start)) or [],
        prefill=_first(
            inside, lambda span: number(span.attributes, models.GENERATION_PREFILL_TIME)
        ),
        machine=_machine(rows, trace, own),
        logs=sorted(_logs(rows, where, trace), key=lambda log: log.time),
    )


def _machine(rows: sqlite3.Connection, trace: bytes | None, own: bytes | None) -> list[Series]:
    start, end, resource = rows.execute(
        "SELECT start, end, operations.resource FROM operations JOIN spans USING (id)"
        " WHERE trace = ? AND span = ?",
        (trace, own),
    ).fetchone()
    return around(rows, MACHINE, start, end, resource)


def _depths(spans: Sequence[StoredSpan]) -> dict[str, int]:
    """How many spans each is in; parents that are unknown end it, as do those that go in circles.

    Linear in the spans: each is walked over once, however deep they are.
    """
    parents = {span.span_id: span.parent_id for span in spans}
    depths: dict[str, int] = {}
    for each in parents:
        path, at = [], each
        while at in parents and at not in depths:
            depths[at] = 0
            path.append(at)
            at = parents[at] or ""
        depth = depths.get(at, -1)
        for passed in reversed(path):
            depths[passed] = depth = depth + 1
    return depths


def _inside(spans: Sequence[StoredSpan], span_id: str) -> Iterator[StoredSpan]:
    """One span and those that are the same operation seen by a server, outermost first."""
    own = next((span for span in spans if span.span_id == span_id), None)
    if own is not None:
        yield own
        below = _below(spans, span_id)
        for span in spans:
            if span.span_id in below and _kind(span) == _kind(own):
                yield span


def _below(spans: Sequence[StoredSpan], span_id: str) -> set[str]:
    """Ids of the spans that are in one, at any depth."""
    children: defaultdict[str | None, list[str]] = defaultdict(list)
    for span in spans:
        children[span.parent_id].append(span.span_id)
    found, ahead = {span_id}, [span_id]
    while ahead:
        new = [child for child in children[ahead.pop()] if child not in found]
        found.update(new)
        ahead += new
    return found - {span_id}


def _kind(span: StoredSpan) -> tuple[Any, Any]:
    found = span.attributes
    return found.get(semconv.OPERATION_NAME), found.get(semconv.REQUEST_MODEL)


Found = TypeVar("Found")


def _first(spans: Iterable[StoredSpan], ask: Callable[[StoredSpan], Found | None]) -> Found | None:
    return next((found for span in spans if (found := ask(span)) is not None), None)


def _tokens(span: StoredSpan, start: int) -> list[float] | None:
    """When each token or chunk came, in seconds after *start*; None if it does not say."""
    for name in (models.GENERATION_TIMELINE, semconv.STREAM_TIMELINE):
        offsets = span.attributes.get(name)
        if isinstance(offsets, list):
            shift = (span.start - start) / 1e9
            return [shift + offset / 1e6 for offset in offsets if isinstance(offset, (int, float))]
    return None


# --- reading what the index points to ------------------------------------------------------------


def _spans(rows: sqlite3.Connection, where: Path, trace: bytes | None) -> Iterator[StoredSpan]:
    found = rows.execute(
        "SELECT name, line, item FROM spans JOIN files ON files.id = file WHERE trace = ?"
        " ORDER BY spans.id LIMIT ?",
        (trace, MOST_SPANS),
    )
    return _read(where, sorted(found), spans_in)


def _logs(rows: sqlite3.Connection, where: Path, trace: bytes | None) -> Iterator[StoredLog]:
    found = rows.execute(
        "SELECT name, line, item FROM logs JOIN files ON files.id = file WHERE trace = ?"
        " ORDER BY logs.id LIMIT ?",
        (trace, MOST_SPANS),
    )
    return _read(where, sorted(found), logs_in)


def _read(
    where: Path,
    places: Iterable[tuple[str, int, int]],
    records_in: Callable[[dict[str, Any]], Iterator[Stored]],
) -> Iterator[Stored]:
    """The records at some places (file, offset of the line, number in it), which are in order."""
    for name, of_file in groupby(places, key=lambda place: place[0]):
        try:
            file = (where / name).open("rb")
        except FileNotFoundError:  # made room for newer ones meanwhile
            continue
        with file:
            for offset, of_line in groupby(of_file, key=lambda place: place[1]):
                file.seek(offset)
                wanted = {item for _, _, item in of_line}
                try:
                    records = list(records_in(json.loads(file.readline())))
                except MALFORMED:  # the file is not the one that was indexed
                    continue
                yield from (each for item, each in enumerate(records) if item in wanted)
