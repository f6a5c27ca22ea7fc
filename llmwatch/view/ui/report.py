"""The report: the front end and a bounded part of the store in one file, to attach to a ticket.

What is in it of single requests are the latest, the slowest and the failed ones; the tables and
charts are of all. No request to the network, no content unless asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from time import time
from typing import Any, Final

from llmwatch.view.records import Filter, RequestRow, View
from llmwatch.view.ui import page, shape
from llmwatch.view.ui.answers import ANSWERS
from llmwatch.view.ui.content import without_content

LOOKED_AT: Final = 20_000
"""Requests among which the slowest are looked for: the latest."""
LISTED: Final = {"latest": 500, "slowest": 100, "failed": 200}
"""How many requests have a row, of each kind."""
DETAILED: Final = {"latest": 30, "slowest": 30, "failed": 30}
"""How many have all that is known of them."""
MOST_DETAILS: Final = 6_000_000
"""Characters that all of that may take together; what comes after stays out."""
MOST_SPANS: Final = 500
"""Spans of one request: its own, its ancestors, and the longest others."""


def report(view: View, by: Filter, *, content: bool = False) -> str:
    """The HTML of a report.

    Args:
        view: What to report on.
        by: Which operations; of its fields those that say when, and the service.
        content: Whether to leave in what was said to models and by them, logs and attributes of
            the program's own, where they were recorded.

    Returns:
        At most about 10 MB, mostly far less.
    """
    query = _query(by)
    answers = {
        name: ANSWERS[name](view, query)
        for name in ("state", "overview", "choices", "layers", "machine", "drift")
    }
    found = view.requests(by, limit=LOOKED_AT)
    listed = _chosen(found, LISTED)
    details = dict(_details(view, _chosen(found, DETAILED), content=content))
    answers["requests"] = {"requests": [shape.record(row) for row in listed]}
    answers["state"] = {**(answers["state"] or {}), "written": time()}
    return page.inlined("llmwatch report", {"answers": answers, "details": details})


def _query(by: Filter) -> dict[str, str]:
    times = {"since": by.since, "until": by.until}
    query = {name: f"{value / 1e9:.9f}" for name, value in times.items() if value is not None}
    return query | ({"service": by.service} if by.service else {})


def _chosen(found: list[RequestRow], many: dict[str, int]) -> list[RequestRow]:
    """The latest, slowest and failed ones, each once, latest first."""
    failed = [row for row in found if row.outcome == "error"]
    slowest = sorted(found, key=lambda row: -row.duration)
    kinds = {"latest": found, "slowest": slowest, "failed": failed}
    chosen = {_key(row) for kind, rows in kinds.items() for row in rows[: many[kind]]}
    return [row for row in found if _key(row) in chosen]


def _key(row: RequestRow) -> str:
    return f"{row.trace_id}/{row.span_id}"


def _details(
    view: View, rows: Iterable[RequestRow], *, content: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    left = MOST_DETAILS
    for row in rows:
        if (whole := view.request(row.trace_id, row.span_id)) is None:
            continue
        told = _shortened(shape.request(whole))
        if not content:
            told = without_content(told)
        left -= len(json.dumps(told, ensure_ascii=False))
        if left < 0:
            return
        yield _key(row), told


def _shortened(told: dict[str, Any]) -> dict[str, Any]:
    """Without the shortest spans, where there are too many."""
    spans = told["spans"]
    if len(spans) <= MOST_SPANS:
        return told
    kept = _lineage(spans, told["row"]["span_id"])
    longest = sorted(spans, key=lambda span: -span["duration"])
    kept |= {span["id"] for span in longest[: MOST_SPANS - len(kept)]}
    return {**told, "spans": [span for span in spans if span["id"] in kept]}


def _lineage(spans: list[dict[str, Any]], own: str) -> set[str]:
    parents = {span["id"]: span["parent"] for span in spans}
    kept: set[str] = set()
    each: str | None = own
    while each is not None and each in parents and each not in kept:
        kept.add(each)
        each = parents[each]
    return kept
