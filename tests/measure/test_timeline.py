"""Laws of the arithmetic on chunk times, against a naive reading of the definitions."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from llmwatch.measure.record import OperationRecord, Series, Usage
from llmwatch.measure.timeline import LONG_WAIT, SHORT_WAIT, TOLERANCE, StreamTiming, Timeline

steps = st.lists(
    st.tuples(
        st.floats(0, 3 * TOLERANCE)
        | st.floats(0, 100 * TOLERANCE),  # the consumer's pause before it asks
        st.floats(0, 3 * TOLERANCE)
        | st.floats(0, 9 * TOLERANCE),  # the wait until the chunk is there
        st.booleans(),  # a chunk that carries no output by its kind
    ),
    max_size=30,
)


def build(chunks: list[tuple[float, float, bool]]) -> Timeline:
    timeline = Timeline(10.0)
    now = 10.0
    for index, (pause, wait, silent) in enumerate(chunks):
        timeline.asked.append(now := now + pause)
        timeline.got.append(now := now + wait)
        if silent:
            timeline.silent.append(index)
    return timeline


def naive_gaps(timeline: Timeline) -> list[float]:
    ready = naive_ready(timeline)
    loud = [index for index in range(len(timeline.got)) if index not in timeline.silent]
    return sorted(
        timeline.got[after] - timeline.got[before]
        for before, after in pairwise(loud)
        if before not in ready and after not in ready
    )


def naive_ready(timeline: Timeline) -> set[int]:
    """A chunk is ready if its consumer was away and it had not to be waited for, or if the one
    before it was ready, unless both of them had to be waited for, or this one for long."""
    ready: set[int] = set()
    waits = [got - asked for asked, got in zip(timeline.asked, timeline.got, strict=True)]
    for index, wait in enumerate(waits):
        pause = timeline.asked[index] - (timeline.got[index - 1] if index else timeline.started)
        if pause > TOLERANCE:
            late = wait < max(TOLERANCE, SHORT_WAIT * pause)
        else:
            both = index > 0 and min(wait, waits[index - 1]) >= TOLERANCE
            late = index - 1 in ready and not both and wait < LONG_WAIT
        if late:
            ready.add(index)
    return ready


@given(steps)
def test_gaps_are_those_between_loud_chunks_that_were_waited_for(
    chunks: list[tuple[float, float, bool]],
) -> None:
    """Every gap is a difference of two arrivals, and none touches a chunk that was ready."""
    timeline = build(chunks)
    assert timeline.summary().gaps == tuple(naive_gaps(timeline))


@given(steps)
def test_waiting_and_consuming_make_up_the_whole_stream(
    chunks: list[tuple[float, float, bool]],
) -> None:
    """Server wait and consumer time add up to the time from the start to the last chunk."""
    timeline = build(chunks)
    timing = timeline.summary()
    whole = timeline.got[-1] - timeline.started if chunks else 0.0
    assert math.isclose(timing.server_wait + timing.consumer_time, whole, abs_tol=1e-9)
    assert math.isclose(timing.server_wait, sum(wait for _, wait, _ in chunks), abs_tol=1e-9)
    assert timing.chunks == sum(not silent for *_, silent in chunks)


@given(steps)
def test_the_first_chunk_is_timed_only_if_it_was_waited_for(
    chunks: list[tuple[float, float, bool]],
) -> None:
    """A first chunk that lay ready says nothing of the server, so its time is absent."""
    timeline = build(chunks)
    loud = [index for index, (*_, silent) in enumerate(chunks) if not silent]
    expected = None
    if loud and loud[0] not in naive_ready(timeline):
        expected = timeline.got[loud[0]] - timeline.started
    assert timeline.summary().time_to_first_chunk == expected


@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=50), st.floats(0, 1))
def test_a_quantile_is_one_of_the_gaps_and_has_its_share_below(
    gaps: list[float], share: float
) -> None:
    """Nearest rank: the smallest gap that at least that share of the gaps do not exceed."""
    timing = StreamTiming(0, 0, None, None, None, None, 0.0, 0.0, tuple(sorted(gaps)))
    found = timing.quantile(share)
    assert found in gaps
    assert sum(gap <= found for gap in gaps) >= share * len(gaps)
    assert sum(gap < found for gap in gaps) <= share * len(gaps)


def test_without_chunks_nothing_is_claimed() -> None:
    """An empty stream has no times at all."""
    timing = Timeline(1.0).summary()
    assert timing == StreamTiming(0, 0, None, None, None, None, 0.0, 0.0, ())
    assert timing.quantile(0.5) is None


def test_what_piled_up_while_the_consumer_was_away_says_nothing_of_the_server() -> None:
    """After one pause of 1 s, forty chunks are read at once: none of them makes a gap."""
    timeline = Timeline(0.0)
    timeline.first_output = 0
    timeline.asked.append(1.0)
    timeline.got.append(1.0001)
    for _ in range(39):
        timeline.asked.append(timeline.got[-1] + 1e-5)
        timeline.got.append(timeline.asked[-1] + 1e-4)
    for _ in range(3):  # and from here on the server is waited for again
        timeline.asked.append(timeline.got[-1] + 1e-5)
        timeline.got.append(timeline.asked[-1] + 0.02)
    timing = timeline.summary()
    assert timing.ready_chunks == 40
    assert len(timing.gaps) == 2
    assert timing.time_to_first_output is None
    assert timing.output_span is None
    assert timing.last is None


def test_stalls_are_gaps_longer_than_the_threshold() -> None:
    """A gap of exactly the threshold is no stall."""
    timing = StreamTiming(0, 0, None, None, None, None, 0.0, 0.0, (0.1, 0.5, 0.5, 0.7))
    assert timing.stalls(0.5) == 1


def test_a_stream_opened_late_by_its_consumer_has_no_time_to_first_chunk() -> None:
    """A consumer who waits 2 s before the first read finds the chunk ready: its time is unknown."""
    timeline = Timeline(0.0)
    timeline.opened = 0.1
    timeline.asked.append(2.1)
    timeline.got.append(2.1001)
    assert timeline.summary().time_to_first_chunk is None
    assert timeline.summary().ready_chunks == 1


def record(
    usage: Usage | None, output_span: float | None, duration: float = 2.0
) -> OperationRecord:
    timing = StreamTiming(3, 0, None, None, None, output_span, 0.0, 0.0, (), last=1.0)
    return OperationRecord(Series("chat", "openai"), duration, 0, usage, timing)


def test_time_per_output_token_needs_two_tokens() -> None:
    """TPOT is one mean per request, undefined below two tokens or without usage."""
    assert record(Usage(1, 5), 2.0).time_per_output_token == 0.5
    assert record(Usage(1, 1), 2.0).time_per_output_token is None
    assert record(None, 2.0).time_per_output_token is None
    assert record(Usage(1, 5), None).time_per_output_token is None


def test_reasoning_that_was_not_streamed_is_no_part_of_the_time_per_token() -> None:
    """Hidden reasoning happens before the first chunk; streamed reasoning between the chunks."""
    usage = Usage(1, 25, reasoning_tokens=20)
    hidden = record(usage, 2.0)
    assert hidden.time_per_output_token == 0.5
    assert hidden.timing is not None
    streamed = hidden._replace(timing=hidden.timing._replace(reasoning_streamed=True))
    assert streamed.time_per_output_token == 2.0 / 24


def test_output_token_rate_is_absent_without_output_tokens() -> None:
    """No usage, no rate: never a zero for the unknown."""
    assert record(Usage(1, 10), None).output_token_rate == 10.0
    assert OperationRecord(Series("chat", "openai"), 2.0, 0, Usage(1, 10)).output_token_rate == 5.0
    assert record(Usage(1, None), None).output_token_rate is None
    assert record(None, None).output_token_rate is None
