"""The heat map of layers, from histograms of their times and gauges of their shares."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from llmwatch import semconv
from llmwatch import semconv_layers as names
from llmwatch.export.store_reader import Attributes
from llmwatch.view.queries.charts import last_of
from llmwatch.view.queries.selection import Stream, streams, times_where
from llmwatch.view.records import Filter, LayerCell

WHOLE: Final = "(model)"


class Place(NamedTuple):
    """What cells are told apart by."""

    service: str
    model: str | None
    layer: str
    block: int | None
    layer_type: str
    phase: str
    device: str | None


@dataclass
class Sum:
    """What was timed, by process."""

    count: int = 0
    seconds: dict[int, float] = field(default_factory=lambda: defaultdict(float))


def layers(rows: sqlite3.Connection, by: Filter) -> list[LayerCell]:
    """One cell a layer, phase and device, over all processes of a service; in blocks' order."""
    sums: defaultdict[Place, Sum] = defaultdict(Sum)
    for stream in streams(rows, [names.DURATION.name], by):
        count, seconds = timed(rows, stream, by)
        if count:
            found = sums[_place(stream)]
            found.count += count
            found.seconds[stream.resource] += seconds
    shares = _shares(rows, by)
    cells = [
        _cell(place, found, _share(place, found, shares, sums)) for place, found in sums.items()
    ]
    return sorted(cells, key=_order)


def timed(rows: sqlite3.Connection, stream: Stream, by: Filter) -> tuple[int, float]:
    """How many were timed in some time, and their sum."""
    if stream.delta:
        where = times_where("time", by)
        found = rows.execute(
            f"SELECT total(count), total(value) FROM points WHERE stream = ? AND {where.text}",
            [stream.id, *where.values],
        ).fetchone()
        return int(found[0]), float(found[1])
    last = last_of(rows, stream, by.until, by.since or 0)
    if last is None:
        return 0, 0.0
    before = last_of(rows, stream, by.since or 0)
    if before is None or last.timed < before.timed:  # it began again, and says not when
        return last.timed, last.value
    return last.timed - before.timed, last.value - before.value


def _place(stream: Stream) -> Place:
    found = stream.attributes
    block = found.get(names.LAYER_BLOCK)
    return Place(
        stream.service,
        _text(found, semconv.REQUEST_MODEL),
        _text(found, names.LAYER_NAME) or WHOLE,
        block if isinstance(block, int) else None,
        _text(found, names.LAYER_TYPE) or "",
        _text(found, names.LAYER_PHASE) or "",
        _text(found, names.LAYER_DEVICE),
    )


def _text(found: Attributes, name: str) -> str | None:
    value = found.get(name)
    return None if value is None else str(value)


Shares = dict[tuple[int, Place], float]
"""By process and place; the gauge knows no device."""


def _shares(rows: sqlite3.Connection, by: Filter) -> Shares:
    found: Shares = {}
    for stream in streams(rows, [names.LAYER_METRICS["share"].name], by):
        last = last_of(rows, stream, by.until)
        if last is not None:
            found[stream.resource, _place(stream)] = last.value
    return found


def _share(place: Place, found: Sum, shares: Shares, sums: dict[Place, Sum]) -> float | None:
    """Of one process, as it says; of several, weighted by what their whole models took."""
    nowhere = place._replace(device=None)
    said = {each: shares.get((each, nowhere)) for each in found.seconds}
    if len(said) == 1:
        return next(iter(said.values()))
    whole = sums.get(_whole(place, sums))
    if whole is None:
        return None
    known = {each: share for each, share in said.items() if share is not None}
    time = sum(whole.seconds[each] for each in known)
    if not time:
        return None
    return sum(share * whole.seconds[each] for each, share in known.items()) / time


def _whole(place: Place, sums: dict[Place, Sum]) -> Any:
    """The place of the model that a layer is in."""
    for each in sums:
        same = each.service, each.model, each.phase, each.device
        if each.layer == WHOLE and same == (place.service, place.model, place.phase, place.device):
            return each
    return None


def _cell(place: Place, found: Sum, share: float | None) -> LayerCell:
    return LayerCell(
        service=place.service,
        model=place.model,
        layer=place.layer,
        layer_type=place.layer_type,
        phase=place.phase,
        device=place.device,
        count=found.count,
        mean=sum(found.seconds.values()) / found.count,
        share=share,
        block=place.block,
    )


def _order(cell: LayerCell) -> tuple[Any, ...]:
    block = -1 if cell.block is None else cell.block
    return cell.service, cell.model or "", cell.phase, cell.device or "", block, cell.layer
