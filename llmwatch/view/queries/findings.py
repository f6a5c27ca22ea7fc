"""Findings about layers and alarms of drift, from the events that raise and clear them."""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Final

from llmwatch import semconv
from llmwatch import semconv_layers as names
from llmwatch.export.store_reader import Attributes
from llmwatch.view.records import Filter, Finding

RAISED: Final = (names.EVENT_FINDING_RAISED, semconv.EVENT_DRIFT_RAISED)
EVENTS: Final = (*RAISED, names.EVENT_FINDING_CLEARED, semconv.EVENT_DRIFT_CLEARED)

SAME: Final = (
    semconv.REQUEST_MODEL,
    names.FINDING_KIND,
    names.LAYER_NAME,
    names.LAYER_BLOCK,
    names.LAYER_PHASE,
    names.RANK,
    semconv.DRIFT_MONITOR,
    semconv.DRIFT_KEY,
)
"""Attributes that what is raised and what clears it have in common."""


def findings(rows: sqlite3.Connection, by: Filter) -> list[Finding]:
    """Those raised in that time, the latest first, each with when it was cleared since."""
    found: list[Finding] = []
    cleared: dict[Any, int] = {}
    for event, time, text, resource, service in _latest_first(rows, by):
        attributes = json.loads(text)
        same = (resource, event.startswith("llmwatch.drift"), _same(attributes))
        if event not in RAISED:
            cleared[same] = time
            continue
        over = cleared.pop(same, None)
        if time >= (by.since or 0) and (by.until is None or time < by.until):
            found.append(_finding(service, event, time, over, attributes))
    wanted = by.model
    return [
        each
        for each in found
        if wanted is None or each.attributes.get(semconv.REQUEST_MODEL, wanted) == wanted
    ]


def _latest_first(rows: sqlite3.Connection, by: Filter) -> sqlite3.Cursor:
    return rows.execute(
        "SELECT event, time, attributes, resource, service FROM logs"
        " JOIN resources r ON r.id = resource"
        " WHERE attributes IS NOT NULL AND event IN (?, ?, ?, ?)"
        " AND time >= ? AND service = coalesce(?, service) ORDER BY time DESC, logs.id DESC",
        (*EVENTS, by.since or 0, by.service),
    )


def _same(attributes: Attributes) -> tuple[str, ...]:
    return tuple(str(attributes.get(name)) for name in SAME)


def _finding(
    service: str, event: str, raised: int, cleared: int | None, attributes: Attributes
) -> Finding:
    layers = event == names.EVENT_FINDING_RAISED
    return Finding(
        service=service,
        kind=str(attributes.get(names.FINDING_KIND, "")) if layers else "drift",
        text=str(attributes.get(names.FINDING_TEXT, "")) if layers else _drifted(attributes),
        raised=raised,
        cleared=cleared,
        attributes=attributes,
    )


def _drifted(attributes: Attributes) -> str:
    """An alarm of drift in a sentence."""
    of = attributes.get(semconv.DRIFT_MONITOR, "")
    key = attributes.get(semconv.DRIFT_KEY)
    text = f"embeddings of {of}{f' ({key})' if key else ''} drifted"
    numbers = (("p", semconv.DRIFT_P_VALUE), ("effect", semconv.DRIFT_EFFECT))
    said = [f"{name} = {attributes[at]:.2g}" for name, at in numbers if _is_number(attributes, at)]
    return f"{text}: {', '.join(said)}" if said else text


def _is_number(attributes: Attributes, name: str) -> bool:
    return isinstance(attributes.get(name), (int, float))
