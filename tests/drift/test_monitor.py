"""The monitor: it never harms, counts what it cannot use, and says the truth."""

from __future__ import annotations

import os
import pickle
import stat
from threading import Thread
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwatch import ConfigError, DriftMonitor
from llmwatch.drift import files, origin, registry
from llmwatch.drift.detector import Detector
from llmwatch.drift.keys import MOST_KEYS, OTHER
from llmwatch.drift.subspace import BLOCK
from llmwatch.drift.verdict import Verdict
from tests.drift.conftest import WINDOW


@pytest.fixture
def monitor(reference) -> DriftMonitor:
    return DriftMonitor("queries", reference, window=WINDOW)


@pytest.fixture
def told():
    """What the registry's listeners were told: (monitor's name, change, key)."""
    found = []

    def listen(monitor, change, status):
        found.append((monitor.name, change, status))

    registry.listeners.append(listen)
    yield found
    registry.listeners.remove(listen)


def verdict(p_value: float, effect: float = 1.0) -> Verdict:
    return Verdict(p_value, *[p_value] * 3, 0.1, 1.0, effect, effect, 1.0, WINDOW, "hash")


def test_an_alarm_is_raised_once_and_cleared_once(domains, monitor, told):
    clean, foreign = domains.wordnet[1000:1600], domains.bible
    for rows in (clean, foreign, foreign, foreign, clean, clean):
        monitor.add(rows)
    assert [change for _, change, _ in told] == ["raised", "cleared"]
    raised = told[0][2]
    assert raised.alarm
    assert raised.verdict.p_value < 1e-3
    assert raised.verdict.effect > 0.1
    assert not monitor.status().alarm


def test_clean_traffic_raises_nothing(domains, monitor, told):
    for _ in range(4):
        monitor.add(domains.wordnet[1000:1600])
    assert not told
    (key,) = monitor.status().keys
    assert key.seen == 2400
    assert "ok" in str(monitor.status())


def test_the_sequential_detector_sees_foreign_text_before_the_first_window_is_full(
    domains, monitor
):
    rows = domains.wordnet[1000:1190].copy()
    rows[::5] = domains.pydoc[:38]
    monitor.add(rows)
    (key,) = monitor.status().keys
    assert key.early
    assert key.verdict is None


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_hysteresis(steps):
    """Raised by two failures in a row, cleared by three verdicts in a row that are none."""
    detector, recent, alarm = Detector(0.01, 0.02), [], False
    for low, large in steps:
        change = detector.take(verdict(0.005 if low else 0.5, 0.5 if large else 0.001))
        recent.append(low and large)
        if not alarm and recent[-2:] == [True, True]:
            assert change == "raised"
            alarm = True
        elif alarm and recent[-3:] == [False] * 3:
            assert change == "cleared"
            alarm = False
        else:
            assert change is None
        assert detector.alarm == alarm


@settings(max_examples=15)
@given(sizes=st.lists(st.integers(1, 150), min_size=1, max_size=12))
def test_vectors_one_by_one_or_in_batches_come_to_the_same(domains, reference, sizes):
    one, other = (DriftMonitor(name, reference, window=WINDOW) for name in ("one", "other"))
    rows, start = domains.wordnet[1000:1150], 0
    for size in sizes:
        one.add(rows[start : min(start + size, 150)])
        for row in rows[start : min(start + size, 150)]:
            other.add(row.tolist() if start % 2 else row)
        start = min(start + size, 150)
    if start:
        assert one.state().counts.tolist() == other.state().counts.tolist()
        assert one.state().shift == pytest.approx(other.state().shift, abs=1e-4)


def test_a_copy_is_taken(domains, monitor):
    rows = domains.wordnet[1000:1010].copy()
    for row in rows:
        monitor.add(row)
    monitor.add(rows)
    rows[:] = np.nan
    monitor.flush()
    assert not monitor.invalid


def test_what_cannot_be_used_is_counted_and_dropped(domains, monitor, caplog):
    rows = domains.wordnet[1000:1004].copy()
    rows[0, 5], rows[1, 7], rows[2] = np.nan, np.inf, 0
    monitor.add(rows)
    monitor.add(np.zeros(3))
    monitor.add(np.zeros((2, 5)))
    monitor.add([["no"], ["numbers"]])
    monitor.add(np.zeros((2, 2, 2)))
    monitor.add(rows, session=["one", "too few"])
    status = monitor.status()
    assert status.invalid == {"nan": 1, "inf": 1, "zero": 1, "dimension": 3, "unreadable": 6}
    assert status.keys[0].seen == 1
    assert len(caplog.records) == 1
    assert "384 dimensions" in caplog.text


def test_a_session_may_be_a_number(domains, monitor):
    for row in domains.wordnet[1000:1010]:
        monitor.add(row, session=7)
    monitor.add(domains.wordnet[1000:1003], session=[8, 9, 9])
    (key,) = monitor.status().keys
    assert (key.seen, key.filled) == (13, 3)


def test_a_session_counts_once_in_a_window(domains, monitor):
    """Else near-duplicates that come in bursts would look like many witnesses."""
    rows = np.repeat(domains.wordnet[1000:1020], 10, axis=0)
    sessions = [f"s{index // 10}" for index in range(len(rows))]
    monitor.add(rows, session=sessions)
    (key,) = monitor.status().keys
    assert (key.filled, key.thinned, key.seen) == (20, 180, 200)


@pytest.mark.parametrize("scattered", [False, True])
def test_near_duplicates_without_a_session_are_noticed_and_allowed_for(
    domains, monitor, told, scattered
):
    random = np.random.default_rng(0)
    for _ in range(6):
        picked = np.repeat(random.permutation(600)[: WINDOW // 5], 5)
        if scattered:
            picked = random.permutation(picked)
        rows = domains.wordnet[1000 + picked]
        monitor.add(rows + random.normal(size=rows.shape).astype(np.float32) * 0.001)
    (key,) = monitor.status().keys
    assert 2.5 < key.verdict.dependence < 10
    assert not told


def test_who_asks_often_hides_no_near_duplicates(domains, reference):
    """Metrics are collected while a block is being filled."""
    rows = domains.wordnet[1000 : 1000 + WINDOW // 5].repeat(5, axis=0)
    rows += np.random.default_rng(0).normal(0, 1e-3, rows.shape).astype(np.float32)
    monitor = DriftMonitor("often", reference, window=WINDOW)
    for row in rows:
        monitor.add(row)
        monitor.status()
    verdict = monitor.status().keys[0].verdict
    assert verdict.dependence > 3
    assert verdict.p_value > 0.01


def test_a_reference_is_learned_from_the_first(domains):
    monitor = DriftMonitor("learner", "first:400", window=100)
    monitor.add(domains.wordnet[:300])
    assert monitor.status().phase == "learning"
    assert "300 of 400" in str(monitor.status())
    monitor.add(domains.wordnet[300:500])
    assert monitor.wait(60)
    status = monitor.status()
    assert (status.phase, status.reference_size) == ("watching", 400)
    monitor.add(domains.wordnet[500:700])
    assert monitor.status().keys[0].verdict is not None


def test_a_sliding_reference_is_renewed_from_what_came_since(domains, monkeypatch):
    monkeypatch.setattr(origin, "DEFAULT_SIZE", 400)
    monitor = DriftMonitor("slider", "sliding:1h", window=100)
    monitor.add(domains.wordnet[:448])
    assert monitor.wait(60)
    first = monitor.reference
    assert first is not None
    monitor.add(domains.wordnet[:800])
    monitor._renew_at = 0.0
    monitor.add(domains.wordnet[:BLOCK])
    assert monitor.wait(60)
    assert monitor.reference is not first


def test_a_reference_that_cannot_be_fitted_is_said_to_be(caplog):
    monitor = DriftMonitor("constant", "first:400", window=100)
    monitor.add(np.ones((400, 8)))
    assert not monitor.wait(60)
    assert monitor.status().phase == "failed"
    assert "all equal" in str(monitor.status())


@pytest.mark.parametrize(
    ("reference", "settings", "message"),
    [
        ("last:10", {}, "give 'first:2000'"),
        ("first:1000", {"window": 500}, "first:2000"),
        ("sliding:1w", {}, "give 'first:2000'"),
        ("first:2000", {"window": 1}, "at least 2"),
        ("first:2000", {"window": 2.5}, "whole number"),
        ("first:2000", {"false_alarm": 0}, "between 0 and 1"),
        ("first:2000", {"false_alarm": "often"}, "between 0 and 1"),
        ("first:2000", {"least_effect": -1}, "from 0 to 1"),
        (np.ones((10, 4, 2)), {}, "shape"),
        ([["no"], ["numbers"]], {}, "could not convert"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(reference, settings, message):
    with pytest.raises(ConfigError, match=message):
        DriftMonitor("wrong", reference, **settings)


def test_keys_are_watched_apart_and_bounded(domains, monitor):
    for index in range(MOST_KEYS + 10):
        monitor.add(domains.wordnet[1000 : 1000 + BLOCK], key=f"route{index}")
    status = monitor.status()
    keys = {each.key: each for each in status.keys}
    assert len(keys) == MOST_KEYS + 1
    assert keys[OTHER].seen == 10 * BLOCK
    assert "route0" not in keys
    assert sum(each.seen for each in status.keys) == (MOST_KEYS + 10) * BLOCK


def test_keys_are_bounded_while_the_reference_is_learned():
    monitor = DriftMonitor("learner", "first:4000", window=1000)
    for index in range(MOST_KEYS + 10):
        monitor.add(np.ones((BLOCK, 3)) * index + 1, key=f"route{index}")
    assert len(monitor.status().seen) == MOST_KEYS + 1


def test_one_key_may_drift_alone(domains, monitor):
    for _ in range(3):
        monitor.add(domains.wordnet[1000:1200], key="en")
        monitor.add(domains.bible[:200], key="old")
    assert {each.key: each.alarm for each in monitor.status().keys} == {"en": False, "old": True}


def test_replicas_merge_to_what_one_would_have_seen(domains, reference):
    """Each sees half a window; together they judge as one that saw it all."""
    replicas = [DriftMonitor(f"r{i}", reference, window=WINDOW) for i in range(2)]
    alone = DriftMonitor("alone", reference, window=WINDOW)
    rows = np.concatenate([domains.wordnet[1000:1180], domains.bible[:12]])
    replicas[0].add(rows[::2])
    replicas[1].add(rows[1::2])
    alone.add(rows)
    idle = DriftMonitor("idle", reference, window=WINDOW)
    sent = [pickle.loads(pickle.dumps(each.state())) for each in (*replicas, idle)]
    merged, whole = alone.merge(sent), alone.merge([alone.state()])
    for name in ("p_value", "centroid", "mahalanobis", "foreign"):
        assert getattr(merged, name) == pytest.approx(getattr(whole, name), rel=1e-3)


def test_a_saved_reference_is_the_same_again(monitor, reference, tmp_path):
    path = tmp_path / "reference.npz"
    monitor.save(path)
    monitor.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["reference.npz"]
    again = files.load(path)
    assert again.hash == reference.hash
    assert again.null.replicates.tolist() == reference.null.replicates.tolist()
    assert again.subspace.directions.tolist() == reference.subspace.directions.tolist()
    assert again.regions.centres.tolist() == reference.regions.centres.tolist()
    assert again.sketch.tolist() == reference.sketch.tolist()
    assert again.made == reference.made
    assert again.spread == reference.spread
    assert DriftMonitor.load(path, "again").window == WINDOW
    assert DriftMonitor("again", f"file:{path}", window=WINDOW).reference.hash == reference.hash


def test_a_reference_file_that_is_not_what_it_says_is_refused(monitor, tmp_path):
    path = tmp_path / "reference.npz"
    path.write_bytes(b"something else")
    with pytest.raises(ConfigError, match="no file of llmwatch"):
        files.load(path)
    np.savez(path, about=np.array("{}"), mean=np.array([{}], dtype=object))
    with pytest.raises(ConfigError, match="no file of llmwatch"):
        files.load(path)
    monitor.save(path)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["mean"] = arrays["mean"] + 1
    np.savez(path, **arrays)
    with pytest.raises(ConfigError, match="SHA-256"):
        files.load(path)


def test_a_reference_of_another_model_or_window_is_refused(reference):
    with pytest.raises(ConfigError, match="minilm"):
        DriftMonitor("queries", reference, window=WINDOW, model="other")
    with pytest.raises(ConfigError, match="windows of 200"):
        DriftMonitor("queries", reference, window=500)


def test_threads_lose_nothing(domains, monitor):
    rows = domains.wordnet[1000:1100]
    threads = [Thread(target=lambda: [monitor.add(row) for row in rows]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert monitor.status().keys[0].seen == 800
    assert monitor._tally.counts.sum() == 800


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_begins_anew(domains, monitor):
    monitor.add(domains.wordnet[1000:1100])
    monitor.add(domains.wordnet[1000])
    lock = monitor._fold
    lock.acquire()  # as if another thread were adding
    try:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                before = monitor.status()
                monitor.add(domains.wordnet[1000:1010])
                seen = [each.seen for each in monitor.status().keys]
                status = 0 if not before.keys and seen == [10] else 2
            finally:
                os._exit(status)
    finally:
        lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert monitor.status().keys[0].seen == 101


@pytest.mark.parametrize("scalar", [False, True])
def test_pictures_show_verdicts_places_and_residuals(domains, monitor, scalar, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra plots")
    if scalar:
        random = np.random.default_rng(7)
        monitor = DriftMonitor("length", random.normal(size=(1000, 1)), window=200)
        assert monitor.wait(60)
        monitor.add(random.normal(size=(600, 1)) + 1)
    else:
        monitor.plot().savefig(tmp_path / "empty.png")
        mixed = np.concatenate([domains.wordnet[1000:1600], domains.bible])
        monitor.add(mixed)
    figure = monitor.plot()
    times, places, residuals = figure.axes
    assert len(times.lines) == 5
    if scalar:
        assert len(places.lines) == 2
    else:
        shown = [len(each.get_offsets()) for each in places.collections]
        assert shown == [500, pytest.approx(200, abs=60)]
    assert len(residuals.lines) == 2
    figure.savefig(tmp_path / "drift.png")


@pytest.mark.parametrize(
    "labels", [np.arange(3), [1, 2, 3], ("a", None, "c"), 7, UUID(int=7), "one"], ids=repr
)
def test_labels_may_be_anything_and_cost_no_embedding(domains, reference, labels):
    """Sessions and ids as numbers, UUIDs, arrays; a key that is a number."""
    monitor = DriftMonitor("labels", reference, window=WINDOW)
    monitor.add(domains.wordnet[1000:1003], key=5, session=labels, ids=labels)  # type: ignore[arg-type]
    monitor.add(domains.wordnet[1003], key=5, session=7, ids=7)  # type: ignore[arg-type]
    status = monitor.status()
    assert dict(status.seen) == {"5": 4}
    assert not status.invalid
    assert all(isinstance(each.id, str) for each in status.keys[0].foreign)


@pytest.mark.parametrize("nothing", [[], np.zeros((0, 8)), None])
def test_nothing_says_nothing_of_what_will_be_watched(nothing):
    """An empty first batch must not make all that follow look odd."""
    monitor = DriftMonitor("late", "first:400", window=100)
    monitor.add(nothing)
    monitor.add(np.ones((3, 8)))
    status = monitor.status()
    assert status.learned == 3
    assert dict(status.invalid) == ({} if nothing is not None else {"unreadable": 1})


def test_tensors_are_read_whatever_their_precision_and_gradient(domains, reference):
    torch = pytest.importorskip("torch")
    monitor = DriftMonitor("tensors", reference, window=WINDOW)
    rows = torch.tensor(domains.wordnet[1000:1002])
    for each in (rows, rows[0], rows.requires_grad_(), rows.bfloat16()):
        monitor.add(each)
    assert dict(monitor.status().seen) == {"": 7}


def test_what_is_too_small_to_square_is_counted_as_zero(reference):
    monitor = DriftMonitor("small", reference, window=WINDOW)
    for size in (1e-38, 0.0, 1e38, np.nan):
        monitor.add(np.full(reference.dimension, size))
    assert dict(monitor.status().invalid) == {"zero": 2, "inf": 1, "nan": 1}
