"""The promised rates, in a light simulation on real embeddings; `nox -s drift-study` is the
full one.

The bounds are those of the full study with room for the error of a small simulation.
"""

from __future__ import annotations

import numpy as np
import pytest

from llmwatch.drift.reference import fit_reference
from llmwatch.drift.state import State, measure
from llmwatch.drift.verdict import judge
from tests.drift.conftest import WINDOW

REFERENCES, EACH, SIZE = 6, 24, 1000


def p_value(reference, rows) -> float:
    state = State.empty(reference)
    for start in range(0, len(rows), 64):
        block = rows[start : start + 64]
        state.add(measure(reference, block)[0])
    return judge(reference, state).p_value


@pytest.fixture(scope="module")
def fitted(domains):
    """Of several random references: the reference, and the embeddings that are not in it."""
    found = []
    for seed in range(REFERENCES):
        order = np.random.default_rng(seed).permutation(len(domains.wordnet))
        rows = domains.wordnet[order]
        reference = fit_reference(rows[:SIZE], window=WINDOW, seed=seed, replicates=1000)
        found.append((reference, rows[SIZE:]))
    return found


def test_false_alarms_are_as_rare_as_promised(fitted):
    random = np.random.default_rng(0)
    found = np.array(
        [
            p_value(reference, rest[random.permutation(len(rest))[:WINDOW]])
            for reference, rest in fitted
            for _ in range(EACH)
        ]
    )
    assert (found <= 0.05).mean() <= 0.10
    assert (found <= 0.001).mean() <= 0.015


@pytest.mark.parametrize(("share", "level", "least"), [(0.05, 0.05, 0.4), (0.10, 0.001, 0.5)])
def test_a_few_foreign_items_are_found(fitted, domains, share, level, least):
    random = np.random.default_rng(1)
    foreign = round(share * WINDOW)
    found = []
    for reference, rest in fitted:
        for strangers in (domains.pydoc, domains.bible):
            rows = rest[random.permutation(len(rest))[:WINDOW]].copy()
            rows[:foreign] = strangers[random.permutation(len(strangers))[:foreign]]
            found.append(p_value(reference, random.permutation(rows)) <= level)
    assert np.mean(found) >= least


def test_the_rows_that_are_counted_are_as_far_away_as_new_ones():
    """Nothing that residuals are measured by may know them. Of these vectors, whose residuals are
    nearly equal, half of the clean windows failed where the centre did."""
    vectors, p = np.eye(200, dtype=np.float32), []
    for seed in range(6):
        random = np.random.default_rng(seed)
        rows = vectors[random.integers(200, size=2000)]
        reference = fit_reference(rows, window=500, seed=seed, replicates=500)
        p += [p_value(reference, vectors[random.integers(200, size=500)]) for _ in range(10)]
    assert np.mean(np.array(p) <= 0.05) <= 0.1
