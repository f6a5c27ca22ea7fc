"""What llmwatch saw of a model in this process, drawn from the spans in the embedded store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import exp
from typing import Literal, NamedTuple

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from llmwatch import semconv
from llmwatch import semconv_models as models
from llmwatch.demo.draw import MEDIUM, NOTHING, or_nothing, sparkline, table
from llmwatch.demo.local import Task
from llmwatch.export.store_reader import StoredSpan
from llmwatch.view.numbers import rate, seconds, size


def is_local(span: StoredSpan) -> bool:
    """Whether a model of this process did it."""
    return models.MODEL_CLASS in span.attributes


def title(span: StoredSpan) -> Text:
    """Which model, how large, where."""
    found = span.attributes
    parts = [
        found[models.MODEL_CLASS],
        f"{size(found[models.MODEL_PARAMETERS])} parameters",
        f"{found[models.MODEL_DTYPE]} on {found[models.MODEL_DEVICE]}",
    ]
    text = Text(str(found[semconv.REQUEST_MODEL]), style="bold cyan")
    return text.append("  " + " · ".join(parts), style="dim not bold")


def conversation(
    answered: Iterable[tuple[Task, Sequence[str]]], spans: Sequence[StoredSpan]
) -> Group:
    """What was asked and the first line of what the model said, in the colour of its sureness."""
    styles = {span.attributes.get(semconv.ROUTE): _colour(span) for span in spans}
    lines: list[RenderableType] = []
    for task, answers in answered:
        for question, said in zip(task.questions, answers, strict=True):
            lines.append(Text(f"> {question}", style="dim", overflow="ellipsis", no_wrap=True))
            text = Text(" ".join(said.split()), overflow="ellipsis", no_wrap=True)
            text.stylize(styles.get(task.title, ""))
            lines.append(Padding(text, (0, 0, 0, 2)))
    return Group(*lines)


class Column(NamedTuple):
    """One column of the table, and how wide a terminal it needs to be there."""

    title: str
    size: int
    """Characters; 0: what the others leave."""
    from_width: int = 0
    justify: Literal["left", "right"] = "right"


COLUMNS = (
    Column("generate", 12, justify="left"),
    Column("tokens\nin→out", 7),
    Column("first\ntoken", 6),
    Column("prefill\ntok/s", 7),
    Column("decode\ntok/s", 6),
    Column("step p50\n/p95 ms", 9, MEDIUM),
    Column("sure\n/least", 8),
    Column("prefill, decode\nand its steps", 0, justify="left"),
    Column("ended", 8, MEDIUM, justify="left"),
)


def generations(spans: Sequence[StoredSpan], width: int) -> Table:
    """One row for each call of the model: prefill, decoding, how sure it was, all its steps."""
    columns = [column for column in COLUMNS if width >= column.from_width]
    rest = width - sum(column.size + 1 for column in columns) + 1  # one blank between two
    drawn = table("Every token, timed", "sure: probability of the chosen tokens, and of the least")
    for column in columns:
        drawn.add_column(
            column.title, justify=column.justify, width=column.size or rest, no_wrap=True
        )
    for span in spans:
        cells = dict(zip(COLUMNS, _cells(span, rest), strict=True))
        drawn.add_row(*(cells[column] for column in columns))
    return drawn


def _cells(span: StoredSpan, room: int) -> tuple[RenderableType, ...]:
    found = span.attributes
    return (
        _call(span),
        f"{found[semconv.USAGE_INPUT_TOKENS]}→{found[semconv.USAGE_OUTPUT_TOKENS]}",
        or_nothing(found.get(models.GENERATION_TIME_TO_FIRST_TOKEN), seconds),
        or_nothing(found.get(models.GENERATION_PREFILL_RATE), rate),
        or_nothing(found.get(models.GENERATION_DECODE_RATE), rate),
        _gaps(span),
        _sure(span),
        _course(span, room),
        _ended(span),
    )


def _call(span: StoredSpan) -> Text:
    """The title of the task, and below it what became of drafts and slots."""
    found = span.attributes
    text = Text(str(found.get(semconv.ROUTE, span.name)))
    if (drafted := found.get(models.GENERATION_DRAFTED)) is not None:
        text.append(f"\n{found[models.GENERATION_ACCEPTED]}/{drafted} drafts", style="dim")
    if padding := found.get(models.GENERATION_PADDING):
        text.append(f"\n{padding:.0%} padding", style="yellow")
    return text


def _gaps(span: StoredSpan) -> RenderableType:
    found = span.attributes
    if models.GENERATION_GAP_P50 not in found:
        return NOTHING
    middle, high = found[models.GENERATION_GAP_P50], found[models.GENERATION_GAP_P95]
    return f"{middle * 1e3:.0f}/{high * 1e3:.0f}"


def _sure(span: StoredSpan) -> RenderableType:
    """The chosen tokens' probability: geometric mean, and the least of all."""
    if (mean := _probability(span, models.GENERATION_LOGPROB)) is None:
        return NOTHING
    least = _probability(span, models.GENERATION_LOGPROB_MIN)
    return Text(f"{mean:.0%}", style=_colour(span)).append(f"/{least:.0%}", style="dim")


def _colour(span: StoredSpan) -> str:
    mean = _probability(span, models.GENERATION_LOGPROB)
    if mean is None:
        return "cyan"
    return "green" if mean >= 0.6 else "yellow" if mean >= 0.4 else "red"


def _probability(span: StoredSpan, key: str) -> float | None:
    return exp(span.attributes[key]) if key in span.attributes else None


def _course(span: StoredSpan, width: int) -> RenderableType:
    """Prefill and decoding in proportion; below, a bar for each step of decoding."""
    arrivals = [offset / 1e6 for offset in span.attributes.get(models.GENERATION_TIMELINE, ())]
    if not arrivals:
        return NOTHING
    prefill = max(round(width * arrivals[0] / arrivals[-1]), 1)
    text = Text("━" * prefill, style="yellow").append("━" * (width - prefill), style="cyan")
    gaps = [after - before for before, after in pairwise(arrivals)]
    return text.append("\n").append(sparkline(gaps, width, stall=float("inf"))) if gaps else text


def _ended(span: StoredSpan) -> RenderableType:
    reasons = span.attributes.get(semconv.RESPONSE_FINISH_REASONS) or ()
    return "\n".join(
        f"{reason}" if reasons.count(reason) == 1 else f"{reasons.count(reason)} {reason}"
        for reason in dict.fromkeys(reasons)
    )
