"""Which forwards are sampled, on a clock that the test moves."""

from __future__ import annotations

from itertools import pairwise

import pytest

from llmwatch.sources.torch_layers.schedule import Schedule


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(schedule: Schedule, phases: list[str], clock: Clock, step: float) -> list[int]:
    """Which of the forwards are sampled, *step* seconds apart."""
    found = []
    for index, phase in enumerate(phases):
        clock.now += step
        if schedule.counts() and schedule.due(phase):
            schedule.took(phase)
            found.append(index)
    return found


def test_every_forward_is_every_forward():
    clock = Clock()
    assert taken(Schedule(1, 0.0, clock), ["forward"] * 5, clock, 0.01) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("every", [2, 10, 100])
def test_one_in_so_many_at_distances_that_differ(every):
    """The share is right, no stretch is left out, and a program that repeats itself is met
    everywhere."""
    clock = Clock()
    found = taken(Schedule(every, 0.0, clock), ["forward"] * 400 * every, clock, 0.01)
    assert len(found) == pytest.approx(400, rel=0.15)
    gaps = [later - earlier for earlier, later in pairwise(found)]
    assert max(gaps) < 2 * every
    assert len({index % every for index in found}) > every // 2


def test_the_first_forward_is_a_warm_up_but_where_every_one_is_asked_for():
    clock = Clock()
    assert taken(Schedule(1, 1.0, clock), ["forward"] * 3, clock, 0.1) == [1]


def test_no_more_than_one_of_a_phase_in_so_many_seconds():
    """A prefill among many decode steps has turns of its own."""
    clock = Clock()
    phases = (["prefill"] + ["decode"] * 119) * 10
    found = taken(Schedule(1, 1.0, clock), phases, clock, 0.01)
    kinds = [phases[index] for index in found]
    assert 9 <= kinds.count("prefill") <= 10
    assert 11 <= kinds.count("decode") <= 12


def test_what_is_asked_for_is_sampled_at_once_and_once():
    clock = Clock()
    schedule = Schedule(1000, 1000.0, clock)
    assert taken(schedule, ["forward"] * 5, clock, 0.01) == [1]
    schedule.asked = True
    assert taken(schedule, ["forward"] * 5, clock, 0.01) == [0]
