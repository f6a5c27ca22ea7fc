"""Numbers are judged by their ranks: no unit, no tail and no equal numbers confuse a verdict."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwatch import DriftMonitor
from llmwatch.drift import files, numbers
from llmwatch.drift.reference import fit_reference
from llmwatch.drift.state import State, measure
from llmwatch.drift.verdict import Verdict, judge

SIZE, WINDOW = 1000, 200

DRAW = {
    "normal": lambda random, many: random.normal(size=many),
    "heavy tail": lambda random, many: np.exp(2 * random.normal(size=many)),
    "lengths": lambda random, many: np.minimum(random.geometric(0.01, size=many), 256),
    "rare": lambda random, many: random.random(many) < 0.003,
    "never": lambda _, many: np.zeros(many),
}


def together(stay):
    """Normal numbers, each of which is like the one before."""

    def draw(random, many):
        noise = random.normal(size=many) * (1 - stay**2) ** 0.5
        noise[0] = random.normal()
        return np.array(list(accumulate(noise, lambda before, new: stay * before + new)))

    return draw


def verdict(reference, values) -> Verdict:
    rows = np.asarray(values, np.float32)[:, None]
    state = State.empty(reference)
    for start in range(0, len(rows), 64):
        state.add(measure(reference, rows[start : start + 64])[0])
    return judge(reference, state)


@pytest.mark.parametrize("kind", DRAW)
def test_the_rate_of_false_alarms_holds_whatever_the_distribution(kind):
    """1200 clean windows of 60 references: within two deviations of 5 % and of 0.1 %."""
    found = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        reference = fit_reference(DRAW[kind](random, SIZE), window=WINDOW, replicates=500)
        found += [verdict(reference, DRAW[kind](random, WINDOW)).p_value for _ in range(20)]
    assert np.mean(np.array(found) <= 0.05) <= 0.07
    assert np.mean(np.array(found) <= 0.001) <= 0.004


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("kind", "after"),
    [
        ("normal", lambda random, many: random.normal(size=many) + 0.5),
        ("normal", lambda random, many: random.normal(size=many) - 0.5),
        ("normal", lambda random, many: random.normal(size=many) * 0.3),
        ("normal", lambda random, many: random.normal(size=many) * 3),
        ("heavy tail", lambda random, many: 2 * np.exp(2 * random.normal(size=many))),
        ("lengths", lambda random, many: np.minimum(random.geometric(0.02, size=many), 256)),
        ("rare", lambda random, many: random.random(many) < 0.06),
        ("never", lambda random, many: random.random(many) < 0.06),
        ("never", lambda random, many: -1.0 * (random.random(many) < 0.06)),
    ],
)
def test_a_shift_to_either_side_a_spread_and_what_never_was_are_noticed(kind, after, seed):
    random = np.random.default_rng(seed)
    monitor = DriftMonitor("number", DRAW[kind](random, SIZE), window=WINDOW)
    assert monitor.wait(60)
    monitor.add(DRAW[kind](random, 600))
    assert not monitor.status().alarm
    monitor.add(after(random, 600))
    assert monitor.status().alarm


def test_one_refusal_is_no_alarm_where_there_was_none():
    """A thousand without one do not say that there is none: a rate of 0.1 % would look the same."""
    reference = fit_reference(np.zeros(SIZE), window=WINDOW)
    values = np.zeros(WINDOW)
    found = []
    for many in range(8):
        values[: 25 * many : 25] = 1
        found.append(verdict(reference, values).p_value)
    assert found == sorted(found, reverse=True)
    assert found[1] > 0.05
    assert found[7] < 0.001


@pytest.mark.parametrize("run", [5, 10])
def test_runs_of_equal_numbers_tell_less(run):
    """Latencies of a busy minute are one witness: the verdict rests on fewer."""
    found = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        reference = fit_reference(random.normal(size=SIZE), window=WINDOW, replicates=500)
        few = WINDOW // run
        found += [verdict(reference, random.normal(size=few).repeat(run)) for _ in range(10)]
    assert np.median([each.dependence for each in found]) > run
    assert np.mean([each.p_value <= 0.05 for each in found]) <= 0.1


@pytest.mark.parametrize("stay", [0.3, 0.9])
def test_numbers_that_are_like_the_one_before_tell_less(stay):
    """The design effect of such numbers is known: (1 + correlation) / (1 - correlation)."""
    draw, found = together(stay), []
    for seed in range(30):
        random = np.random.default_rng(seed)
        reference = fit_reference(draw(random, SIZE), window=WINDOW, replicates=500)
        found += [verdict(reference, draw(random, WINDOW)) for _ in range(20)]
    design = np.array([each.dependence for each in found])
    assert np.median(design) > (1 + stay) / (1 - stay)
    p = np.array([each.p_value for each in found])
    assert np.mean(p <= 0.05) <= 0.1
    assert np.mean(p <= 0.001) <= 0.006


def test_what_stays_alike_for_long_is_seen_under_noise():
    """Where half the variance has a correlation of 0.95 and half none, the design effect is 20."""
    alike, found = together(0.95), []
    for seed in range(20):
        random = np.random.default_rng(seed)
        reference = fit_reference(
            alike(random, 2000) + random.normal(size=2000), window=500, replicates=500
        )
        found += [
            verdict(reference, alike(random, 500) + random.normal(size=500)) for _ in range(20)
        ]
    assert np.median([each.dependence for each in found]) > 15
    p = np.array([each.p_value for each in found])
    assert np.mean(p <= 0.05) <= 0.1


def test_numbers_that_come_one_by_one_have_neighbours_too():
    """A program that is slow to answer, and asked for its status often, adds blocks of one."""
    random = np.random.default_rng(0)
    reference = fit_reference(random.normal(size=SIZE), window=WINDOW, replicates=500)
    rows = np.asarray(together(0.9)(random, WINDOW), np.float32)[:, None]
    one, whole = State.empty(reference), State.empty(reference)
    whole.add(measure(reference, rows)[0])
    for row in rows:
        one.add(measure(reference, row[None])[0])
    assert one.neighbours == whole.neighbours == WINDOW - 1
    assert one.steps == pytest.approx(whole.steps, rel=1e-5)
    assert judge(reference, one).dependence > 10


@pytest.mark.parametrize("value", [9.0, -9.0])
def test_equal_numbers_far_away_are_no_sign_of_dependence(value):
    """They do not vary at all: what rounding leaves of that must not be taken for it."""
    reference = fit_reference(np.random.default_rng(0).normal(size=SIZE), window=WINDOW)
    found = verdict(reference, np.full(WINDOW, value))
    assert found.dependence == 1
    assert found.p_value < 1e-6


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12).filter(any))
def test_a_score_is_the_mean_rank_of_its_bin(counts):
    """The naive one: how many lie below, and half of those that are equal."""
    found = numbers.scores(np.array(counts))
    for index, score in enumerate(found.tolist()):
        naive = (sum(counts[:index]) + counts[index] / 2) / sum(counts)
        assert score == pytest.approx((naive - 0.5) * 12**0.5)
    assert found @ np.array(counts) == pytest.approx(0, abs=1e-9)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=8, max_size=100))
def test_the_end_bins_hold_nothing_of_the_reference(values):
    edges = numbers.edges(np.array(values, np.float32))
    assert edges[0] < min(values)
    assert max(values) < edges[-1]
    assert len(edges) <= 63


def test_numbers_come_alone_or_many_and_in_any_cut():
    random = np.random.default_rng(1)
    reference = fit_reference(random.normal(size=SIZE), window=WINDOW)
    values = random.normal(size=300).astype(np.float32)
    one, other = (DriftMonitor(name, reference, window=WINDOW) for name in ("one", "other"))
    one.add(values)
    for value in values.tolist():
        other.add(value)
    one.add([np.nan, np.inf, 0.0])
    assert one.status().invalid == {"nan": 1, "inf": 1}
    other.add(0.0)
    assert one.state().counts.tolist() == other.state().counts.tolist()
    assert one.state().inside == pytest.approx(other.state().inside, abs=1e-3)


def test_a_saved_reference_of_numbers_is_the_same_again(tmp_path):
    reference = fit_reference(np.zeros(SIZE), window=WINDOW, model="m")
    files.save(reference, tmp_path / "refusals.npz")
    again = files.load(tmp_path / "refusals.npz")
    assert again.hash == reference.hash
    assert again.scores.tolist() == reference.scores.tolist()
    assert again.totals == reference.totals
    assert len(again.totals.edges) == 2


def test_the_numbers_farthest_from_the_mean_are_the_most_foreign():
    reference = fit_reference(np.full(SIZE, 100.0), window=WINDOW)
    monitor = DriftMonitor("number", reference, window=WINDOW)
    monitor.add([100.0, 1.0, 100.0, 150.0], ids=["a", "b", "c", "d"])
    assert monitor.status().keys[0].foreign_ids[:2] == ("b", "d")
