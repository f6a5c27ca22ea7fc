"""The layers' heat map: a row of cells for each phase and kind of layer, then where time goes.

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
from llmwatch.view.top.pieces import BARS, HEAT, Line, Piece, clean, fit, level

LABEL, SCALE = 20, 16
"""Cells left and right of the map."""

Model = tuple[str, str | None]


def lines(cells: Sequence[LayerCell], width: int) -> list[Line]:
    """A map for each model, and its slowest layers."""
    models: defaultdict[Model, list[LayerCell]] = defaultdict(list)
    for cell in cells:
        models[cell.service, cell.model].append(cell)
    drawn: list[Line] = []
    for model, mine in models.items():
        drawn += _model(model, mine, width)
    return drawn


def _model(model: Model, cells: Sequence[LayerCell], width: int) -> list[Line]:
    service, name = model
    head = [Piece(clean(columns.model(name) or service), "name")]
    passes = sorted({(cell.phase, cell.device or "") for cell in cells})
    head += [Piece(f"  {' '.join(each).strip()}", "dim") for each in passes]
    return [head, *heat(cells, width), *shares(cells, width)]


def heat(cells: Sequence[LayerCell], width: int) -> list[Line]:
    """The map of the layers that are repeated: one column a block."""
    numbers = sorted({cell.block for cell in cells if cell.block is not None})
    if len(numbers) < 2:
        return []
    rows: defaultdict[tuple[str, str], defaultdict[int, float]]
    rows = defaultdict(lambda: defaultdict(float))
    for cell in cells:
        if cell.block is not None:
            rows[cell.phase, cell.layer_type][cell.block] += cell.mean
    wide = max(min((width - LABEL - SCALE) // len(numbers), 3), 1)
    drawn = [_ruler(numbers, wide)]
    named = family(cells)
    return drawn + [
        _row(f"{phase} {kind.removeprefix(named)}", times, numbers, wide)
        for (phase, kind), times in sorted(rows.items(), key=lambda row: _weight(row[0], row[1]))
    ]


def family(cells: Iterable[LayerCell]) -> str:
    """What the names of a model's classes begin with: ``Llama`` of ``LlamaForCausalLM``."""
    whole = next((cell.layer_type for cell in cells if cell.layer == "(model)"), "")
    found = re.match(r"[A-Z][a-z0-9_]*(?=[A-Z])", whole)
    return found[0] if found else ""


def _weight(row: tuple[str, str], times: Mapping[int, float]) -> tuple[str, float]:
    return row[0], -sum(times.values())


def _ruler(numbers: Sequence[int], wide: int) -> Line:
    every = max(-(-4 // wide), 5)
    ruler = "".join(str(number).ljust(wide * every) for number in numbers[::every])
    return [Piece("block".ljust(LABEL) + ruler[: wide * len(numbers)], "dim")]


def _row(label: str, times: Mapping[int, float], numbers: Sequence[int], wide: int) -> Line:
    low, high = min(times.values()), max(times.values())
    line: Line = [Piece(fit(label, LABEL - 1) + " ")]
    for number in numbers:
        if (time := times.get(number)) is None:
            line.append(Piece(" " * wide))
            continue
        bar = BARS[level(time, high)] * max(wide - 1, 1)
        line.append(Piece(fit(bar, wide), HEAT[level(time - low, high - low, len(HEAT))]))
    return [*line, Piece(f" {seconds(low)} … {seconds(high)}", "dim")]


def shares(cells: Sequence[LayerCell], width: int) -> list[Line]:
    """Where the time of each phase goes, by kind of layer."""
    phases: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for cell in cells:
        if cell.share is not None:
            phases[cell.phase][cell.layer_type] += cell.share
    named = family(cells)
    return [
        line
        for phase, kinds in sorted(phases.items())
        for line in _shares(phase, kinds, named, width)
    ]


def _shares(phase: str, kinds: Mapping[str, float], named: str, width: int) -> list[Line]:
    line: Line = [Piece(fit(f"{phase} time in", LABEL - 1) + " ")]
    room = width - LABEL
    for kind, share in sorted(kinds.items(), key=lambda each: -each[1]):
        name = clean(kind.removeprefix(named))
        text = f"{name} {share:.0%}"
        room -= len(text) + 2
        if room < 0 or share < 0.005:
            break
        line += [Piece(f"{name} ", "dim"), Piece(f"{share:.0%}"), Piece("  ")]
    return [line] if len(line) > 1 else []
