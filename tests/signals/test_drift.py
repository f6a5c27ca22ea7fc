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
        metric.name
        for metric in (*semconv.DRIFT_METRICS.values(), *semconv.DRIFT_HISTOGRAMS.values())
    }
    assert values(found["llmwatch.drift.embeddings"], key="en") == [400]
    assert values(found["llmwatch.drift.invalid"], reason="nan") == [3]
    assert values(found["llmwatch.drift.alarm"], key="en") == [0]
    assert values(found["llmwatch.drift.alarm"], key="de") == [1]
    (p_value,) = values(found["llmwatch.drift.p_value"], key="de", statistic="all")
    assert p_value < 1e-3
    assert values(found["llmwatch.drift.reference.size"]) == [600]


def test_residuals_add_up_over_replicas_in_the_buckets_of_their_reference(reference):
    """With the reference's own beside them, a backend can redo the tail test for all replicas."""
    random = np.random.default_rng(3)
    rows = foreign(random, 200)
    residuals = reference.subspace.residuals(rows)[2]
    with capture() as seen:
        replicas = [DriftMonitor(f"r{i}", reference, window=WINDOW) for i in range(2)]
        replicas[0].add(rows[:50])
        seen.metrics()  # what was collected once is not counted again
        replicas[0].add(rows[50:120])
        replicas[1].add(rows[120:])
        found = seen.metrics()
    points = found["llmwatch.drift.residual"]
    bounds = points[0].explicit_bounds
    assert 10 <= len(bounds) <= 16
    assert all(point.explicit_bounds == bounds for point in points)
    added = np.sum([point.bucket_counts for point in points], axis=0)
    bins = np.searchsorted(bounds, residuals)
    assert added.tolist() == np.bincount(bins, minlength=len(bounds) + 1).tolist()
    assert sum(point.sum for point in points) == pytest.approx(residuals.sum(), rel=1e-4)
    assert max(point.max for point in points) == pytest.approx(residuals.max())
    own = found["llmwatch.drift.reference.residual"][0]
    assert own.count == 400
    assert own.attributes[semconv.DRIFT_REFERENCE] == reference.hash


def test_an_alarm_tells_where_the_mean_moved_and_what_to_look_at():
    random = np.random.default_rng(4)
    centres = 3 * random.normal(size=(4, 24))
    topic = random.integers(0, 4, 800)
    rows = centres[topic] + random.normal(size=(800, 24))
    names = [f"topic {each}" for each in topic]
    with capture() as seen:
        monitor = DriftMonitor("queries", rows, window=WINDOW, ids=names)
        assert monitor.wait(60)
        more = centres[2] + random.normal(size=(400, 24))
        monitor.add(more[:200], ids="batch")
        monitor.add(more[200:], ids=[f"q{index}" for index in range(200)])
    found = seen.events[0].attributes
    assert found[semconv.DRIFT_REGION_IDS] == ("topic 2",)
    assert found[semconv.DRIFT_REGION_COSINE] > 0.9
    assert 0.02 < found[semconv.DRIFT_REGION_SHARE] < 0.4
    assert 1 <= len(found[semconv.DRIFT_IDS]) <= 3
    assert set(found[semconv.DRIFT_IDS]) <= {"batch", *(f"q{index}" for index in range(200))}


def test_without_monitors_nothing_is_observed_and_no_trace_is_asked_for():
    with capture() as seen:
        assert not trace.get_current_span().is_recording()
        assert not [name for name in seen.metrics() if name.startswith("llmwatch.drift.")]
