"""One operation on one axis of time: its spans, each token with the gap before it, the machine.

The axis is that of the operation. What began before or ended after it is cut, with ``◂`` or ``▸``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise

from llmwatch import semconv
from llmwatch import semconv_layers as layers
from llmwatch import semconv_models as models
from llmwatch.export.store_reader import StoredLog, StoredSpan
from llmwatch.view.numbers import dollars, rate, seconds
from llmwatch.view.records import Request
from llmwatch.view.top import machine
from llmwatch.view.top.columns import MARKS, count
from llmwatch.view.top.pieces import (
    NOTHING,
    Line,
    Piece,
    Role,
    clean,
    fit,
    wrapped,
)
from llmwatch.view.top.rows import Axis, Bar, During, Gaps, Heading, Row, Words

TIMELINES = (semconv.STREAM_TIMELINE, models.GENERATION_TIMELINE)
"""Attributes that are drawn rather than printed."""


def length(request: Request) -> float:
    """Seconds of the axis."""
    return max(request.row.duration, *request.tokens[-1:], 1e-9)


def title(request: Request) -> Line:
    """What it was, and how it ended."""
    row = request.row
    line: Line = [MARKS[row.outcome], Piece(f" {clean(row.operation)} ", "title")]
    for text in (row.model, row.route):
        if text is not None:
            line.append(Piece(f"{clean(text)}  ", "name" if text is row.model else "plain"))
    if row.error is not None:
        line.append(Piece(f"{clean(row.error)}  ", "bad"))
    began = datetime.fromtimestamp(row.start / 1e9, UTC).astimezone()
    return [*line, Piece(f"{clean(row.service)}  {began:%Y-%m-%d %H:%M:%S}", "dim")]


def facts(request: Request) -> list[Line]:
    """Its numbers, each with a name; what is not known is left out."""
    row = request.row
    found = _operation(request)
    attributes = found.attributes if found else {}
    tokens = None
    if row.input_tokens is not None or row.output_tokens is not None:
        into, out = (
            NOTHING.text if each is None else count(each)
            for each in (row.input_tokens, row.output_tokens)
        )
        tokens = f"{into} → {out}"
    longest = attributes.get(semconv.STREAM_GAP_MAX, attributes.get(models.GENERATION_GAP_MAX))
    retries = attributes.get(semconv.CLIENT_RETRIES)
    named = (
        ("time", seconds(row.duration)),
        ("TTFT", _or(row.ttft, seconds)),
        ("prefill", _or(request.prefill, seconds)),
        ("gap p50", _or(row.gap_p50, seconds)),
        ("p95", _or(row.gap_p95, seconds)),
        ("longest", _or(longest, seconds)),
        ("stalls", _or(attributes.get(semconv.STREAM_STALLS), str)),
        ("tokens", tokens),
        ("tok/s", _or(row.token_rate, rate)),
        ("cost", _or(row.cost, lambda value: f"${dollars(value)}")),
        ("retries", None if not retries else str(retries)),
        ("trace", row.trace_id),
    )
    return [
        [Piece(f"{name} ", "dim"), Piece(clean(text))] for name, text in named if text is not None
    ]


def _or(value: float | None, show: object) -> str | None:
    return None if value is None else show(value)  # type: ignore[operator]


def rows(request: Request, width: int) -> list[Row]:
    """All of it, from top to bottom."""
    return [
        *(Words(line) for line in wrapped(facts(request), width, "   ")),
        Words([]),
        *_trace(request),
        *_machine(request),
        *_layers(request),
        *_tokens(request),
        *_logs(request, width),
        *_attributes(request, width),
    ]


def _operation(request: Request) -> StoredSpan | None:
    wanted = request.row.span_id
    return next((span for span in request.spans if span.span_id == wanted), None)


# --- spans ---------------------------------------------------------------------------------------


def _trace(request: Request) -> list[Row]:
    number = len(request.spans)
    spans = "1 span" if number == 1 else f"{number} spans"
    return [Heading("Trace", spans), Axis(), *_tree(request)]


def _tree(request: Request) -> list[Row]:
    """Each span below its parent, in the order of their starts."""
    known = {span.span_id for span in request.spans}
    children: defaultdict[str | None, list[StoredSpan]] = defaultdict(list)
    for span in request.spans:
        children[span.parent_id if span.parent_id in known else None].append(span)
    found: list[Row] = []
    todo = [(span, 0) for span in reversed(children[None])]
    while todo:
        span, depth = todo.pop()
        found.append(_span(request, span, depth))
        todo += [(child, depth + 1) for child in reversed(children[span.span_id])]
    return found


def _span(request: Request, span: StoredSpan, depth: int) -> Bar:
    zero = request.row.start
    mine = span.span_id == request.row.span_id
    layer = span.attributes.get(layers.LAYER_NAME)
    name = span.name if layer is None else f"{layer}"
    role: Role = "bad" if span.status == 2 else "bar" if mine else "name"
    branch = "  " * (depth - 1) + "└ " if depth else ""
    error = span.attributes.get(semconv.ERROR_TYPE)
    return Bar(
        [Piece(branch, "dim"), Piece(clean(name), "title" if mine else "plain")],
        seconds(span.duration),
        (span.start - zero) / 1e9,
        (span.end - zero) / 1e9,
        role=role,
        sign="█" if mine else "▆",
        note=f" {clean(str(error))}" if error is not None else "",
    )


# --- tokens --------------------------------------------------------------------------------------


def _tokens(request: Request) -> list[Row]:
    if request.tokens:
        word = "step" if request.prefill is not None else "chunk"
        remark = f"each {word} when it came, and the gap before it"
        return [
            Words([]),
            Heading(f"{len(request.tokens)} {word}s", remark),
            Gaps(request.tokens),
            *_prefill(request),
            *_waterfall(request, word),
        ]
    known = [*_prefill(request)]
    if request.row.ttft is not None and not known:
        known = [Bar([Piece("to the first chunk")], seconds(request.row.ttft), 0, request.row.ttft)]
    if not known:
        return []
    hint = "not when each token came: instrument(timeline=True) keeps that"
    return [Words([]), Heading("Tokens", hint), *known]


def _prefill(request: Request) -> list[Row]:
    if request.prefill is None:
        return []
    end = request.row.ttft if request.row.ttft is not None else request.prefill
    begin = max(end - request.prefill, 0.0)
    return [Bar([Piece("prefill")], seconds(request.prefill), begin, end, role="ok")]


def _waterfall(request: Request, word: str) -> Iterable[Row]:
    stalls, away = _marked(request)
    before = 0.0
    for number, at in enumerate(request.tokens, 1):
        gap = at - before
        label = f"{word} {number}".rjust(14)
        role: Role = "bad" if number in stalls else "token"
        note = "  stall" if number in stalls else "  the program was away" if number in away else ""
        yield Bar(
            [Piece(label, "dim"), Piece(f"{seconds(at):>11}")],
            f"+{seconds(gap)}",
            before,
            at,
            sign="━" if number in stalls else "─",
            tip="●",
            role=role,
            note=note,
        )
        before = at


def _marked(request: Request) -> tuple[set[int], set[int]]:
    """Chunks, counted from 1, that came after a stall; and those the program came late for.

    The span says how many gaps of the server were stalls and which was its longest. A longer one
    is none of the server's: it is round a chunk without output, or the program was away, which
    the span also says, for as long.
    """
    span = _operation(request)
    attributes = span.attributes if span else {}
    longest = attributes.get(semconv.STREAM_GAP_MAX)
    if longest is None:
        return set(), set()
    gaps = {at: after - before for at, (before, after) in enumerate(pairwise(request.tokens), 2)}
    others = {at for at, gap in gaps.items() if gap > longest + 2e-6}  # offsets are in whole µs
    mine = sorted(gaps.keys() - others, key=lambda at: -gaps[at])
    paused = attributes.get(semconv.STREAM_CONSUMER_TIME, 0.0)
    late = attributes.get(semconv.STREAM_READY_CHUNKS, 0) > 0
    away = {at for at in others if late and gaps[at] <= paused + 0.01}
    return set(mine[: attributes.get(semconv.STREAM_STALLS, 0)]), away


# --- layers, machine, logs, attributes -----------------------------------------------------------


def _layers(request: Request) -> list[Row]:
    """Time by layer, where a trace holds spans of layers."""
    spent: defaultdict[str, float] = defaultdict(float)
    for span in request.spans:
        if (layer := span.attributes.get(layers.LAYER_NAME)) is not None:
            spent[str(layer)] += float(span.attributes.get(layers.LAYER_SELF_TIME, span.duration))
    if not spent:
        return []
    found: list[Row] = [Words([]), Heading("Layers", "their own time in this trace, in all")]
    for layer, time in sorted(spent.items(), key=lambda each: -each[1])[:12]:
        found.append(Bar([Piece(clean(layer))], seconds(time), 0, time, role="name", sign="▆"))
    return found


def _machine(request: Request) -> list[Row]:
    begin = request.row.start
    end = begin + round(length(request) * 1e9)
    found: list[Row] = []
    for block in machine.blocks(request.machine):
        for chart in block.charts:
            label = [Piece(f"{block.title} ", "name"), Piece(chart.label)]
            found.append(During(label, chart, begin, end))
    return [Words([]), Heading("Machine", "meanwhile"), *found] if found else []


def _logs(request: Request, width: int) -> list[Row]:
    if not request.logs:
        return []
    found: list[Row] = [Words([]), Heading("Events and logs")]
    return found + [Words(_log(log, request.row.start, width)) for log in request.logs]


def _log(log: StoredLog, zero: int, width: int) -> Line:
    text = log.event_name or str(log.body or "")
    rest = "" if not log.event_name or log.body is None else str(log.body)
    line = [Piece(f"{seconds(max(log.time - zero, 0) / 1e9):>12}  ", "dim"), Piece(clean(text))]
    return [*line, Piece(f"  {fit(clean(rest), max(width - 16 - len(text), 0)).rstrip()}", "dim")]


def _attributes(request: Request, width: int) -> list[Row]:
    span = _operation(request)
    if span is None:
        return []
    found: list[Row] = [Words([]), Heading("Attributes")]
    named = {name: value for name, value in span.attributes.items() if name not in TIMELINES}
    longest = max(map(len, named), default=0)
    for name, value in sorted(named.items()):
        text = fit(clean(str(value)), max(width - longest - 2, 10)).rstrip()
        found.append(Words([Piece(clean(name).ljust(longest + 2), "dim"), Piece(text)]))
    return found
