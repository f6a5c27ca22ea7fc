"""The layers' heat map: for each phase where its time goes, and a row of cells a kind of layer.

A cell's height is its time, from 0 to the longest of its row; its colour says the same between
the shortest and the longest, so that small differences are seen.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from llmwatch.view.numbers import seconds
from llmwatch.view.records import LayerCell
from llmwatch.view.top import columns
from llmwatch.view.top.pieces import BARS, HEAT, Line, Piece, clean, fit, level, width_of

LABEL, SCALE = 15, 16
"""Cells left and right of the map."""

NARROW_SCALE = 8
"""Cells right of it where there is little room: only the longest time."""

Model = tuple[str, str | None]


def lines(cells: Sequence[LayerCell], width: int) -> list[Line]:
    """Model by model, phase by phase."""
    models: defaultdict[Model, list[LayerCell]] = defaultdict(list)
    for cell in cells:
        models[cell.service, cell.model].append(cell)
    drawn: list[Line] = []
    for (service, name), mine in models.items():
        drawn.append([Piece(clean(columns.model(name) or service), "name")])
        named = family(mine)
        for phase in sorted({cell.phase for cell in mine}, reverse=True):  # prefill, decode
            drawn += _phase(phase, [cell for cell in mine if cell.phase == phase], named, width)
    return drawn


def family(cells: Iterable[LayerCell]) -> str:
    """What the names of a model's classes begin with: ``Llama`` of ``LlamaForCausalLM``."""
    whole = next((cell.layer_type for cell in cells if cell.layer == "(model)"), "")
    found = re.match(r"[A-Z][a-z0-9_]*(?=[A-Z])", whole)
    return found[0] if found else ""


def _phase(phase: str, cells: Sequence[LayerCell], named: str, width: int) -> list[Line]:
    """Its time in all and by kind of layer; then the map of the layers that are repeated."""
    rows: defaultdict[str, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
    for cell in cells:
        if cell.block is not None:
            rows[cell.layer_type.removeprefix(named)][cell.block] += cell.mean
    numbers = sorted({number for times in rows.values() for number in times})
    drawn = [_head(phase, cells, named, width)]
    if len(numbers) < 2:
        return drawn + _each(cells, width)
    scale = SCALE if width - LABEL - SCALE >= len(numbers) else NARROW_SCALE
    wide = max(min((width - LABEL - scale) // len(numbers), 3), 1)
    by_time = sorted(rows.items(), key=lambda row: -sum(row[1].values()))
    drawn += [_row(kind, times, numbers, wide, scale) for kind, times in by_time]
    return [*drawn, _ruler(numbers, wide)]


def _head(phase: str, cells: Sequence[LayerCell], named: str, width: int) -> Line:
    devices = " ".join(sorted({cell.device for cell in cells if cell.device}))
    whole = next((cell for cell in cells if cell.layer == "(model)"), None)
    line: Line = [Piece(phase, "title"), Piece(f" {clean(devices)}" if devices else "", "dim")]
    if whole is not None:
        line += [Piece(f"  {seconds(whole.mean)}"), Piece(f" in {whole.count}", "dim")]
    kinds: defaultdict[str, float] = defaultdict(float)
    for cell in cells:
        kind = "the rest" if cell is whole else cell.layer_type.removeprefix(named)
        kinds[kind] += cell.share or 0.0
    for kind, share in sorted(kinds.items(), key=lambda each: -each[1]):
        part: Line = [Piece(f"  {clean(kind)} ", "dim"), Piece(f"{share:.0%}")]
        if share < 0.005 or width_of([*line, *part]) > width:
            break
        line += part
    return line


def _row(
    kind: str, times: Mapping[int, float], numbers: Sequence[int], wide: int, scale: int
) -> Line:
    low, high = min(times.values()), max(times.values())
    line: Line = [Piece(fit(f"  {clean(kind)}", LABEL - 1) + " ")]
    for number in numbers:
        if (time := times.get(number)) is None:
            line.append(Piece(" " * wide))
            continue
        bar = BARS[level(time, high)] * max(wide - 1, 1)
        line.append(Piece(fit(bar, wide), HEAT[level(time - low, high - low, len(HEAT))]))
    told = f" {seconds(low)} … {seconds(high)}" if scale == SCALE else f" {seconds(high)}"
    return [*line, Piece(told, "dim")]


def _ruler(numbers: Sequence[int], wide: int) -> Line:
    every = max(-(-4 // wide), 5)
    ruler = "".join(str(number).ljust(wide * every) for number in numbers[::every])
    return [Piece("  block".ljust(LABEL) + ruler[: wide * len(numbers)], "dim")]


def _each(cells: Sequence[LayerCell], width: int, most: int = 8) -> list[Line]:
    """The slowest layers by name, where none are repeated."""
    named = sorted((cell for cell in cells if cell.layer != "(model)"), key=lambda cell: -cell.mean)
    top = named[0].mean if named else 0.0
    drawn: list[Line] = []
    for cell in named[:most]:
        name = fit(f"  {clean(cell.layer)}", max(width - 22, 10))
        bar = "█" * (level(cell.mean, top, 10) + 1)
        heat = HEAT[level(cell.mean, top, len(HEAT))]
        drawn.append([Piece(name), Piece(bar.ljust(11), heat), Piece(f"{seconds(cell.mean):>8}")])
    return drawn
