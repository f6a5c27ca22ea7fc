"""A portrait as text: with rich where it is installed, and without it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any

from llmwatch.measure.findings import Finding
from llmwatch.measure.portrait import LayerFacts, Portrait, pattern, short

MOST_ROWS = 64
"""Layers in a table; of a model with more, siblings in the same place share a row."""

MOST_COLUMNS = 400

Rows = list[tuple[str, ...]]


def of(portrait: Portrait) -> Any:
    """The layers by phase, as a `rich.table.Table`; as text where rich is not installed."""
    head, rows = _columns(portrait), _rows(portrait)
    if find_spec("rich") is None:
        return _plain(head, rows)
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=f"Layers of {short(portrait.model)}", title_justify="left", box=SIMPLE_HEAD)
    for name in head:
        table.add_column(name, justify="left" if name == "layer" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def text(portrait: Portrait, findings: Sequence[Finding]) -> str:
    """The table and the findings."""
    if not portrait.layers:
        return f"layers of {short(portrait.model)}: nothing was sampled yet"
    table = of(portrait)
    if not isinstance(table, str):
        from rich.console import Console

        console = Console(file=io.StringIO(), width=MOST_COLUMNS)
        console.width = console.measure(table).maximum
        with console.capture() as captured:
            console.print(table)
        table = "\n".join(line.rstrip() for line in captured.get().splitlines()).rstrip()
    lines = [table, *_below(portrait)]
    lines += ["", "Findings:" if findings else "No findings."]
    lines += [f"- {each.kind}: {each.text}" for each in findings]
    return "\n".join(lines)


def _below(portrait: Portrait) -> Iterable[str]:
    for each in portrait.forwards:
        tokens = f", {each.tokens:g} tokens" if each.tokens else ""
        yield f"{each.phase}: {each.count} sampled, {each.seconds * 1e3:.3g} ms each{tokens}"
    if portrait.uncounted:
        yield f"FLOPs are not known: {portrait.uncounted}"
    if (roof := portrait.roof) is not None:
        yield (
            f"roof of {roof.device} in {roof.dtype}: {roof.flops / 1e9:,.0f} GFLOP/s "
            f"(-{roof.flops_error:.0%}) and {roof.bandwidth / 1e9:,.1f} GB/s "
            f"(-{roof.bandwidth_error:.0%}); memory is the limit below {roof.ridge:.2g} FLOPs/B"
        )


def _columns(portrait: Portrait) -> list[str]:
    head = ["layer", "parameters"]
    for each in portrait.forwards:
        head += [f"{each.phase} ms", "share"]
        if any(facts.flops for facts in portrait.of(each.phase)):
            head.append("GFLOP/s")
        if portrait.roof is not None and any(facts.place for facts in portrait.of(each.phase)):
            head.append("of roof")
    if portrait.health:
        head += ["abs max", "cosine"]
    return head


def _rows(portrait: Portrait) -> Rows:
    """One row a layer, or of a model with many, one for all siblings in the same place."""
    names = list(dict.fromkeys(each.layer for each in portrait.layers))
    grouped = len(names) > MOST_ROWS
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(pattern(name) if grouped else name, []).append(name)
    return [_row(portrait, shown, set(members)) for shown, members in groups.items()]


def _row(portrait: Portrait, shown: str, members: set[str]) -> tuple[str, ...]:
    mine = [each for each in portrait.layers if each.layer in members]
    once = {each.layer: each for each in mine}
    many = f" ({len(once)})" if len(once) > 1 else ""
    parameters = sum(each.parameters for each in once.values())
    cells = [(shown or "(outside)") + many, _count(parameters)]
    for forward in portrait.forwards:
        every = portrait.of(forward.phase)
        here = [each for each in every if each.layer in members]
        cells += _times(here)
        if any(each.flops for each in every):
            cells.append(_rate(here))
        if portrait.roof is not None and any(each.place for each in every):
            cells.append(_place(here))
    if portrait.health:
        health = [each for each in portrait.health if each.layer in members]
        tops = [each.abs_max for each in health if each.abs_max is not None]
        cosines = [each.cosine for each in health if each.cosine is not None]
        cells += [_size(max(tops)) if tops else "", f"{max(cosines):.3f}" if cosines else ""]
    return tuple(cells)


def _times(here: list[LayerFacts]) -> list[str]:
    if not here:
        return ["", ""]
    seconds, share = sum(each.seconds for each in here), sum(each.share for each in here)
    return [f"{seconds * 1e3:.3g}", f"{share:.1%}"]


def _rate(here: list[LayerFacts]) -> str:
    flops = sum(each.flops or 0.0 for each in here)
    seconds = sum(each.flops / each.rate for each in here if each.flops and each.rate)
    return f"{flops / seconds / 1e9:.3g}" if seconds else ""


def _place(here: list[LayerFacts]) -> str:
    """How near to what the machine allows, and what the limit is."""
    placed = [each.place for each in here if each.place is not None]
    if not placed:
        return ""
    bounds = {each.bound for each in placed}
    efficiency = sum(each.efficiency for each in placed) / len(placed)
    return f"{efficiency:.0%} {bounds.pop() if len(bounds) == 1 else 'both'}"


def _size(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _count(many: int) -> str:
    for size, word in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if many >= size:
            return f"{many / size:.3g} {word}"
    return str(many) if many else ""


def _plain(head: Sequence[str], rows: Rows) -> str:
    widths = [max(len(row[at]) for row in [tuple(head), *rows]) for at in range(len(head))]
    left = {at for at, name in enumerate(head) if name == "layer"}

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.ljust(width) if at in left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    return "\n".join([line(head), line(["-" * width for width in widths]), *map(line, rows)])
