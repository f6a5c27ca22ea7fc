"""Everything that one look at the store shows, and what to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import time_ns

from llmwatch import semconv
from llmwatch.semconv_hardware import GPU_METRICS, PROCESS_METRICS
from llmwatch.view.records import (
    DriftLight,
    Filter,
    Finding,
    LayerCell,
    OperationRow,
    RequestRow,
    Series,
    View,
)

RANGES: dict[str, float | None] = {
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "1h": 3600,
    "6h": 21_600,
    "24h": 86_400,
    "7d": 604_800,
    "all": None,
}
"""How far back to look, in seconds; None: to the beginning."""

MACHINE = [
    *(
        GPU_METRICS[name].name
        for name in ("utilization", "memory", "memory_limit", "power", "power_limit", "temperature")
    ),
    *(
        PROCESS_METRICS[name].name
        for name in (
            *("cpu_utilization", "memory"),
            *("host_cpu_utilization", "host_memory", "host_memory_limit"),
        )
    ),
    semconv.OWN_METRICS["active"].name,
]
"""Metrics of the sparklines, with their limits."""


@dataclass(frozen=True, slots=True)
class Look:
    """What to look at: how far back, and which operations."""

    back: float | None = RANGES["15m"]
    """Seconds; None: everything."""
    by: Filter = field(default_factory=Filter)

    def filter(self, now: int) -> Filter:
        """The same for the view, at a time."""
        since = None if self.back is None else now - round(self.back * 1e9)
        return replace(self.by, since=since)

    @property
    def narrowed(self) -> bool:
        """Whether not all operations of that time count."""
        return self.by != Filter()


@dataclass(frozen=True, slots=True)
class Frame:
    """One look at the store."""

    look: Look
    time: int
    """When, in Unix nanoseconds."""
    asked: int
    """When the view was asked for what is in it."""
    services: Sequence[str]
    operations: Sequence[OperationRow]
    requests: Sequence[RequestRow]
    machine: Sequence[Series]
    layers: Sequence[LayerCell]
    drift: Sequence[DriftLight]
    findings: Sequence[Finding]
    latest: RequestRow | None
    """The latest operation of all time, all services."""

    @property
    def count(self) -> int:
        """Operations."""
        return sum(row.count for row in self.operations)

    @property
    def errors(self) -> int:
        """Of them that failed."""
        return sum(row.errors for row in self.operations)

    @property
    def cost(self) -> float | None:
        """US dollars; None where nothing has a price."""
        known = [row.cost for row in self.operations if row.cost is not None]
        return sum(known) if known else None

    @property
    def begin(self) -> int:
        """Where charts begin, in Unix nanoseconds."""
        if self.look.back is not None:
            return self.time - round(self.look.back * 1e9)
        starts = [each.times[0] for each in self.machine if each.times]
        return min([*starts, *(row.start for row in self.requests)], default=self.time)


STILL = 5.0
"""Seconds for which a look holds that nothing was added to."""


def look(view: View, at: Look, last: Frame | None = None) -> Frame:
    """Ask *view* for all of it; where nothing was written since, *last* mostly still holds.

    Errors: whatever the view raises.
    """
    fresh = view.refresh()
    now = time_ns()
    if last is not None and not fresh and last.look == at:
        moved = at.back is not None and now - last.asked > STILL * 1e9
        if not moved:
            return replace(last, time=now)
    by = at.filter(now)
    machine = Filter(since=by.since, service=by.service)
    requests = view.requests(by)
    latest = requests[:1] if requests else view.requests(Filter(), limit=1)
    return Frame(
        look=at,
        time=now,
        asked=now,
        services=view.services(),
        operations=view.operations(by),
        requests=requests,
        machine=view.series(MACHINE, machine),
        layers=view.layers(by),
        drift=view.drift(machine),
        findings=view.findings(machine),
        latest=latest[0] if latest else None,
    )
