"""Instructions that watching adds: exact where CPU time is not, if valgrind is installed."""

from __future__ import annotations

import pytest

from tests.benchmarks.processes import instructions, why_no_callgrind
from tests.benchmarks.work import CHUNKS_EACH

VECTORS = ("1 vector of 8", "16 vectors of 8", "1 vector of 1536", "16 vectors of 1536")
JOBS = {
    "chat": 10,
    "responses": 5,
    "stream of 16": 4,
    "stream of 256": 2,
    "4 streams at once": 2,
    **dict.fromkeys(VECTORS, 4),
}
"""How many units of each work are counted."""

NOISE = 25_000
"""Instructions a call by which two counts of the same work differ, by what the interpreter caches."""

pytestmark = pytest.mark.skipif(why_no_callgrind() is not None, reason=str(why_no_callgrind()))


BY_HAND = ("chat", "stream of 256", "4 streams at once")
"""What is watched by hand."""


@pytest.fixture(scope="session")
def counted(tmp_path_factory):
    """Instructions a unit, by watcher and work."""
    jobs = {
        (watcher, work): times
        for work, times in JOBS.items()
        for watcher in ("nobody", "by hand", "llmwatch")
        if watcher != "by hand" or work in BY_HAND
    }
    return instructions(jobs, tmp_path_factory.mktemp("callgrind"))


@pytest.fixture(scope="session")
def added(counted):
    """What a watcher adds to one unit of a work."""
    return lambda watcher, work: counted[watcher, work] - counted["nobody", work]


def thousands(value: float) -> str:
    return f"{value / 1000:.0f} k"


def test_a_chat_call(added, overhead):
    """At most a fifth more than by hand, with more to tell."""
    ours, hand = added("llmwatch", "chat"), added("by hand", "chat")
    overhead(
        "A call",
        "chat: instructions added",
        thousands(ours),
        f"by hand: {thousands(hand)}",
        ours / hand,
        1.2,
    )


def test_a_responses_call(added, counted, overhead):
    ours, bare = added("llmwatch", "responses"), counted["nobody", "responses"]
    overhead(
        "A call",
        "responses: instructions added",
        thousands(ours),
        f"the bare call: {thousands(bare)}",
        ours / bare,
        1.0,
    )


def test_a_chunk(added, counted, overhead):
    """By the difference between a long stream and a short one."""

    def each(of):
        return (of("stream of 256") - of("stream of 16")) / 240

    ours = each(lambda work: added("llmwatch", work))
    bare = each(lambda work: counted["nobody", work])
    overhead(
        "A stream",
        "instructions added to a chunk",
        thousands(ours),
        f"the bare chunk: {thousands(bare)}",
        ours / bare,
        0.05,
    )


def test_a_stream(added, counted, overhead):
    """As a ratio to the bare stream, hardly more than by hand."""
    bare = counted["nobody", "stream of 256"]
    ours, hand = (1 + added(watcher, "stream of 256") / bare for watcher in ("llmwatch", "by hand"))
    overhead(
        "A stream",
        "stream of 256: instructions, ratio to bare",
        f"{ours:.4f}",
        f"by hand: {hand:.4f}",
        1 + ours - hand,
        1.02,
    )


def test_a_chunk_of_several_streams_at_once(counted, overhead):
    """Asynchronous streams side by side, each with what it costs to begin and to end."""
    work, chunks = "4 streams at once", 4 * CHUNKS_EACH
    ours, hand = (counted[watcher, work] / chunks for watcher in ("llmwatch", "by hand"))
    overhead(
        "A stream",
        f"asynchronous streams of {CHUNKS_EACH} at once: instructions a chunk, the client's too",
        thousands(ours),
        f"by hand: {thousands(hand)}",
        ours / hand,
        1.05,
    )


def test_vectors_are_never_walked(added, overhead):
    """Neither more vectors nor longer ones cost anything more."""
    small = added("llmwatch", VECTORS[0])
    most = max(VECTORS[1:], key=lambda work: added("llmwatch", work))
    overhead(
        "Other work",
        f"embeddings, {most}: instructions added",
        thousands(added("llmwatch", most)),
        f"{VECTORS[0]}: {thousands(small)}",
        added("llmwatch", most) / small,
        1 + NOISE / small,
    )
