"""The door into the OpenTelemetry SDK: our counts join what each of its readers collects.

Metric points are public types of the SDK, but there is no public way to hand it counts that were
made elsewhere. So the private `_collect` of every reader, and the private method that readers
added later are given, are replaced by a `_Hook`, which calls what was there and adds our points.
Everything private is touched in this module only. Importing it, or making a `Door`, fails where a
release of the SDK is built differently: do without, then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from time import time_ns
from types import MethodType
from typing import Any, Literal
from weakref import WeakKeyDictionary

from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    Exemplar,
    MeterProvider,
)
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.metrics._internal.instrument import _Counter, _Histogram
from opentelemetry.sdk.metrics.view import (
    DefaultAggregation,
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    SumAggregation,
)

from llmwatch._guard import Guard
from llmwatch.measure.histogram import Sample
from llmwatch.semconv import Metric
from llmwatch.signals.cells import Exemplars, Ledger, Point, Table, Turn

_log = logging.getLogger("llmwatch")
_BEFORE = Guard("metrics.before_collect")
_AFTER = Guard("metrics.collect")

Way = Literal["counts", "record", "drop"]
"""How a metric reaches the readers: as our counts, by the SDK's own `record`, or not at all."""

_INSTRUMENTS: dict[str, Any] = {"histogram": _Histogram, "counter": _Counter}
_LIMIT = 2000
"""Attribute sets one metric may have, in releases of the SDK that have no such setting."""


class Door:
    """Hooks on every reader of one SDK provider, those added later included.

    Args:
        provider: The SDK's provider.
        meter: Our meter, from that provider.

    Raises:
        AttributeError, KeyError, TypeError: If this release of the SDK keeps its things elsewhere.
    """

    def __init__(self, provider: MeterProvider, meter: Any) -> None:
        # Any: what is private has no types that one could rely on.
        self._config: Any = provider._sdk_config
        self._consumer: Any = provider._measurement_consumer
        self._meter = meter
        self._scope: Any = meter._instrumentation_scope
        self._ledgers: WeakKeyDictionary[Any, Ledger] = WeakKeyDictionary()
        self._hooks: list[_Hook] = []
        self._table = Table((), "none")
        self._turn = Turn()
        self.before: Callable[[], None] = lambda: None
        vars(self._consumer)  # it must take attributes of its own
        for reader in self._readers():
            _ledger(reader)
            vars(reader)["_collect"]

    @property
    def enabled(self) -> bool:
        """Whether the provider wants anything of our meter; it may change its mind."""
        asked = getattr(self._meter, "_is_enabled", None)  # not in every release
        return asked is None or bool(asked())

    @property
    def exemplars(self) -> Exemplars:
        """What the provider's exemplar filter lets through."""
        chosen = self._config.exemplar_filter
        if isinstance(chosen, AlwaysOffExemplarFilter):
            return "none"
        return "all" if isinstance(chosen, AlwaysOnExemplarFilter) else "sampled"

    def way(self, metric: Metric) -> Way:
        """How *metric* must reach the readers that are there now.

        What a View does to an instrument (rename it, drop it, give it other buckets or fewer
        attributes) and an aggregation that a reader prefers are left to the SDK.
        """
        instrument = _INSTRUMENTS[metric.kind](
            metric.name, self._scope, self._consumer, metric.unit, metric.description
        )
        views = [view for view in self._config.views if view._match(instrument)]
        if views:
            dropped = all(isinstance(view._aggregation, DropAggregation) for view in views)
            return "drop" if dropped else "record"
        return "counts" if all(_takes(each, metric.kind) for each in self._readers()) else "record"

    def open(self, table: Table, turn: Turn, before: Callable[[], None]) -> None:
        """Put the hooks in place.

        Args:
            table: What the readers get; it is emptied whenever one of them collects.
            turn: Taken to touch the table.
            before: Called before each collection, on the thread that collects.
        """
        self._table, self._turn, self.before = table, turn, before
        for reader in self._readers():
            self._ledgers[reader] = _ledger(reader)
            if reader._collect is not None:
                reader._collect = self._hook(reader._collect)
        self._consumer.collect = self._hook(self._consumer.collect)

    def close(self) -> None:
        """Take the hooks away; one that somebody else wrapped stays, and only passes on."""
        for hook in self._hooks:
            hook.door = None
        for reader in self._readers():
            if isinstance(reader._collect, _Hook):
                reader._collect = _beneath(reader._collect)
        consumer = self._consumer
        if isinstance(vars(consumer).get("collect"), _Hook):
            consumer.collect = _beneath(consumer.collect)
            if consumer.collect == MethodType(type(consumer).collect, consumer):
                del consumer.collect  # it was the class's own, not the instance's
        self._hooks.clear()
        self.reset()

    def reset(self) -> None:
        """Forget all counts that no reader has reported."""
        self._ledgers.clear()

    def absorb(self) -> None:
        """Hand what the table holds to the ledger of every reader; the turn must be ours."""
        table, readers = self._table, self._readers()
        for gone in set(self._ledgers) - set(readers):
            del self._ledgers[gone]
        for reader in readers:
            ledger = self._ledgers.get(reader)
            if ledger is None:
                self._ledgers[reader] = ledger = _ledger(reader)
                _explain(reader, table)
            ledger.absorb(table)
        table.clear()

    def added(self, reader: Any, collected: Any) -> Any:
        """What a reader collected, with our points added."""
        with self._turn as mine:
            if not mine:
                return collected
            self.absorb()
            ledger = self._ledgers.get(reader)
            metrics = _metrics(ledger, time_ns()) if ledger is not None else []
        return self._joined(collected, metrics) if metrics else collected

    def _joined(self, collected: Any, metrics: list[sdk.Metric]) -> sdk.MetricsData:
        resources = list(collected.resource_metrics) if collected is not None else []
        if not resources:
            resource = self._config.resource
            resources = [sdk.ResourceMetrics(resource, [], resource.schema_url)]
        scopes = list(resources[0].scope_metrics)
        for index, scope in enumerate(scopes):
            if scope.scope == self._scope:  # encoders keep one of two entries of the same scope
                scopes[index] = replace(scope, metrics=[*scope.metrics, *metrics])
                break
        else:
            scopes.append(sdk.ScopeMetrics(self._scope, metrics, self._scope.schema_url))
        resources[0] = replace(resources[0], scope_metrics=scopes)
        return sdk.MetricsData(resources)

    def _hook(self, original: Any) -> _Hook:
        hook = _Hook(self, original)
        self._hooks.append(hook)
        return hook

    def _readers(self) -> list[Any]:
        return list(self._consumer._reader_storages)


class _Hook:
    """Stands where the SDK's `collect` stood."""

    __slots__ = ("door", "original")

    def __init__(self, door: Door, original: Any) -> None:
        self.door: Door | None = door
        """None once disarmed."""
        self.original = original

    def __call__(self, reader: Any, *args: Any, **kwargs: Any) -> Any:
        door = self.door
        if door is None:
            return self.original(reader, *args, **kwargs)
        with _BEFORE:
            door.before()
        collected = self.original(reader, *args, **kwargs)
        with _AFTER:
            return door.added(reader, collected)
        return collected


def _beneath(collect: Any) -> Any:
    while isinstance(collect, _Hook) and collect.door is None:
        collect = collect.original
    return collect


def _takes(reader: Any, kind: str) -> bool:
    """Whether a reader wants metrics of that kind as we count them."""
    preferred = reader._instrument_class_aggregation[_INSTRUMENTS[kind]]
    if type(preferred) is DefaultAggregation:
        return True
    if kind == "counter":
        return type(preferred) is SumAggregation
    return (
        type(preferred) is ExplicitBucketHistogramAggregation
        and preferred._boundaries is None
        and preferred._record_min_max
    )


def _explain(reader: Any, table: Table) -> None:
    if not all(_takes(reader, each.metric.kind) for each in table.readings):
        _log.info(
            "%s was added after llmwatch and prefers another aggregation: "
            "llmwatch's histograms come with explicit buckets there",
            type(reader).__name__,
        )


def _ledger(reader: Any) -> Ledger:
    temporality = reader._instrument_class_temporality
    limits = getattr(reader, "_instrument_class_cardinality_limit", {})
    return Ledger(
        {
            kind: temporality[instrument] is sdk.AggregationTemporality.DELTA
            for kind, instrument in _INSTRUMENTS.items()
        },
        {kind: limits.get(instrument, _LIMIT) for kind, instrument in _INSTRUMENTS.items()},
    )


def _metrics(ledger: Ledger, now: int) -> list[sdk.Metric]:
    found = []
    for metric, points in ledger.report(now):
        delta = ledger.delta[metric.kind]
        since = ledger.since if delta else None
        temporality = (
            sdk.AggregationTemporality.DELTA if delta else sdk.AggregationTemporality.CUMULATIVE
        )
        data: sdk.Histogram | sdk.Sum
        if metric.kind == "histogram":
            data = sdk.Histogram([_histogram(each, since, now) for each in points], temporality)
        else:
            data = sdk.Sum([_number(each, since, now) for each in points], temporality, True)
        found.append(sdk.Metric(metric.name, metric.description, metric.unit, data))
    return found


def _histogram(point: Point, since: int | None, now: int) -> sdk.HistogramDataPoint:
    cell = point.histogram
    return sdk.HistogramDataPoint(
        attributes=point.attributes,
        start_time_unix_nano=since or cell.made,
        time_unix_nano=now,
        count=cell.count,
        sum=cell.total,
        bucket_counts=tuple(cell.counts),
        explicit_bounds=cell.bounds,
        min=cell.low,
        max=cell.high,
        exemplars=[_exemplar(each) for _, each in sorted(cell.samples.items())],
    )


def _number(point: Point, since: int | None, now: int) -> sdk.NumberDataPoint:
    cell = point.histogram
    return sdk.NumberDataPoint(
        attributes=point.attributes,
        start_time_unix_nano=since or cell.made,
        time_unix_nano=now,
        value=cell.total,
        exemplars=[_exemplar(each) for each in cell.samples.values()],
    )


def _exemplar(sample: Sample) -> Exemplar:
    value, (at, trace_id, span_id) = sample
    return Exemplar({}, value, at, span_id or None, trace_id or None)
