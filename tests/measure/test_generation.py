"""The arithmetic of local generation, against naive sums."""

from __future__ import annotations

from math import exp, log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwatch.measure.generation import Confidence, Decoding, row_length, summarise

SECONDS = st.floats(0.0001, 10.0)


@st.composite
def loops(draw: Any, drafted: bool = False, timed: bool = True) -> tuple[float, list[Decoding]]:
    """A start, and loops that follow one another; each gives its rows some tokens a step."""
    started = draw(st.floats(0, 1000))
    clock, made = started, []
    for _ in range(draw(st.integers(1, 3))):
        loop = Decoding(clock := clock + draw(SECONDS))
        loop.prepared = clock = clock + draw(SECONDS)
        loop.start = length = draw(st.integers(0, 20))
        loop.rows = draw(st.integers(1, 4))
        loop.prompt_tokens = loop.rows * length
        proposed = 0
        for _ in range(draw(st.integers(1, 8))):
            new = draw(st.integers(1, 4)) if drafted else 1
            proposed += draw(st.integers(new - 1, 5)) if drafted else 0
            clock += draw(SECONDS)
            length += new
            if timed:
                loop.arrivals.append(clock)
            loop.lengths.append(length)
        longest = length - loop.start
        shorter = st.integers(1, longest)
        loop.outputs = (longest, *(draw(shorter) for _ in range(loop.rows - 1)))
        loop.drafted = proposed if drafted else None
        made.append(loop)
    return started, made


@given(loops())
def test_times_are_the_naive_sums(given_loops):
    """First token, prefill, decoding, gaps; the time between loops is in none of them."""
    started, made = given_loops
    found = summarise(made, started)
    assert found.steps == sum(len(loop.lengths) for loop in made)
    assert found.time_to_first_token == made[0].arrivals[0] - started
    assert found.prefill_time == pytest.approx(
        sum(loop.arrivals[0] - loop.prepared for loop in made)
    )
    gaps = [
        loop.arrivals[index] - loop.arrivals[index - 1]
        for loop in made
        for index in range(1, len(loop.arrivals))
    ]
    assert list(found.gaps) == sorted(gaps)
    assert found.decode_time == pytest.approx(sum(gaps), abs=1e-6)
    if gaps:
        assert found.time_per_output_token == pytest.approx(sum(gaps) / len(gaps), abs=1e-6)
        for share in (0.01, 0.5, 0.95, 1.0):
            below = sum(gap <= found.quantile(share) for gap in gaps)
            assert below >= share * len(gaps) - 1e-9
    else:
        assert found.time_per_output_token is None
        assert found.quantile(0.5) is None


@given(loops())
def test_counts_are_the_naive_sums(given_loops):
    """Useful tokens and padding fill the slots."""
    started, made = given_loops
    found = summarise(made, started)
    tokens = [length for loop in made for length in loop.outputs]
    assert found.outputs == tuple(tokens)
    assert found.output_tokens == sum(tokens)
    assert found.prompt_tokens == sum(loop.prompt_tokens for loop in made)
    assert found.slots == sum(loop.rows * len(loop.lengths) for loop in made)
    assert found.padding == found.slots - sum(tokens)
    assert found.padding_share == pytest.approx(found.padding / found.slots, abs=1e-12)
    assert (found.drafted, found.accepted, found.acceptance) == (None, None, None)
    if found.decode_time:
        late = sum(tokens) - len(tokens)
        rate = late / found.decode_time if late else 0.0
        assert found.decode_rate == pytest.approx(rate)


@given(loops(drafted=True))
def test_what_was_accepted_is_what_came_beyond_one_a_step(given_loops):
    """Each step adds one token of the model's own."""
    started, made = given_loops
    found = summarise(made, started)
    accepted = sum(loop.lengths[-1] - loop.start - len(loop.lengths) for loop in made)
    assert found.accepted == accepted
    assert found.drafted == sum(loop.drafted for loop in made) >= accepted
    assert found.slots is None
    assert found.padding is None
    late = sum(loop.lengths[-1] - loop.lengths[0] for loop in made)
    if late:
        assert found.time_per_output_token == pytest.approx(found.decode_time / late)


@given(loops(timed=False))
def test_without_readings_there_are_counts_and_no_times(given_loops):
    """A device that nobody waits for."""
    started, made = given_loops
    found = summarise(made, started)
    assert found.steps > 0
    assert found.output_tokens
    times = (found.time_to_first_token, found.prefill_time, found.decode_time, found.decode_rate)
    assert times == (None, None, None, None)
    assert found.gaps == ()


@given(loops())
def test_an_interrupted_step_may_lack_its_length(given_loops):
    """Ctrl-C between two numbers of one step."""
    started, made = given_loops
    whole = summarise(made, started)
    made[-1].arrivals.append(made[-1].arrivals[-1] + 1.0)
    assert summarise(made, started) == whole


def test_nothing_is_known_of_no_loops():
    found = summarise([], 0.0)
    assert found.steps == 0
    assert all(value in (None, 0, ()) for value in found)
    assert found.output_tokens is None
    assert found.padding is None


@given(st.lists(st.integers(0, 5), max_size=30), st.sets(st.integers(0, 5), max_size=3))
def test_a_row_ends_with_its_first_end(row, ends):
    length, ended = row_length(row, ends)
    before = [token for token in row[: length - ended] if token in ends]
    assert before == []
    assert ended == any(token in ends for token in row)
    assert row[length - 1] in ends if ended else length == len(row)


@given(st.lists(st.lists(st.floats(0.001, 1.0), min_size=1), min_size=1, max_size=4))
def test_confidence_of_loops_is_that_of_all_tokens_together(shares):
    """Means over tokens, not over loops."""
    made = []
    for part in shares:
        loop = Decoding(0.0)
        logs = [log(share) for share in part]
        mean = sum(logs) / len(logs)
        loop.confidence = Confidence(len(part), -mean, mean, min(logs))
        made.append(loop)
    found = summarise(made, 0.0).confidence
    every = [log(share) for part in shares for share in part]
    assert found is not None
    assert found.tokens == len(every)
    assert found.logprob == pytest.approx(sum(every) / len(every))
    assert found.least == min(every)
    assert found.perplexity == pytest.approx(exp(-sum(every) / len(every)))
