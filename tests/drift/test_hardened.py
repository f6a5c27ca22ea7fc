"""What users hand over that is not what it seems; each once did harm."""

from __future__ import annotations

from time import monotonic

import numpy as np
import pytest

from llmwatch import ConfigError, DriftMonitor
from llmwatch.drift import files
from llmwatch.drift.intake import BLOCK
from llmwatch.drift.keys import MOST_KEYS, OTHER
from tests.drift.conftest import WINDOW


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def monitor(reference) -> DriftMonitor:
    return DriftMonitor("queries", reference, window=WINDOW)


@pytest.fixture
def scalar(random) -> DriftMonitor:
    found = DriftMonitor("lengths", random.normal(size=400), window=100)
    assert found.wait(60)
    return found


def test_a_reference_is_copied(random):
    """It is fitted on a thread, while the array may serve for something else already."""
    rows = random.normal(size=(800, 16)).astype(np.float32)
    ids = [f"text {index}" for index in range(len(rows))]
    monitor = DriftMonitor("queries", rows, window=100, ids=ids)
    same = DriftMonitor("queries", rows.copy(), window=100, ids=tuple(ids))
    rows[:] = 7
    ids[:] = ["gone"] * len(ids)
    assert monitor.wait(60)
    assert same.wait(60)
    assert monitor.reference.hash == same.reference.hash
    assert monitor.reference.regions.ids == same.reference.regions.ids


@pytest.mark.parametrize(
    ("reference", "settings", "message"),
    [
        (np.ones((100, 8)) * np.arange(1, 101)[:, None], {}, "100 usable embeddings"),
        (np.full((2000, 8), np.nan), {}, "0 usable embeddings"),
        (np.ones((2000, 8)), {}, "all equal"),
        (np.eye(2000), {"ids": ["one"]}, "1 ids cannot belong to 2000"),
        ("first:2000", {"ids": ["one"]}, "ids= belong to"),
        ("first:2000", {"seed": "x"}, "seed='x'"),
        ("first:2000", {"seed": -1}, "seed=-1"),
        ("first:2000", {"model": 5}, "model=5"),
        ("sliding:0s", {}, "sliding:0s"),
    ],
)
def test_what_can_never_work_is_said_at_once(reference, settings, message):
    with pytest.raises(ConfigError, match=message):
        DriftMonitor("queries", reference, **settings)


def test_a_vector_too_large_for_float32_is_left_out(monitor, domains):
    """Its square would overflow: no warning, and the rest of its batch counts."""
    rows = domains.wordnet[:BLOCK].copy()
    rows[3] *= 1e18
    monitor.add(rows)
    assert monitor.invalid == {"inf": 1}
    assert monitor.state().count == BLOCK - 1
    assert monitor.residuals()[1].count == BLOCK - 1


def test_a_batch_of_numbers_may_be_changed_once_it_was_added(scalar):
    values = np.ones((BLOCK, 1), np.float32)
    scalar.add(values)
    values[:] = -1e6
    totals = scalar.residuals()[1]
    assert (totals.count, totals.total, totals.low) == (BLOCK, BLOCK, 1)


def test_a_batch_that_is_still_the_callers_never_waits(monitor, domains, monkeypatch):
    """Another thread could take it from the buffer, and measure it once it has changed."""
    put = []
    monkeypatch.setattr(type(monitor._intake), "put", lambda _, item, many: put.append(many))
    monitor.add(domains.wordnet[:BLOCK])
    assert not put
    assert monitor.state().count == BLOCK


@pytest.mark.parametrize(
    "labels",
    [
        dict.fromkeys(map(str, range(10))).keys(),
        (str(index) for index in range(10)),
        np.arange(10),
        set(range(10)),
    ],
)
def test_labels_of_rows_may_be_any_collection(monitor, domains, labels):
    monitor.add(domains.wordnet[:10], session=labels)
    assert monitor.state().count == 10
    assert not monitor.invalid


def test_bytes_are_one_label(monitor, domains):
    monitor.add(domains.wordnet[:10], session=b"abc")
    assert monitor.state().count == 1


def test_zero_is_a_key(monitor, domains):
    monitor.add(domains.wordnet[:10], key=0)
    assert monitor.state("0").count == 10


class Unreadable:
    """Like a tensor that has no data."""

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise RuntimeError("no data")


@pytest.mark.parametrize("vectors", [Unreadable(), [Unreadable()], np.ones((3, 8)) * 1j])
def test_what_cannot_be_read_is_counted(monitor, vectors):
    monitor.add(vectors)
    assert monitor.invalid == {"unreadable": 1}


def test_masked_numbers_are_no_numbers(monitor, domains):
    rows = np.ma.array(domains.wordnet[:10].astype(np.float64))
    rows[2, 5] = np.ma.masked
    monitor.add(rows)
    assert monitor.state().count == 9
    assert monitor.invalid == {"nan": 1}


def test_keys_that_change_are_few_however_often_the_reference_is_renewed(reference, domains):
    monitor = DriftMonitor("queries", reference, window=WINDOW)
    for renewal in range(3):
        for index in range(MOST_KEYS):
            monitor.add(domains.wordnet[:2], key=f"{renewal} {index}")
        monitor.flush()
        monitor._watch(reference)
    seen = monitor.status().seen
    assert len(seen) <= MOST_KEYS + 2
    assert sum(seen.values()) == 3 * MOST_KEYS * 2
    assert seen[OTHER] > 0


def test_a_key_that_is_in_alarm_keeps_its_window(reference, domains):
    """Else its alarm would never be cleared."""
    monitor = DriftMonitor("queries", reference, window=WINDOW)
    for _ in range(3):
        monitor.add(domains.bible, key="bad")
    assert any(each.alarm for each in monitor.status().keys)
    for index in range(MOST_KEYS + 5):
        monitor.add(domains.wordnet[:2], key=str(index))
    keys = {each.key: each for each in monitor.status().keys}
    assert keys["bad"].alarm
    assert OTHER in keys


def test_a_picture_is_drawn_while_others_add(monitor, domains, monkeypatch):
    """Matplotlib takes a second to load."""
    pytest.importorskip("matplotlib")
    from llmwatch.drift import plot

    draw, locked = plot.draw, []

    def drawn(*args: object) -> object:
        locked.append(monitor._fold.locked())
        return draw(*args)

    monkeypatch.setattr(plot, "draw", drawn)
    monitor.add(domains.wordnet[: 2 * WINDOW])
    monitor.plot()
    assert locked == [False]


def test_no_state_cannot_be_saved(monitor, tmp_path):
    with pytest.raises(ConfigError, match="nothing was added"):
        files.save_state(monitor.state(), tmp_path / "state.npz")


def test_waiting_ends_where_there_can_be_no_reference(random):
    """A reference that is learned, and turns out to be none."""
    monitor = DriftMonitor("queries", "first:400", window=100)
    monitor.add(np.ones((400, 8)))
    started = monotonic()
    assert not monitor.wait(60)
    assert monotonic() - started < 50
    assert "all equal" in monitor.status().problem
