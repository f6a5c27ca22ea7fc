"""What llmwatch saw, for a terminal: read from the embedded store, drawn with rich.

Everything here comes from the files; only `truth` also looks at what the server recorded.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from llmwatch import semconv
from llmwatch.demo.draw import MEDIUM, NOTHING, WIDE, or_nothing, sparkline, table
from llmwatch.demo.wire import Exchange
from llmwatch.export.store_reader import StoredPoint, StoredSpan
from llmwatch.view.numbers import dollars, seconds

# --- operations --------------------------------------------------------------------------------


class Column(NamedTuple):
    """One column of the table of operations, and how wide a terminal it needs to be there."""

    key: str
    title: str
    size: int
    """Characters; 0: what the others leave."""
    from_width: int = 0


COLUMNS = (
    Column("mark", "", 1),
    Column("call", "call", 19),
    Column("operation", "operation", 13, MEDIUM),
    Column("model", "model", 0),
    Column("time", "time", 6),
    Column("first", "first\nchunk", 6),
    Column("gaps", "gap p50\n/p95 ms", 8),
    Column("tokens", "tokens\nin→out", 8),
    Column("rate", "tok/s", 5, WIDE),
    Column("cost", "cost, $", 8),
)


def operations(spans: Sequence[StoredSpan], width: int) -> Table:
    """One row an operation, in the order of their starts; children are indented."""
    columns = [column for column in COLUMNS if width >= column.from_width]
    if not any(semconv.COST in span.attributes for span in spans):
        columns = [column for column in columns if column.key != "cost"]
    rest = width - sum(column.size + 1 for column in columns) + 1  # one blank between two
    drawn = table("Operations", "✓ whole  ✗ failed  ○ left by the program  ! stalled")
    for column in columns:
        numeric = COLUMNS.index(column) > 3
        drawn.add_column(
            column.title,
            justify="right" if numeric else "left",
            width=column.size or rest,
            no_wrap=True,
            overflow="ellipsis",
        )
    for span in spans:
        cells = _cells(span, spans, width)
        drawn.add_row(*(cells[column.key] for column in columns))
    return drawn


def _cells(span: StoredSpan, spans: Sequence[StoredSpan], width: int) -> dict[str, RenderableType]:
    found = span.attributes
    asked, answered = found.get(semconv.REQUEST_MODEL), found.get(semconv.RESPONSE_MODEL)
    model = (answered or asked) if width >= WIDE else (asked or answered)
    return {
        "mark": _mark(span),
        "call": _call(span, spans),
        "operation": found.get(semconv.OPERATION_NAME, span.name),
        "model": Text(model, style="cyan") if model else NOTHING,
        "time": seconds(span.duration),
        "first": or_nothing(found.get(semconv.RESPONSE_TIME_TO_FIRST_CHUNK), seconds),
        "gaps": _gaps(span),
        "tokens": _tokens(span),
        "rate": or_nothing(found.get(semconv.OUTPUT_TOKEN_RATE), lambda rate: f"{rate:.0f}"),
        "cost": or_nothing(found.get(semconv.COST), dollars),
    }


def _mark(span: StoredSpan) -> Text:
    if span.status == 2:
        return Text("✗", style="bold red")
    if _ending(span) not in (None, "exhausted"):
        return Text("○", style="yellow")
    return Text("✓", style="green")


def _ending(span: StoredSpan) -> str | None:
    ending: str | None = span.attributes.get(semconv.STREAM_ENDING)
    return ending


def _call(span: StoredSpan, spans: Sequence[StoredSpan]) -> Text:
    """The title of the scene, and below it what went wrong."""
    nested = any(span.parent_id == other.span_id for other in spans)
    name = span.attributes.get(semconv.OPERATION_NAME) if nested else None
    text = Text(f"└ {name}" if nested else str(span.attributes.get(semconv.ROUTE, span.name)))
    if error := span.attributes.get(semconv.ERROR_TYPE):
        text.append(f"\n{error}", style="red")
    elif _ending(span) not in (None, "exhausted"):
        text.append(f"\n{_ending(span)}", style="yellow")
    if retries := span.attributes.get(semconv.CLIENT_RETRIES):
        text.append(f"\nafter {retries} " + ("retry" if retries == 1 else "retries"), style="dim")
    return text


def _gaps(span: StoredSpan) -> RenderableType:
    found = span.attributes
    if semconv.STREAM_GAP_P50 not in found:
        return NOTHING
    middle, high = found[semconv.STREAM_GAP_P50] * 1e3, found[semconv.STREAM_GAP_P95] * 1e3
    stalls = found.get(semconv.STREAM_STALLS)
    return Text(f"{middle:.0f}/{high:.0f}").append("!" if stalls else "", style="bold red")


def _tokens(span: StoredSpan) -> RenderableType:
    used = span.attributes.get(semconv.USAGE_INPUT_TOKENS)
    made = span.attributes.get(semconv.USAGE_OUTPUT_TOKENS)
    if used is None and made is None:
        return NOTHING
    return f"{'·' if used is None else used}→{'·' if made is None else made}"


# --- one stream --------------------------------------------------------------------------------


def stream(span: StoredSpan, exchange: Exchange, width: int) -> Group:
    """The gaps of one stream as bars, its numbers, and what the server says of them."""
    arrivals = [offset / 1e6 for offset in span.attributes[semconv.STREAM_TIMELINE]]
    gaps = [after - before for before, after in pairwise(arrivals)]
    found = span.attributes
    first_text = found.get(semconv.TIME_TO_FIRST_OUTPUT)
    facts = [
        f"{len(arrivals)} chunks",
        f"first {seconds(arrivals[0])}",
        *([] if first_text is None else [f"first text {seconds(first_text)}"]),
        f"p50 {seconds(median(gaps))}",
        f"longest {seconds(max(gaps))}",
        f"stalls {found.get(semconv.STREAM_STALLS, 0)}",
    ]
    title = Text("The gaps between the chunks of ", style="bold")
    title.append(f"“{found.get(semconv.ROUTE)}”").append("  one bar each", "dim not bold")
    return Group(title, sparkline(gaps, width), Text(" · ".join(facts)), truth(gaps, exchange))


def truth(gaps: Sequence[float], exchange: Exchange) -> Text:
    """How far the gaps are from those between the server's own writes."""
    written = [write.start for write in exchange.writes][: len(gaps) + 1]
    real = [after - before for before, after in pairwise(written)]
    errors = sorted(abs(seen - true) for seen, true in zip(gaps, real, strict=True))
    high = quantiles(errors, n=20)[-1]
    off = f"{seconds(median(errors))} (p50), {seconds(high)} (p95)"
    return Text(f"each gap is off the server's own stamps by {off}", style="dim")


# --- metrics -----------------------------------------------------------------------------------


SHOWN = (
    "gen_ai.server.time_to_first_token",
    "llmwatch.generation.inter_token_time",
    "llmwatch.layer.duration",
    "gen_ai.client.operation.duration",
    "llmwatch.stream.inter_chunk_time",
    "gen_ai.client.token.usage",
    "llmwatch.operation.cost",
)
"""Metrics that the demo shows, where there are any; a backend gets all of them."""


def metrics(points: Iterable[StoredPoint]) -> Table:
    """One row a metric that is `SHOWN` (tokens: one a type), over its series at their latest."""
    latest: dict[tuple[str, str], StoredPoint] = {}
    for point in points:
        latest[point.metric, str(sorted(point.attributes.items()))] = point
    rows: defaultdict[tuple[str, str], list[StoredPoint]] = defaultdict(list)
    for point in latest.values():
        rows[point.metric, point.attributes.get(semconv.TOKEN_TYPE, "")].append(point)
    names = {name for name, _ in rows}
    drawn = table("Metrics", f"a few of {len(names)}, in {len(latest)} series")
    drawn.add_column("metric", no_wrap=True)
    for name in ("series", "count", "mean", "total"):
        drawn.add_column(name, justify="right", no_wrap=True)
    for shown in SHOWN:
        for (name, kind), series in sorted(rows.items()):
            if name == shown:
                title = Text(name).append(f" {kind}", style="cyan")
                drawn.add_row(title, str(len(series)), *_summary(series))
    return drawn


def _summary(series: Sequence[StoredPoint]) -> tuple[RenderableType, ...]:
    unit = series[0].unit
    if series[0].kind != "histogram":
        return NOTHING, NOTHING, f"{sum(each.value or 0 for each in series):g}"
    count, total = sum(each.count for each in series), sum(each.sum or 0.0 for each in series)
    mean = total / count if count else 0.0
    if unit == "s":
        return str(count), seconds(mean), NOTHING
    if unit == "{USD}":
        return str(count), f"${dollars(mean)}", f"${dollars(total)}"
    added = f"{total:,.0f}" if unit == "{token}" else NOTHING
    return str(count), f"{mean:,.0f}", added


# --- the end -----------------------------------------------------------------------------------


def files(where: Path) -> Text:
    """Where the store is, and what is in it."""
    sizes = {path.name: path.stat().st_size for path in sorted(where.glob("*.jsonl"))}
    text = Text.assemble(("Stored", "bold"), f" in {where}")
    for name, size in sizes.items():
        text.append(f"\n  {name}", style="cyan").append(f"  {size / 1024:,.0f} KiB", style="dim")
    return text


def following(where: Path) -> str:
    """What to do next, in commands that work: nox puts its environment on no path but its own."""
    python, llmwatch = "python", "llmwatch"
    if shutil.which("llmwatch") is None or "NOX_CURRENT_SESSION" in os.environ:
        ours = Path(sys.executable)
        python = str(ours.relative_to(Path.cwd()) if ours.is_relative_to(Path.cwd()) else ours)
        llmwatch = f"{python} -m llmwatch.cli"
    return NEXT.format(where=escape(str(where)), python=escape(python), llmwatch=escape(llmwatch))


NEXT = """\
[bold]Next[/]
  in the terminal    [cyan]{llmwatch} top --path {where}[/]
  as a page          [cyan]{llmwatch} ui --path {where}[/]
  in your program    [cyan]import llmwatch; llmwatch.instrument()[/]
  to a collector     [cyan]OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318[/] in its environment
  this server        [cyan]{python} -m llmwatch.demo.server[/] for programs of your own"""
