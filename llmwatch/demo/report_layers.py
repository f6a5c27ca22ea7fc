"""Where the time of a model's layers went, and what their numbers look like, as a heat map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log10
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from llmwatch.view.numbers import seconds, size

if TYPE_CHECKING:
    from llmwatch.measure.findings import Finding
    from llmwatch.measure.portrait import LayerFacts, Portrait

LABEL, SCALE = 12, 20
"""Characters left and right of the cells."""

COLD, HOT = (28, 58, 86), (244, 160, 72)
"""Red, green, blue of the least and of the most."""


def layers(portrait: Portrait, findings: Sequence[Finding], width: int) -> Group:
    """One cell a block: its time in each phase, the size and the change of what it puts out."""
    title = Text("Every layer, sampled", style="bold")
    title.append("  ".join(["", *_sampled(portrait)]), "dim not bold")
    lines: list[RenderableType] = [title]
    blocks = sorted({each.block for each in portrait.layers if each.block is not None})
    if blocks:
        lines += _map(portrait, blocks, width)
    lines += [_shares(portrait, forward.phase) for forward in portrait.forwards]
    for found in findings:
        text = Text.assemble(("! ", "yellow"), (found.kind, "yellow"), " ", found.text)
        text.truncate(width, overflow="ellipsis")
        lines.append(text)
    return Group(*lines)


def _sampled(portrait: Portrait) -> list[str]:
    return [f"{each.count} of {each.phase}" for each in portrait.forwards]


def _map(portrait: Portrait, blocks: Sequence[int], width: int) -> list[Text]:
    cell = max(min((width - LABEL - SCALE) // len(blocks), 3), 1)
    every = max(-(-4 // cell), 5)
    numbers = "".join(
        str(block).ljust(cell * every) for block in blocks[::every]
    )  # a number for each fifth
    lines = [Text("block".ljust(LABEL) + numbers[: cell * len(blocks)], style="dim")]
    for forward in portrait.forwards:
        times = _times(portrait.of(forward.phase))
        lines.append(_row(forward.phase, [times.get(each) for each in blocks], cell, seconds))
    for label, key in (("abs max", "abs_max"), ("change", "cosine")):
        found = {each.block: getattr(each, key) for each in portrait.health}
        values = [found.get(each) for each in blocks]
        if all(value is None for value in values):
            continue
        if key == "cosine":  # how far the output is turned from the input
            values = [None if value is None else max(1 - value, 0.0) for value in values]
        lines.append(_row(label, values, cell, _plain if key == "cosine" else size, log=True))
    return lines


def _times(facts: Sequence[LayerFacts]) -> dict[int, float]:
    """Seconds of each block, with what is in it."""
    found: dict[int, float] = {}
    for each in facts:
        if each.block is not None:
            found[each.block] = found.get(each.block, 0.0) + each.seconds
    return found


def _row(
    label: str,
    values: Sequence[float | None],
    cell: int,
    show: Callable[[float], str],
    *,
    log: bool = False,
) -> Text:
    known = [value for value in values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    text = Text(label.ljust(LABEL))
    for value in values:
        text.append(" " * cell, "" if value is None else f"on {_colour(value, low, high, log)}")
    return text.append(f" {show(low)} … {show(high)}", "dim") if known else text


def _colour(value: float, low: float, high: float, log: bool) -> str:
    if log and low > 0:
        value, low, high = log10(value), log10(low), log10(high)
    share = (value - low) / (high - low) if high > low else 0.0
    mixed = [round(cold + share * (hot - cold)) for cold, hot in zip(COLD, HOT, strict=True)]
    return "#" + "".join(f"{each:02x}" for each in mixed)


def _plain(value: float) -> str:
    return f"{value:.2g}"


def _shares(portrait: Portrait, phase: str) -> Text:
    """What attention, MLPs and the rest take of a phase."""
    text = Text(phase.ljust(LABEL))
    facts = portrait.of(phase)
    for role, word in (("attention", "attention"), ("mlp", "MLP")):
        share = sum(each.share for each in facts if each.role == role)
        text.append(f"{word} ", "dim").append(f"{share:.0%}", "cyan").append("  ")
    rest = [each for each in facts if each.role not in ("attention", "mlp")]
    for each in sorted(rest, key=lambda each: -each.share)[:1]:
        text.append(f"{each.layer or 'outside'} ", "dim").append(f"{each.share:.0%}", "cyan")
    return text
