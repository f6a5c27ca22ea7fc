"""States: how items are cut into batches, and who saw them, does not matter."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwatch.drift.state import State, measure
from llmwatch.drift.subspace import BLOCK
from llmwatch.drift.verdict import judge
from tests.drift.conftest import WINDOW

few = settings(max_examples=15)


def state_of(reference, rows, cuts=(), marks=None) -> State:
    found = State.empty(reference)
    edges = [0, *sorted(cuts), len(rows)]
    for start, end in pairwise(edges):
        if end > start:
            found.add(measure(reference, rows[start:end], marks and marks[start:end])[0])
    return found


def same(one: State, other: State) -> None:
    """The sums that the statistics are made of are equal, up to rounding."""
    assert one.counts.tolist() == other.counts.tolist()
    assert one.shift == pytest.approx(other.shift, abs=1e-4)
    assert one.inside == pytest.approx(other.inside, abs=1e-2)
    assert one.energy == pytest.approx(other.energy, rel=1e-4)
    assert [each.id for each in one.foreign] == [each.id for each in other.foreign]
    assert one.count == other.count == one.counts.sum()


@few
@given(st.data())
def test_batches_may_be_cut_anywhere_and_come_in_any_order(domains, reference, data):
    rows = domains.wordnet[1000 : 1000 + WINDOW]
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=6))
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    whole, parts = state_of(reference, rows), state_of(reference, rows[order], cuts)
    same(whole, parts)
    one, other = judge(reference, whole), judge(reference, parts)
    assert one.centroid == pytest.approx(other.centroid, rel=1e-3)
    assert one.mahalanobis == pytest.approx(other.mahalanobis, rel=1e-3)
    assert one.foreign == pytest.approx(other.foreign)


@pytest.mark.parametrize("part", [1, 8, 16])
def test_parts_of_a_block_tell_what_the_block_does(domains, reference, part):
    """Of what comes together, too: near-duplicates in bursts of four."""
    rows = domains.wordnet[1000:1032].repeat(4, axis=0)
    rows += np.random.default_rng(0).normal(0, 1e-3, rows.shape).astype(np.float32)
    whole = state_of(reference, rows, [BLOCK])
    parts = state_of(reference, rows, range(part, len(rows), part))
    same(whole, parts)
    for name in ("blocks", "near", "far", "far_pairs"):
        assert getattr(parts, name) == getattr(whole, name) > 0 or name == "far"
    assert parts.between == pytest.approx(whole.between, rel=1e-4)


@few
@given(st.lists(st.integers(0, 300), min_size=3, max_size=3))
def test_merging_is_associative_and_equals_one_that_saw_all(domains, reference, sizes):
    start, parts, every = 1000, [], []
    for size in sizes:
        rows = domains.wordnet[start : start + size // 2]
        every.append(rows)
        parts.append(state_of(reference, rows))
        start += size // 2
    a, b, c = parts
    same(a.merge(b).merge(c), a.merge(b.merge(c)))
    same(a.merge(b), b.merge(a))
    same(
        a.merge(b).merge(c),
        state_of(reference, np.concatenate(every), np.cumsum([len(e) for e in every])[:2]),
    )


def test_a_state_holds_no_embedding_and_can_be_sent(domains, reference):
    sent = pickle.dumps(state_of(reference, domains.wordnet[1000:1200]))
    assert len(sent) < 12_000
    same(pickle.loads(sent), state_of(reference, domains.wordnet[1000:1200]))


def test_states_of_different_references_do_not_merge(reference):
    with pytest.raises(ValueError, match="different references"):
        State.empty(reference).merge(State("other", *[np.zeros(1)] * 3))  # type: ignore[list-item]


def test_the_most_foreign_items_are_kept_by_what_finds_them_again(domains, reference):
    """A trace as text or number, an id; items with neither cannot be told of."""
    rows = np.concatenate([domains.wordnet[1000:1060], domains.bible[:4]])
    marks = [("", f"t{index}") for index in range(len(rows))]
    residuals = measure(reference, rows)[0].residuals
    order = np.argsort(-residuals)
    found = [each.id for each in state_of(reference, rows, [20, 50], marks).foreign]
    assert found == [f"t{index}" for index in order[:5]]
    marks[order[0]], marks[order[1]] = ("", ""), (255, "")
    first, second = state_of(reference, rows, (), marks).foreign[:2]
    assert (first.trace, first.id) == (f"{255:032x}", "")
    assert second.id == f"t{order[2]}"
    assert not state_of(reference, rows).foreign
