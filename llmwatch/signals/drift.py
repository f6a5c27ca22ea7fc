"""What drift monitors know, as metrics and events.

Monitors are found in their registry whenever a reader collects: it loads no numpy, so a program
without monitors pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.metrics import Observation

from llmwatch import semconv
from llmwatch.drift import registry

if TYPE_CHECKING:
    from llmwatch.drift.detector import Change
    from llmwatch.drift.monitor import DriftMonitor
    from llmwatch.drift.status import KeyStatus, Status
    from llmwatch.drift.verdict import Verdict
    from llmwatch.signals.operation import Signals
    from llmwatch.signals.readings import AttributeValue

Reading = Callable[["DriftMonitor", "Status"], Iterator[Observation]]

P_VALUES: Final = {
    "all": "p_value",
    "centroid": "p_centroid",
    "mahalanobis": "p_mahalanobis",
    "residual_tail": "p_residual",
}
"""The value of ``llmwatch.drift.statistic``, and the field of a verdict."""


def sources() -> list[tuple[str, Callable[[], list[Observation]]]]:
    """What to observe, by the keys of `semconv.DRIFT_METRICS`."""
    return [(name, _source(read)) for name, read in READINGS.items()]


def _source(read: Reading) -> Callable[[], list[Observation]]:
    def observe() -> list[Observation]:
        return [each for monitor in registry.living() for each in read(monitor, monitor.status())]

    return observe


def names(status: Status, key: KeyStatus | None = None) -> dict[str, AttributeValue]:
    """The attributes of what is said of a monitor, or of one of its keys."""
    found: dict[str, AttributeValue] = {semconv.DRIFT_MONITOR: status.name}
    if status.model:
        found[semconv.REQUEST_MODEL] = status.model
    if key is not None and key.key:
        found[semconv.DRIFT_KEY] = key.key
    return found


def _embeddings(_: DriftMonitor, status: Status) -> Iterator[Observation]:
    for key, many in status.seen.items():
        named = names(status)
        yield Observation(many, {**named, semconv.DRIFT_KEY: key} if key else named)


def _invalid(_: DriftMonitor, status: Status) -> Iterator[Observation]:
    for reason, many in status.invalid.items():
        yield Observation(many, {**names(status), semconv.DRIFT_REASON: reason})


def _tail_threshold(monitor: DriftMonitor, status: Status) -> Iterator[Observation]:
    threshold = monitor.tail_threshold()
    if threshold is not None:
        named = {**names(status), semconv.DRIFT_REFERENCE: status.reference}
        yield Observation(threshold, named)


def _p_value(_: DriftMonitor, status: Status) -> Iterator[Observation]:
    for key in status.keys:
        if key.verdict is not None:
            for name, field in P_VALUES.items():
                named = {**names(status, key), semconv.DRIFT_STATISTIC: name}
                yield Observation(getattr(key.verdict, field), named)


def _alarm(_: DriftMonitor, status: Status) -> Iterator[Observation]:
    for key in status.keys:
        yield Observation(int(key.alarm), names(status, key))


def _of_verdict(field: str) -> Reading:
    def read(_: DriftMonitor, status: Status) -> Iterator[Observation]:
        for key in status.keys:
            if key.verdict is not None:
                yield Observation(getattr(key.verdict, field), names(status, key))

    return read


def _dependence(_: DriftMonitor, status: Status) -> Iterator[Observation]:
    for key in status.keys:
        if key.verdict is not None:
            named = {**names(status, key), semconv.DRIFT_REFERENCE: key.verdict.reference}
            yield Observation(key.verdict.dependence, named)


def _of_reference(field: str) -> Reading:
    def read(_: DriftMonitor, status: Status) -> Iterator[Observation]:
        if status.reference:
            named = {**names(status), semconv.DRIFT_REFERENCE: status.reference}
            yield Observation(getattr(status, field), named)

    return read


READINGS: Final[dict[str, Reading]] = {
    "embeddings": _embeddings,
    "invalid": _invalid,
    "tail_threshold": _tail_threshold,
    "p_value": _p_value,
    "alarm": _alarm,
    "dependence": _dependence,
    **{name: _of_verdict(name) for name in ("effect", "centroid", "mahalanobis")},
    **{name: _of_reference(name) for name in ("reference_age", "reference_size")},
}


class Alarms:
    """Tells of alarms as events, and monitors the trace that embeddings belong to.

    Args:
        signals: Where events go.
    """

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        registry.listeners.append(self._changed)
        registry.trace_of.append(_trace)

    def undo(self) -> None:
        """Tell no more."""
        registry.listeners.remove(self._changed)
        registry.trace_of.remove(_trace)

    def _changed(self, monitor: DriftMonitor, change: Change, status: KeyStatus) -> None:
        attributes: dict[str, object] = {semconv.DRIFT_MONITOR: monitor.name}
        if monitor.model:
            attributes[semconv.REQUEST_MODEL] = monitor.model
        if status.key:
            attributes[semconv.DRIFT_KEY] = status.key
        if status.verdict is not None:
            attributes |= _of(status.verdict)
        if status.foreign_traces:
            attributes[semconv.DRIFT_TRACES] = list(status.foreign_traces)
        if status.foreign_ids:
            attributes[semconv.DRIFT_IDS] = list(status.foreign_ids)
        raised = change == "raised"
        self._signals.events.tell(
            semconv.EVENT_DRIFT_RAISED if raised else semconv.EVENT_DRIFT_CLEARED,
            SeverityNumber.WARN if raised else SeverityNumber.INFO,
            attributes,
        )


def _of(verdict: Verdict) -> dict[str, object]:
    found: dict[str, object] = {
        semconv.DRIFT_P_VALUE: verdict.p_value,
        semconv.DRIFT_EFFECT: verdict.effect,
        semconv.DRIFT_FOREIGN: verdict.foreign,
        semconv.DRIFT_CENTROID: verdict.centroid,
        semconv.DRIFT_MAHALANOBIS: verdict.mahalanobis,
        semconv.DRIFT_DEPENDENCE: verdict.dependence,
        semconv.DRIFT_WINDOW: verdict.size,
        semconv.DRIFT_REFERENCE: verdict.reference,
    }
    if (way := verdict.direction) is not None:
        found[semconv.DRIFT_REGION] = way.region
        found[semconv.DRIFT_REGION_COSINE] = way.cosine
        found[semconv.DRIFT_REGION_SHARE] = way.share
        if way.ids:
            found[semconv.DRIFT_REGION_IDS] = list(way.ids)
    return found


def _trace() -> int:
    return trace.get_current_span().get_span_context().trace_id
