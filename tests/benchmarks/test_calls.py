"""CPU time that watching adds, in a worker process in which watchers take turns.

The figures are medians of the turns; what is asserted has slack, for a busy machine disturbs these.
What has none is counted in instructions: see `test_instructions`.
"""

from __future__ import annotations

import pytest

from tests.benchmarks.processes import Costs, compare
from tests.benchmarks.table import seconds
from tests.benchmarks.work import CHUNKS_EACH

SLACK = 0.25
"""Share by which figures of the same code differ between two runs on a shared machine."""


def both(costs: Costs, units: int = 1) -> str:
    """What is added: the median, and the least."""
    return f"{seconds(costs.added / units)} (least {seconds(costs.least / units)})"


def test_a_chat_call(worker, turns, overhead):
    """Span, metrics and usage cost no more than by hand."""
    hand, ours = compare(worker, "chat", "by hand", "llmwatch", times=30, turns=turns)
    overhead(
        "A call",
        "chat: CPU added",
        both(ours),
        f"by hand: {both(hand)}",
        ours.added / hand.added,
        1.2 + SLACK,
    )


@pytest.mark.parametrize("work", ["chat", "responses"])
def test_a_share_of_the_bare_call(worker, turns, overhead, work):
    """A call to a server that answers at once costs less than twice the client's own work."""
    (ours,) = compare(worker, work, "llmwatch", times=30, turns=turns)
    overhead(
        "A call",
        f"{work}: CPU added, beside the bare call's",
        both(ours),
        f"the bare call: {seconds(min(ours.bare))}",
        ours.ratio,
        2.0,
    )


def test_a_chat_call_whose_content_is_captured(worker, turns, overhead):
    """Content on the span and on an event."""
    plain, ours = compare(
        worker, "chat", "llmwatch", "llmwatch with content", times=30, turns=turns
    )
    overhead(
        "A call",
        "chat, content captured: CPU added",
        both(ours),
        f"without content: {both(plain)}",
        ours.added / plain.added,
        3.0,
    )


@pytest.mark.parametrize(
    ("work", "watcher", "most"),
    [
        ("stream of 256", "llmwatch", 0.02),
        ("responses stream of 256", "llmwatch", 0.05),
        ("stream of 256", "llmwatch with content", 0.15),
    ],
)
def test_a_stream(worker, turns, overhead, work, watcher, most):
    """A stream of chat chunks costs hardly more than one that is timed by hand."""
    hand, ours = compare(worker, work, "by hand", watcher, times=3, turns=turns)
    # Only chat is watched by hand: beside that, the bare stream is the measure.
    by_hand = hand.ratio if work == "stream of 256" else 1.0
    overhead(
        "A stream",
        f"{work}{watcher.removeprefix('llmwatch')}: ratio to bare",
        f"{ours.ratio:.3f}; {both(ours)} added",
        f"by hand: {by_hand:.3f}" if work == "stream of 256" else "bare: 1",
        ours.ratio / by_hand,
        1 + most + SLACK / 10,
    )


def test_a_chunk_of_many_streams_at_once(worker, turns, overhead):
    """Asynchronous streams side by side cost no more a chunk than by hand."""
    hand, ours = compare(
        worker, "64 streams at once", "by hand", "llmwatch", times=1, turns=turns // 2
    )
    chunks = 64 * CHUNKS_EACH
    overhead(
        "A stream",
        "64 asynchronous streams at once: CPU added a chunk",
        both(ours, chunks),
        f"by hand: {both(hand, chunks)}",
        ours.added / hand.added,
        1.2 + SLACK,
    )


@pytest.mark.parametrize("work", ["64 vectors of 1536", "64 encoded vectors of 1536"])
def test_embeddings(worker, turns, overhead, work):
    """Beside the client's own work on vectors, ours is lost."""
    (ours,) = compare(worker, work, "llmwatch", times=3 if "encoded" in work else 1, turns=turns)
    overhead(
        "Other work",
        f"embeddings, {work}: ratio to bare",
        f"{ours.ratio:.3f}; {both(ours)} added",
        f"the bare call: {seconds(min(ours.bare))}",
        ours.ratio,
        1.2,
    )


def test_collecting_the_metrics(worker, turns, overhead):
    """What every export interval costs, with the metrics of one model."""
    hand, ours = (
        min(worker("collect", each, 20) / 20 for _ in range(turns))
        for each in ("by hand", "llmwatch")
    )
    overhead(
        "Other work",
        "CPU of one collection of the metrics",
        seconds(ours),
        f"by hand, a sixth as many metrics: {seconds(hand)}",
        ours / hand,
        12.0,
    )
