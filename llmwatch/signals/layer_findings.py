"""Findings about layers become events, and what they rest on becomes gauges."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from opentelemetry._logs import SeverityNumber

from llmwatch import semconv
from llmwatch import semconv_layers as names
from llmwatch.signals.observed import Observation

if TYPE_CHECKING:
    from llmwatch.measure.findings import Finding
    from llmwatch.measure.health import Health
    from llmwatch.measure.layers import Layer
    from llmwatch.signals.layers import Labels
    from llmwatch.signals.operation import Signals
    from llmwatch.signals.readings import Dimensions


def tell_changes(
    signals: Signals,
    model: str,
    raised: Iterable[Finding],
    cleared: Iterable[Finding],
    more: Dimensions,
) -> None:
    """Emit an event for each finding that is raised, and for each that is cleared."""
    for name, severity, findings in (
        (names.EVENT_FINDING_RAISED, SeverityNumber.WARN, raised),
        (names.EVENT_FINDING_CLEARED, SeverityNumber.INFO, cleared),
    ):
        for each in findings:
            signals.events.tell(name, severity, _attributes(model, each) | dict(more))


def _attributes(model: str, finding: Finding) -> dict[str, object]:
    said: dict[str, object | None] = {
        semconv.REQUEST_MODEL: model,
        names.FINDING_KIND: finding.kind,
        names.LAYER_NAME: finding.layer or None,
        names.LAYER_BLOCK: finding.block,
        names.LAYER_PHASE: finding.phase or None,
        names.FINDING_VALUE: finding.value,
        names.FINDING_THRESHOLD: finding.threshold,
        names.FINDING_TEXT: finding.text,
        names.FINDING_EVIDENCE: json.dumps(dict(finding.evidence)),
    }
    return {key: value for key, value in said.items() if value is not None}


def counts(model: str, findings: Iterable[Finding], more: Dimensions) -> list[Observation]:
    """How many findings are raised, by kind."""
    many = Counter(each.kind for each in findings)
    named = {semconv.REQUEST_MODEL: model, **dict(more)}
    return [Observation(count, {**named, names.FINDING_KIND: kind}) for kind, count in many.items()]


def healths(
    key: str, found: Iterable[tuple[Layer, Health]], labels: Labels, more: Dimensions
) -> list[Observation]:
    """One number of every layer's health; of layers that share a name, the largest.

    Args:
        key: Of `semconv_layers.FINDING_METRICS`.
        found: Layers and their health.
        labels: What the layers are called.
        more: Attributes of the process.
    """
    largest: dict[Dimensions, float] = {}
    for layer, health in found:
        value = health.broken / health.forwards if key == "broken" else getattr(health, key)
        if value is not None:
            dimensions = (*labels[layer], *more)
            largest[dimensions] = max(value, largest.get(dimensions, value))
    return [Observation(value, dict(dimensions)) for dimensions, value in largest.items()]
