"""Histograms of residuals in the buckets of each monitor's own reference, as pre-aggregated counts.

Replicas that compare with one reference file have the same buckets, so a backend can add them up;
the reference's own histogram comes beside them, so that it can compare.
"""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from llmwatch import semconv
from llmwatch.drift import registry
from llmwatch.measure.histogram import Histogram
from llmwatch.signals.cells import Table
from llmwatch.signals.drift import names
from llmwatch.signals.readings import Dimensions

if TYPE_CHECKING:
    from llmwatch.drift.monitor import DriftMonitor
    from llmwatch.drift.totals import Totals


class _Told(NamedTuple):
    reference: str
    totals: Totals


class DriftCounts:
    """Counts into a table what monitors have seen since it was last asked to."""

    def __init__(self) -> None:
        self._told: WeakKeyDictionary[DriftMonitor, _Told] = WeakKeyDictionary()

    def reset(self) -> None:
        """Forget what was counted: in a forked child monitors begin anew."""
        self._told.clear()

    def count(self, table: Table, wanted: frozenset[str]) -> None:
        """Count what is new into *table*, in the metrics of which the names are *wanted*."""
        for monitor in registry.living():
            found = monitor.residuals()
            if found is None:
                continue
            reference, totals = found
            status = monitor.status()
            named: Dimensions = tuple(
                {**names(status), semconv.DRIFT_REFERENCE: reference.hash}.items()
            )
            told = self._told.get(monitor)
            before = told.totals if told is not None and told.reference == reference.hash else None
            self._told[monitor] = _Told(reference.hash, totals)
            if before is None:
                _add(table, wanted, "reference_residual", named, reference.totals)
            new = totals if before is None else totals.since(before)
            if new.count:
                _add(table, wanted, "residual", named, new)


def _add(
    table: Table, wanted: frozenset[str], name: str, named: Dimensions, totals: Totals
) -> None:
    metric = semconv.DRIFT_HISTOGRAMS[name]
    if metric.name in wanted:
        table.merge_measured(metric._replace(buckets=totals.edges), named, _histogram(totals))


def _histogram(totals: Totals) -> Histogram:
    made = Histogram(totals.edges, time_ns())
    made.counts = list(totals.counts)
    made.total, made.low, made.high = totals.total, totals.low, totals.high
    return made
