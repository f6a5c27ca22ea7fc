"""What drift monitors know arrives as metrics and events."""

from __future__ import annotations

from weakref import WeakSet

import numpy as np
import pytest
from opentelemetry import trace

from llmwatch import DriftMonitor, semconv
from llmwatch.drift import registry
from llmwatch.drift.reference import fit_reference
from llmwatch.testing import capture

WINDOW = 100


@pytest.fixture(autouse=True)
def _no_monitors_of_others(monkeypatch):
    monkeypatch.setattr(registry, "monitors", WeakSet())


def clean(random: np.random.Generator, many: int):
    """Vectors that vary in a few directions, and a little in all."""
    inside = random.normal(size=(many, 8)) @ np.eye(8, 24)
    return (inside + random.normal(scale=0.1, size=(many, 24))).astype(np.float32)


def foreign(random: np.random.Generator, many: int):
    return random.normal(size=(many, 24)).astype(np.float32)


@pytest.fixture(scope="module")
def reference():
    return fit_reference(clean(np.random.default_rng(0), 600), window=WINDOW, replicates=500)


def values(points, **attributes):
    """The value of each point that has these attributes."""
    named = {f"llmwatch.drift.{name}": value for name, value in attributes.items()}
    return [p.value for p in points if named.items() <= dict(p.attributes).items()]


def test_a_drift_is_told_once_with_what_it_rests_on(reference):
    random = np.random.default_rng(1)
    with capture() as seen:
        monitor = DriftMonitor("queries", reference, window=WINDOW, model="m")
        monitor.add(clean(random, 400))
        with seen.tracer_provider.get_tracer("test").start_as_current_span("request") as span:
            mine = f"{span.get_span_context().trace_id:032x}"
            monitor.add(foreign(random, 400))
        monitor.add(clean(random, 600))
    raised, cleared = seen.events
    assert raised.event_name == semconv.EVENT_DRIFT_RAISED
    assert cleared.event_name == semconv.EVENT_DRIFT_CLEARED
    found = raised.attributes
    assert found[semconv.DRIFT_MONITOR] == "queries"
    assert found[semconv.REQUEST_MODEL] == "m"
    assert found[semconv.DRIFT_P_VALUE] < 1e-3
    assert found[semconv.DRIFT_EFFECT] > 0.5
    assert found[semconv.DRIFT_REFERENCE] == reference.hash
    assert set(found[semconv.DRIFT_TRACES]) == {mine}


def test_every_metric_of_a_monitor_is_observed(reference):
    random = np.random.default_rng(2)
    with capture() as seen:
        monitor = DriftMonitor("queries", reference, window=WINDOW)
        monitor.add(clean(random, 400), key="en")
        monitor.add(foreign(random, 400), key="de")
        monitor.add(np.full((3, 24), np.nan))
        found = seen.metrics()
    assert {name for name in found if name.startswith("llmwatch.drift.")} == {
        metric.name for metric in semconv.DRIFT_METRICS.values()
    }
    assert values(found["llmwatch.drift.embeddings"], key="en") == [400]
    assert values(found["llmwatch.drift.invalid"], reason="nan") == [3]
    assert values(found["llmwatch.drift.alarm"], key="en") == [0]
    assert values(found["llmwatch.drift.alarm"], key="de") == [1]
    (p_value,) = values(found["llmwatch.drift.p_value"], key="de", statistic="all")
    assert p_value < 1e-3
    assert values(found["llmwatch.drift.reference.size"]) == [600]


def test_tail_counts_add_up_over_replicas_to_the_tail_test(reference):
    """With the reference's shares beside them, a backend can redo the test for all replicas."""
    random = np.random.default_rng(3)
    rows = foreign(random, 200)
    with capture() as seen:
        replicas = [DriftMonitor(f"r{i}", reference, window=WINDOW) for i in range(2)]
        replicas[0].add(rows[:120])
        replicas[1].add(rows[120:])
        found = seen.metrics()
    above = found["llmwatch.drift.residual.above"]
    edges = {point.attributes[semconv.DRIFT_EDGE] for point in above}
    assert 10 <= len(edges) <= 16
    residuals = reference.subspace.residuals(rows)[2]
    for edge in edges:
        many = int((residuals > np.float32(edge)).sum())
        assert sum(values(above, edge=edge)) == pytest.approx(many, abs=1)
        share = values(found["llmwatch.drift.reference.above"], edge=edge)[0]
        assert 0 < share < 1


def test_without_monitors_nothing_is_observed_and_no_trace_is_asked_for():
    with capture() as seen:
        assert not trace.get_current_span().is_recording()
        assert not [name for name in seen.metrics() if name.startswith("llmwatch.drift.")]
