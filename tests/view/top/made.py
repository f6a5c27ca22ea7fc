"""A view of records that tests make."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import quantiles
from threading import Event
from time import time_ns

from llmwatch.export.store_reader import StoredSpan
from llmwatch.view.records import (
    DriftLight,
    Filter,
    Finding,
    LayerCell,
    OperationRow,
    Request,
    RequestRow,
    Series,
)

SECOND = 1_000_000_000
MODELS = ("gpt-4o", "gpt-4o-mini", None)
ROUTES = ("/harbour", "/ferry", None)


def row(number: int, now: int, **more: object) -> RequestRow:
    """One request, *number* seconds ago; what it says follows from its number."""
    error = number % 7 == 3
    known: dict[str, object] = {
        "trace_id": f"{number:032x}",
        "span_id": f"{number:016x}",
        "service": "shop" if number % 2 else "desk",
        "start": now - number * SECOND,
        "duration": 0.5 + number % 10 / 10,
        "operation": "chat" if number % 3 else "embeddings",
        "model": MODELS[number % 3],
        "route": ROUTES[number % 2],
        "outcome": "error" if error else "left" if number % 11 == 5 else "ok",
        "error": "RateLimitError" if error else None,
        "ttft": None if error else 0.1 + number % 5 / 50,
        "gap_p50": None if error else 0.02,
        "gap_p95": None if error else 0.05,
        "input_tokens": None if error else 100 + number,
        "output_tokens": None if error else 50,
        "token_rate": None if error else 41.5,
        "cost": None if number % 3 == 2 else 0.0001 * (number + 1),
    }
    return RequestRow(**known | more)  # type: ignore[arg-type]


@dataclass
class Made:
    """Answers from lists, naively."""

    rows: list[RequestRow] = field(default_factory=list)
    found: dict[str, Request] = field(default_factory=dict)
    """By span id."""
    machine: list[Series] = field(default_factory=list)
    cells: list[LayerCell] = field(default_factory=list)
    lights: list[DriftLight] = field(default_factory=list)
    raised: list[Finding] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    broken: Exception | None = None
    gate: Event | None = None
    """Nothing is answered until it is set."""
    closed: bool = False

    @classmethod
    def of(cls, number: int) -> Made:
        """One with this many requests, one a second."""
        now = time_ns()
        return cls([row(each, now) for each in range(number)])

    def refresh(self) -> bool:
        self.asked.append("refresh")
        if self.gate is not None:
            assert self.gate.wait(60)
        if self.broken is not None:
            raise self.broken
        return True

    def services(self) -> list[str]:
        return sorted({each.service for each in self.rows})

    def _fit(self, by: Filter) -> list[RequestRow]:
        def fits(each: RequestRow) -> bool:
            text = " ".join(
                str(part)
                for part in (each.operation, each.model, each.route, each.error, each.trace_id)
            )
            return (
                (by.since is None or each.start >= by.since)
                and by.service in (None, each.service)
                and by.operation in (None, each.operation)
                and by.model in (None, each.model)
                and by.route in (None, each.route)
                and (not by.errors or each.outcome == "error")
                and by.text.casefold() in text.casefold()
            )

        return sorted(filter(fits, self.rows), key=lambda each: -each.start)

    def operations(self, by: Filter) -> list[OperationRow]:
        groups: defaultdict[tuple[str, str | None, str | None], list[RequestRow]]
        groups = defaultdict(list)
        for each in self._fit(by):
            groups[each.operation, each.model, each.route].append(each)
        made = [
            OperationRow(
                *key,
                count=len(rows),
                errors=sum(each.outcome == "error" for each in rows),
                rate=len(rows) / 60,
                duration_p50=_at([each.duration for each in rows], 50) or 0.0,
                duration_p95=_at([each.duration for each in rows], 95) or 0.0,
                ttft_p50=_at([each.ttft for each in rows], 50),
                ttft_p95=_at([each.ttft for each in rows], 95),
                itl_p50=_at([each.gap_p50 for each in rows], 50),
                itl_p95=_at([each.gap_p95 for each in rows], 95),
                tokens_per_second=_at([each.token_rate for each in rows], 50),
                input_tokens=sum(each.input_tokens or 0 for each in rows),
                output_tokens=sum(each.output_tokens or 0 for each in rows),
                cost=sum(each.cost or 0 for each in rows) or None,
            )
            for key, rows in groups.items()
        ]
        return sorted(made, key=lambda each: -each.count)

    def requests(self, by: Filter, limit: int = 200) -> list[RequestRow]:
        return self._fit(by)[:limit]

    def request(self, trace_id: str, span_id: str) -> Request | None:
        found = self.found.get(span_id)
        if found is None:
            mine = [each for each in self.rows if each.span_id == span_id]
            found = opened(mine[0]) if mine else None
        return found

    def series(self, metrics: list[str], by: Filter, points: int = 300) -> list[Series]:
        return [each for each in self.machine if each.metric in metrics]

    def layers(self, by: Filter) -> list[LayerCell]:
        return self.cells

    def drift(self, by: Filter) -> list[DriftLight]:
        return self.lights

    def findings(self, by: Filter) -> list[Finding]:
        return self.raised

    def close(self) -> None:
        self.closed = True


def span(row: RequestRow, **more: object) -> StoredSpan:
    """The span of a request."""
    known: dict[str, object] = {
        "name": f"{row.operation} {row.model}",
        "trace_id": row.trace_id,
        "span_id": row.span_id,
        "parent_id": None,
        "start": row.start,
        "end": row.start + round(row.duration * SECOND),
        "kind": 3,
        "attributes": {},
        "events": [],
        "status": 2 if row.outcome == "error" else 0,
        "status_message": "",
        "scope": "llmwatch",
        "resource": {"service.name": row.service},
    }
    return StoredSpan(**known | more)  # type: ignore[arg-type]


def opened(row: RequestRow, **more: object) -> Request:
    """A request with its span, and no more."""
    known: dict[str, object] = {
        "row": row,
        "spans": [span(row)],
        "tokens": [],
        "prefill": None,
        "machine": [],
        "logs": [],
    }
    return Request(**known | more)  # type: ignore[arg-type]


def _at(values: list[float | None] | list[float], percent: int) -> float | None:
    known = [each for each in values if each is not None]
    if not known:
        return None
    return quantiles(known, n=100, method="inclusive")[percent - 1] if len(known) > 1 else known[0]
