"""From marks to the time of each layer: trees, shares, sums; nothing here knows of torch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwatch.measure.layers import (
    OURS,
    Call,
    Interval,
    Layer,
    LayerSample,
    Totals,
    backward_calls,
    calls,
)

LAYERS = tuple(
    Layer(f"l{number}" if number else "", "Linear", int(number > 0)) for number in range(6)
)


class Tree:
    """A call, how long it works itself, and the calls in it, as a naive oracle sees them."""

    def __init__(self, number: int, works: int, inner: list[Tree]) -> None:
        self.number, self.works, self.inner = number, works, inner

    @property
    def elapsed(self) -> int:
        return self.works + sum(each.elapsed for each in self.inner)

    @property
    def total(self) -> int:
        """Without our own time."""
        return self.works + sum(each.total for each in self.inner if each.number != OURS)

    def flat(self) -> list[Tree]:
        """The calls in the order in which they begin, ours left out."""
        if self.number == OURS:
            return []
        return [self, *(call for each in self.inner for call in each.flat())]

    def marks(self, at: int = 0) -> list[tuple[int, int]]:
        """Codes and stamps: it works before the calls in it."""
        found = [(self.number, at)]
        at += self.works
        for each in self.inner:
            found += each.marks(at)
            at += each.elapsed
        return [*found, (~self.number, at)]


def trees() -> st.SearchStrategy[Tree]:
    number, works = st.integers(1, 5), st.integers(0, 50)
    ours = st.builds(Tree, st.just(OURS), works, st.just([]))
    inner = st.recursive(
        st.builds(Tree, number, works, st.lists(ours, max_size=1)),
        lambda more: st.builds(Tree, number, works, st.lists(st.one_of(more, ours), max_size=4)),
        max_leaves=12,
    )
    return st.builds(Tree, st.just(0), works, st.lists(st.one_of(inner, ours), max_size=4))


@given(trees())
def test_calls_are_what_a_naive_tree_says(tree):
    """Order, parents, own and whole times; what llmwatch did meanwhile is in none of them."""
    codes, stamps = zip(*tree.marks(), strict=True)
    found = calls(LAYERS, codes, stamps)
    expected = tree.flat()
    assert [each.layer for each in found] == [LAYERS[each.number] for each in expected]
    assert [each.total_time for each in found] == [each.total for each in expected]
    assert [each.self_time for each in found] == [each.works for each in expected]
    for at, each in enumerate(expected):
        for inner in each.inner:
            if inner.number != OURS:
                assert found[expected.index(inner)].parent == at


@given(trees())
def test_self_times_sum_to_the_whole(tree):
    codes, stamps = zip(*tree.marks(), strict=True)
    found = calls(LAYERS, codes, stamps)
    assert sum(each.self_time for each in found) == found[0].total_time


@given(trees(), st.integers(0, 30))
def test_marks_that_are_missing_are_noticed(tree, lost):
    """A mark fewer never gives numbers that look right."""
    marks = tree.marks()
    del marks[lost % len(marks)]
    codes, stamps = zip(*marks, strict=True) if marks else ((), ())
    with pytest.raises(ValueError, match=r"leave|left"):
        calls(LAYERS, codes, stamps)


def test_the_hosts_clock_and_memory_are_kept_beside():
    """Both clocks tell their own story; what we allocated between two layers is nobody's."""
    codes = [0, 1, ~1, ~0]
    found = calls(LAYERS, codes, [0, 2, 5, 9], host=[0, 1, 2, 3], memory=[100, 100, 164, 130])
    assert found[0] == Call(LAYERS[0], None, 0, 6, 9, 3, 30)
    assert found[1] == Call(LAYERS[1], 0, 1, 3, 3, 1, 64)


# --- sums ----------------------------------------------------------------------------------------


def sample(tree: Tree, phase: str = "forward", tokens: int | None = None) -> LayerSample:
    codes, stamps = zip(*tree.marks(), strict=True)
    found = calls(LAYERS, codes, stamps)
    return LayerSample("m", phase, "cpu", 0, found[0].total_time, found, tokens=tokens)


samples = st.lists(
    st.builds(
        sample, trees(), st.sampled_from(["prefill", "decode"]), st.sampled_from([None, 1, 7])
    ),
    max_size=6,
)


@given(samples)
def test_totals_are_sums(seen):
    """Of every phase and layer; shares of own times sum to one."""
    totals = Totals()
    for each in seen:
        totals.add(each)
    rows = totals.rows()
    for row in rows:
        those = [s for s in seen if s.phase == row.phase]
        mine = [c for s in those for c in s.calls if c.layer == row.layer]
        assert row.calls == len(mine)
        assert row.self_time == sum(c.self_time for c in mine)
        assert row.longest == max(c.total_time for c in mine)
        assert row.passes == sum(any(c.layer == row.layer for c in s.calls) for s in those)
        assert row.total_time <= sum(s.total_time for s in those)
    for phase, seconds in totals.seconds.items():
        shares = sum(row.share for row in rows if row.phase == phase)
        assert shares == (pytest.approx(1) if seconds else 0)


@given(samples, samples)
def test_totals_made_apart_can_be_merged(first, second):
    together, one, other = Totals(), Totals(), Totals()
    for each in first:
        together.add(each)
        one.add(each)
    for each in second:
        together.add(each)
        other.add(each)
    one.merge(other)
    assert set(one.rows()) == set(together.rows())
    assert (one.passes, one.seconds, one.tokens) == (
        together.passes,
        together.seconds,
        together.tokens,
    )


def test_a_layer_inside_itself_counts_once_in_its_total():
    """A recursive layer is not longer than the forward it is in."""
    totals = Totals()
    totals.add(sample(Tree(0, 1, [Tree(1, 2, [Tree(1, 3, [])])])))
    row = totals.rows()[1]
    assert (row.calls, row.self_time, row.total_time) == (2, 5, 5)


# --- backward passes -----------------------------------------------------------------------------


def test_a_chain_is_told_apart_in_reverse():
    """The last layer comes first; what is between layers is the whole pass's own."""
    found = backward_calls(
        LAYERS,
        [Interval(0, None, 0.0, 10.0), Interval(1, 0, 6.0, 9.0), Interval(2, 0, 1.0, 6.0)],
    )
    assert [(c.layer.name, c.started, c.self_time, c.parent) for c in found] == [
        ("", 0.0, 2.0, None),
        ("l2", 1.0, 5.0, 0),
        ("l1", 6.0, 3.0, 0),
    ]


def test_overlapping_siblings_are_left_out_with_what_is_in_them():
    """Three projections of one input cannot be told apart."""
    found = backward_calls(
        LAYERS,
        [
            Interval(0, None, 0.0, 10.0),
            Interval(1, 0, 1.0, 5.0),
            Interval(2, 0, 2.0, 5.0),
            Interval(3, 1, 2.0, 3.0),
            Interval(4, 0, 6.0, 8.0),
            Interval(5, 0, None, 9.0),
        ],
    )
    assert [c.layer.name for c in found] == ["", "l4"]
    assert found[0].self_time == 8.0


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), max_size=8),
    st.lists(st.integers(0, 8), min_size=8, max_size=8),
)
def test_backward_times_never_exceed_the_pass(pairs, parents):
    """Whatever the stamps are, own times are not negative and sum to no more than the whole."""
    intervals = [Interval(0, None, 0.0, 100.0)]
    for (one, other), parent in zip(pairs, parents, strict=False):
        intervals.append(Interval(1, parent % len(intervals), one, other))
    found = backward_calls(LAYERS, intervals)
    assert all(each.self_time >= 0 for each in found)
    assert sum(each.self_time for each in found) <= 100 + 1e-6
    for each in found:
        if each.parent is not None:
            outer = found[each.parent]
            assert outer.started <= each.started
            assert each.started + each.total_time <= outer.started + outer.total_time + 1e-6
