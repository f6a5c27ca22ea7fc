"""What GPUs used is shared without loss, by tokens, and only where it is known."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwatch.measure import charge
from llmwatch.measure.charge import Charge, Ledger, Totals
from llmwatch.measure.machine import Device, Gpu

A, B = Device("GPU-a", "GPU 0", "NVIDIA"), Device("GPU-b", "GPU 1", "NVIDIA")


def gpu(energy=None, device=A, *, power=None, utilization=0.5, memory=100, share=1.0):
    return Gpu(
        device,
        energy=energy,
        power=power,
        utilization=utilization,
        memory_used=memory,
        own_share=share,
    )


def polled(ledger, seconds, watts=10.0):
    """A poll every second of one GPU that draws the same all the time."""
    for second in seconds:
        ledger.poll(second, [gpu(watts * second)])


def test_one_operation_gets_what_was_used_while_it_ran():
    ledger = Ledger()
    polled(ledger, range(1))
    ledger.start("a", 0.5)
    polled(ledger, range(1, 4))
    ledger.finish("a", 3.25, 100)
    assert ledger.settle() == {}  # the poll after its end is still to come
    polled(ledger, [4])
    settled = ledger.settle()["a"]
    assert settled == Charge(0.5, 0.5, 100, 100, pytest.approx(27.5), "counter", 2.75)
    assert ledger.totals == pytest.approx(Totals(27.5, 12.5, 0))


def test_concurrent_operations_share_by_output_tokens():
    ledger = Ledger()
    polled(ledger, [0])
    for key in "ab":
        ledger.start(key, 0)
    polled(ledger, [1, 2])
    ledger.finish("a", 2, 300)
    ledger.finish("b", 2, 100)
    polled(ledger, [3])
    settled = ledger.settle()
    assert [settled[key].energy for key in "ab"] == pytest.approx([15, 5])
    assert [settled[key].gpu_time for key in "ab"] == pytest.approx([1.5, 0.5])


def test_who_says_no_tokens_shares_equally():
    ledger = Ledger()
    polled(ledger, [0])
    for key in "ab":
        ledger.start(key, 0)
    polled(ledger, [1, 2])
    ledger.finish("a", 2, 300)
    ledger.finish("b", 2, None)
    polled(ledger, [3])
    assert [each.energy for each in ledger.settle().values()] == pytest.approx([10, 10])


def test_an_operation_waits_for_those_beside_it_and_for_no_later_one():
    ledger = Ledger()
    polled(ledger, [0])
    ledger.start("long", 0)
    ledger.start("short", 0.5)
    polled(ledger, [1, 2, 3])
    ledger.finish("short", 3, 10)
    polled(ledger, [4])
    assert ledger.settle() == {}
    ledger.finish("long", 4.2, 10)
    ledger.start("next", 4.3)
    polled(ledger, [5])
    assert set(ledger.settle()) == {"short", "long"}


@pytest.mark.parametrize(("start", "end"), [(0.1, 0.9), (0.1, 1.9), (1.2, 1.2)])
def test_shorter_than_two_polls_is_nothing(start, end):
    ledger = Ledger()
    polled(ledger, [0])
    ledger.start("a", start)
    polled(ledger, [1])
    ledger.finish("a", end, 10)
    polled(ledger, [2])
    assert ledger.settle() == {"a": None}


def test_what_began_before_the_first_poll_has_no_energy():
    ledger = Ledger()
    ledger.start("a", -1)
    polled(ledger, range(3))
    ledger.finish("a", 2, 10)
    assert ledger.settle()["a"] == Charge(0.5, 0.5, 100, 100)


def test_without_a_counter_power_is_integrated():
    ledger = Ledger()
    ledger.poll(0, [gpu(power=10)])
    ledger.start("a", 0)
    ledger.poll(1, [gpu(power=20)])
    ledger.poll(2, [gpu(power=40)])
    ledger.finish("a", 2, 10)
    settled = ledger.settle()["a"]
    assert (settled.energy, settled.energy_source) == (pytest.approx(45), "power")


def test_what_cannot_be_read_at_all_gives_no_energy():
    ledger = Ledger()
    ledger.poll(0, [gpu()])
    ledger.start("a", 0)
    ledger.poll(1, [gpu()])
    ledger.poll(2, [gpu()])
    ledger.finish("a", 2, 10)
    settled = ledger.settle()["a"]
    assert settled.energy is settled.gpu_time is settled.energy_source is None
    assert settled.utilization_mean == 0.5


def test_others_use_is_nobodys_here():
    ledger = Ledger()
    ledger.poll(0, [gpu(0, share=0.25)])
    ledger.start("a", 0)
    ledger.poll(1, [gpu(10, share=0.25)])
    ledger.poll(2, [gpu(20, share=0.25)])
    ledger.finish("a", 2, 10)
    ledger.poll(3, [gpu(30, share=0.25)])
    assert ledger.settle()["a"].energy == pytest.approx(5)
    assert ledger.totals == pytest.approx(Totals(5, 2.5, 22.5))


def test_where_our_share_is_not_known_nothing_is_charged():
    ledger = Ledger()
    ledger.poll(0, [gpu(0)])
    ledger.start("a", 0)
    ledger.poll(1, [gpu(10)])
    ledger.poll(2, [gpu(20, share=None)])
    ledger.finish("a", 2, 10)
    assert ledger.settle()["a"].energy is None
    assert ledger.totals == pytest.approx(Totals(10, 0, 10))


def test_a_lost_device_leaves_a_hole_that_nobody_pays_for():
    """What it used meanwhile is known when it is back, but not when it was used."""
    ledger = Ledger()
    ledger.poll(0, [gpu(0), gpu(0, B)])
    ledger.start("a", 0)
    ledger.poll(1, [gpu(10)])
    ledger.start("b", 1)
    ledger.poll(2, [gpu(20)])
    ledger.poll(3, [gpu(30)])
    ledger.finish("b", 3, 10)
    ledger.poll(4, [gpu(40), gpu(80, B)])
    ledger.finish("a", 4, 10)
    ledger.start("c", 4)
    ledger.poll(5, [gpu(50), gpu(100, B)])
    ledger.poll(6, [gpu(60), gpu(120, B)])
    ledger.finish("c", 6, 10)
    settled = ledger.settle()
    assert [settled[key].energy for key in "ab"] == [None, None]
    assert settled["c"].energy == pytest.approx(60)
    assert sum(ledger.totals) == pytest.approx(60 + 120)


def test_a_counter_that_cannot_be_read_for_once_is_not_made_up_for_by_power():
    """It tells of that time later: both would count it twice. When it was used is not known."""
    ledger = Ledger()
    ledger.poll(0, [gpu(0, power=10)])
    ledger.start("a", 0)
    ledger.poll(1, [gpu(10, power=10)])
    ledger.poll(2, [gpu(None, power=10)])
    ledger.finish("a", 2.5, 10)
    ledger.start("b", 2.5)
    ledger.poll(3, [gpu(30, power=10)])
    ledger.finish("b", 4, 10)
    ledger.poll(4, [gpu(40, power=10)])
    ledger.start("c", 4)
    ledger.poll(5, [gpu(50, power=10)])
    ledger.finish("c", 6, 10)
    ledger.poll(6, [gpu(60, power=10)])
    settled = ledger.settle()
    assert settled["a"].energy is settled["b"].energy is None
    assert settled["c"].energy == 20
    assert sum(ledger.totals) == pytest.approx(60)


def test_a_counter_that_starts_anew_says_nothing_of_what_was_between():
    ledger = Ledger()
    ledger.poll(0, [gpu(1000)])
    ledger.start("a", 0)
    ledger.poll(1, [gpu(5)])
    ledger.poll(2, [gpu(15)])
    ledger.finish("a", 2, 10)
    assert ledger.settle()["a"].energy is None
    assert ledger.totals == pytest.approx(Totals(10, 0, 0))


def test_several_gpus_add_up():
    ledger = Ledger()
    ledger.poll(0, [gpu(0), gpu(0, B)])
    ledger.start("a", 0)
    for second in (1, 2):
        first, other = gpu(10 * second, utilization=0.2), gpu(30 * second, B, utilization=0.8)
        ledger.poll(second, [first, other])
    ledger.finish("a", 2, 10)
    settled = ledger.settle()["a"]
    assert settled == Charge(0.5, 0.8, 200, 200, pytest.approx(80), "counter", 4)


def test_what_is_forgotten_is_nobodys_and_is_not_lost():
    """The totals go on: they are still what the counter advanced."""
    ledger = Ledger()
    polled(ledger, [0])
    ledger.start("a", 0.5)
    polled(ledger, [1, 2])
    ledger.settle()  # idle until 0.5; the rest waits
    ledger.forget()
    ledger.finish("a", 2.5, 100)
    ledger.start("b", 2)
    polled(ledger, [3, 4])
    ledger.finish("b", 3.5, 100)
    polled(ledger, [5])
    assert list(ledger.settle()) == ["b"]
    assert ledger.totals == pytest.approx(Totals(requests=15, idle=20, unattributed=15))


def test_what_is_dropped_counts_as_idle():
    ledger = Ledger()
    polled(ledger, [0])
    ledger.start("a", 0)
    polled(ledger, [1])
    ledger.drop("a")
    ledger.finish("a", 1, 1)
    assert ledger.settle() == {}
    assert ledger.totals == pytest.approx(Totals(0, 10, 0))


def test_an_operation_that_never_ends_is_given_up(monkeypatch):
    monkeypatch.setattr(charge, "MOST_INTERVALS", 10)
    ledger = Ledger()
    polled(ledger, [0])
    ledger.start("a", 0)
    for second in range(1, 100):
        polled(ledger, [second])
        assert ledger.settle() == {}
        assert len(ledger._intervals) <= 10
    assert sum(ledger.totals) == pytest.approx(990)


# --- against a naive oracle -----------------------------------------------------------------------

LAST = 30
spans = st.tuples(
    st.integers(0, LAST), st.integers(0, LAST), st.one_of(st.none(), st.integers(0, 50))
).map(lambda given: (min(given[:2]), max(given[:2]), given[2]))
polls = st.sets(st.integers(1, LAST - 1)).map(lambda given: sorted({0, LAST, *given}))


@given(
    operations=st.lists(spans, max_size=6),
    polls=polls,
    watts=st.lists(st.integers(0, 9), min_size=LAST, max_size=LAST),
    shares=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=LAST + 1, max_size=LAST + 1),
    settle_often=st.booleans(),
)
def test_shares_are_what_counting_tick_by_tick_gives(
    operations, polls, watts, shares, settle_often
):
    """And together they are what the counter advanced, however often they are settled."""
    energy = [0]
    for each in watts:
        energy.append(energy[-1] + each)
    ledger, settled = Ledger(), {}
    for now in polls:
        for key, (start, end, tokens) in enumerate(operations):
            if start <= now and key not in settled and key not in ledger._running:
                ledger.start(key, start)
            if end <= now:
                ledger.finish(key, end, tokens)
        ledger.poll(now, [gpu(energy[now], share=shares[now])])
        if settle_often or now == polls[-1]:
            settled |= ledger.settle()
    assert set(settled) == set(range(len(operations)))
    assert sum(ledger.totals) == pytest.approx(energy[-1])
    expected = counted_by_ticks(operations, polls, energy, shares)
    for key, (start, end, _) in enumerate(operations):
        inside = sum(start <= poll <= end for poll in polls)
        if inside < 2:
            assert settled[key] is None
        else:
            assert settled[key].energy == pytest.approx(expected[key])
    everybody = sum(expected)
    assert ledger.totals.requests == pytest.approx(everybody)


def counted_by_ticks(operations, polls, energy, shares):
    expected = [0.0] * len(operations)
    for start, end in pairwise(polls):
        per_tick = (energy[end] - energy[start]) / (end - start) * shares[end]
        for tick in range(start, end):
            here = [key for key, each in enumerate(operations) if each[0] <= tick < each[1]]
            made = {
                key: None
                if operations[key][2] is None
                else operations[key][2] / (operations[key][1] - operations[key][0])
                for key in here
            }
            known = [rate for rate in made.values() if rate is not None]
            for key in here:
                if len(known) == len(here) and sum(known):
                    expected[key] += per_tick * made[key] / sum(known)
                else:
                    expected[key] += per_tick / len(here)
    return expected
