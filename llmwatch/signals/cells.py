"""Pre-aggregated counts: records are counted into a `Table`, and a `Ledger` a reader takes them up.

A table holds what nobody has collected yet. Whenever one reader collects, the table is merged into
the ledger of every reader and emptied, so each value is counted once, and each reader still has
its own cursor: a delta ledger forgets what it reported, a cumulative one goes on adding up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from threading import RLock
from typing import Literal, NamedTuple

from llmwatch.measure.histogram import Histogram, Origin
from llmwatch.measure.record import OperationRecord, Series
from llmwatch.semconv import Metric
from llmwatch.signals.readings import (
    SUBJECTS,
    AttributeValue,
    Dimensions,
    Measured,
    Reading,
    attributes,
    keys,
    subjects,
)

_log = logging.getLogger("llmwatch")

Exemplars = Literal["none", "sampled", "all"]
"""Which records leave an exemplar: none, those whose span was sampled, all."""

Row = list[Histogram | None]
"""One histogram for each reading, made when first needed."""

OVERFLOW: dict[str, AttributeValue] = {"otel.metric.overflow": True}
"""The attributes of the point that takes what is beyond the cardinality limit."""


class Table:
    """What was counted since the last collection.

    Args:
        readings: What is counted.
        exemplars: Which records leave an exemplar.
    """

    __slots__ = ("_groups", "exemplars", "measured", "readings", "rows")

    def __init__(self, readings: Sequence[Reading], exemplars: Exemplars) -> None:
        self.readings = readings
        self.exemplars = exemplars
        self.rows: dict[Series, Row] = {}
        self.measured: dict[tuple[Metric, Dimensions], Histogram] = {}
        """What is of no operation."""
        self._groups = [
            [
                (index, each.read, each.key, each.metric.buckets)
                for index, each in enumerate(readings)
                if each.subject == subject
            ]
            for subject in SUBJECTS
        ]

    def add(self, record: OperationRecord) -> None:
        """Count one record.

        Cost: about 1 µs for each number in it, and for each bucket that a stream's gaps are in.
        """
        rows = self._rows(record)
        made, origin = record.ended_at, self._origin(record)
        for subject, group in zip(subjects(record), self._groups, strict=True):
            if subject is None:
                continue
            for index, read, key, buckets in group:
                value = read(subject)
                if value is None:
                    continue
                row = rows[key]
                cell = row[index]
                if cell is None:
                    row[index] = cell = Histogram(buckets, made)
                if isinstance(value, tuple):
                    cell.add_sorted(value, origin)
                else:
                    cell.add(value, origin)

    def add_measured(self, measured: Measured, wanted: frozenset[str]) -> None:
        """Count what is of no operation, in the metrics of which the names are *wanted*."""
        origin = self._origin(measured)
        for metric, dimensions, values in measured.numbers():
            if metric.name in wanted:
                key = metric, dimensions
                cell = self.measured.get(key)
                if cell is None:
                    self.measured[key] = cell = Histogram(metric.buckets, measured.ended_at)
                cell.add_sorted(values, origin)

    def merge_measured(self, metric: Metric, dimensions: Dimensions, fresh: Histogram) -> None:
        """Add what was counted elsewhere, in the metric's buckets."""
        cell = self.measured.setdefault((metric, dimensions), fresh)
        if cell is not fresh:
            cell.merge(fresh)

    def clear(self) -> None:
        """Forget everything."""
        self.rows.clear()
        self.measured.clear()

    def _origin(self, record: OperationRecord | Measured) -> Origin | None:
        if self.exemplars == "none" or (self.exemplars == "sampled" and not record.trace_id):
            return None
        return Origin(record.ended_at, record.trace_id, record.span_id)

    def _rows(self, record: OperationRecord) -> list[Row]:
        plain, *others = keys(record)
        row = self._row(plain)
        return [row, *[row if key is plain else self._row(key) for key in others]]

    def _row(self, key: Series) -> Row:
        row = self.rows.get(key)
        if row is None:
            self.rows[key] = row = [None] * len(self.readings)
        return row


class Point(NamedTuple):
    """One metric point of a ledger."""

    attributes: dict[str, AttributeValue]
    histogram: Histogram


Cells = dict[tuple[Series | None, Dimensions] | None, Point]
"""The points of one metric by what tells them apart; None: the overflow."""


class Ledger:
    """What one reader has yet to report, or reports again and again.

    Args:
        delta: For each kind of metric, whether the reader wants what is new since it last asked;
            otherwise everything since the start.
        limits: For each kind of metric, how many attribute sets one metric may have.
    """

    __slots__ = ("_cells", "_overflown", "delta", "limits", "since")

    def __init__(self, delta: dict[str, bool], limits: dict[str, int]) -> None:
        self.delta = delta
        self.limits = limits
        self.since: int | None = None
        """When the reader last collected: Unix time in nanoseconds."""
        self._cells: dict[str, tuple[Metric, Cells]] = {}
        self._overflown: set[str] = set()

    def absorb(self, table: Table) -> None:
        """Add what a table holds."""
        for series, row in table.rows.items():
            for reading, fresh in zip(table.readings, row, strict=True):
                if fresh is not None:
                    key = series, reading.dimensions
                    self._point(reading.metric, key, fresh.made).histogram.merge(fresh)
        for (metric, dimensions), fresh in table.measured.items():
            point = self._point(metric, (None, dimensions), fresh.made).histogram
            if point.bounds == fresh.bounds:  # the overflow may have others
                point.merge(fresh)

    def report(self, now: int) -> Iterator[tuple[Metric, list[Point]]]:
        """The points of each metric that has any; what is reported as a delta is forgotten.

        The points must be used before the iterator goes on to the next metric.
        """
        for metric, cells in self._cells.values():
            if cells:
                yield metric, list(cells.values())
            if self.delta[metric.kind]:
                cells.clear()
            else:
                for point in cells.values():
                    point.histogram.samples.clear()
        self.since = now

    def _point(self, metric: Metric, key: tuple[Series | None, Dimensions], made: int) -> Point:
        _, cells = self._cells.setdefault(metric.name, (metric, {}))
        point = cells.get(key)
        if point is not None:
            return point
        series, dimensions = key
        if len(cells) >= self.limits[metric.kind]:
            if None in cells:
                return cells[None]
            self._tell(metric)
            cells[None] = point = Point(dict(OVERFLOW), Histogram(metric.buckets, made))
            return point
        named = dict(dimensions) if series is None else attributes(series, dimensions)
        cells[key] = point = Point(named, Histogram(metric.buckets, made))
        return point

    def _tell(self, metric: Metric) -> None:
        if metric.name not in self._overflown:
            self._overflown.add(metric.name)
            _log.warning(
                "llmwatch counts %s in %d series, and whatever is beyond them in one, "
                "otel.metric.overflow: leave out of metric_attributes= what has many values, or "
                "raise series_limit=",
                metric.name,
                self.limits[metric.kind],
            )


class Turn:
    """The lock round a table and its ledgers, which tells a thread that is inside already.

    A finaliser or a signal handler may run in the middle of our own work and want to do some; it
    must neither wait for itself nor see things half done. `with turn as mine` gives it False.
    """

    __slots__ = ("_depth", "_lock")

    def __init__(self) -> None:
        self.reset()

    def __enter__(self) -> bool:
        self._lock.acquire()
        self._depth += 1
        return self._depth == 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        self._lock.release()

    def reset(self) -> None:
        """Forget who holds it: in a forked child, those threads are gone."""
        self._lock = RLock()
        self._depth = 0
