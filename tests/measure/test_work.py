"""The work of forwards, from that of a few."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwatch.measure.work import MOST_KINDS, Amount, Given, Works

WIDTH, HEADS = 64, 4


def transformer(batch: int, length: int, cached: int) -> dict[str, Amount]:
    """A block and a head that looks at the last token only, by hand."""
    tokens, context = batch * length, cached + length
    attention = 4 * tokens * context * WIDTH
    return {
        "block": Amount(
            24.0 * tokens * WIDTH**2 + attention,
            4.0 * (12 * WIDTH**2 + 10 * tokens * WIDTH + 2 * batch * context * WIDTH),
        ),
        "head": Amount(2.0 * batch * WIDTH * 1000, 4.0 * (WIDTH * 1000 + batch * 1000)),
    }


def known(*counted: tuple[int, int, int]) -> Works:
    works = Works()
    for each in counted:
        works.add(Given("ids", *each), transformer(*each))
    return works


def test_nothing_is_known_of_what_was_never_counted():
    works = known((1, 8, 0))
    assert works.get(Given("ids", 1, 8, 0)) == transformer(1, 8, 0)
    assert works.get(Given("ids", 1, 9, 0)) is None
    assert works.get(Given("pixels", 1, 8, 0)) is None
    assert works.wants(Given("ids", 1, 9, 0))
    assert not works.wants(Given("ids", 1, 8, 0))


@given(cached=st.integers(1, 4000))
def test_two_decode_steps_say_what_all_others_are(cached):
    works = known((1, 1, 900), (1, 1, 1001))
    found = works.get(Given("ids", 1, 1, cached))
    assert found is not None
    for name, amount in transformer(1, 1, cached).items():
        assert found[name] == pytest.approx(amount, rel=1e-6)


@given(st.integers(1, 8), st.integers(1, 300), st.integers(0, 900))
def test_a_handful_of_forwards_says_what_any_is(batch, length, cached):
    works = known((1, 8, 0), (1, 200, 0), (1, 30, 20), (4, 200, 800), (2, 64, 0), (2, 1, 400))
    found = works.get(Given("ids", batch, length, cached))
    assert found is not None
    for name, amount in transformer(batch, length, cached).items():
        assert found[name] == pytest.approx(amount, rel=1e-5)


def test_nothing_is_said_of_forwards_that_are_much_larger():
    works = known((1, 1, 10), (1, 1, 20))
    assert works.get(Given("ids", 1, 1, 60)) is not None
    assert works.get(Given("ids", 1, 1, 6000)) is None


def test_the_first_that_was_foreseen_is_counted_to_see_whether_it_is_like_that():
    works = known((1, 1, 10), (1, 1, 20))
    assert works.wants(Given("ids", 1, 1, 30))
    works.add(Given("ids", 1, 1, 30), transformer(1, 1, 30))
    assert not works.wants(Given("ids", 1, 1, 40))


def test_where_it_is_not_like_that_only_what_was_counted_is_known():
    works = known((1, 1, 10), (1, 1, 20))
    works.add(Given("ids", 1, 1, 30), transformer(1, 1, 3000))
    assert works.get(Given("ids", 1, 1, 40)) is None
    assert works.get(Given("ids", 1, 1, 30)) == transformer(1, 1, 3000)


def test_kinds_that_were_not_used_for_long_go():
    works = Works()
    for kind in range(MOST_KINDS + 1):
        works.add(Given(kind, 1, 1), {"": Amount(1.0, 1.0)})
    assert works.get(Given(0, 1, 1)) is None
    assert works.get(Given(MOST_KINDS, 1, 1)) == {"": Amount(1.0, 1.0)}
