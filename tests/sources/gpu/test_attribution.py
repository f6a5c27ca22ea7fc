"""Operations that run here are charged with what the GPUs did for them."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import llmwatch
from llmwatch import session
from llmwatch.measure.charge import Ledger
from llmwatch.signals.observed import FRESH
from llmwatch.sources.gpu import attribution, nvidia, patience
from llmwatch.sources.gpu.library import Library
from llmwatch.testing import capture
from tests.fake_nvml import GIB

pytestmark = pytest.mark.timing

POLL = 0.05
WATTS = 250
COUNTING = f"0+{WATTS * 1000}t"
"""An energy counter, in millijoules."""


@llmwatch.watch(model="tiny-lm")
def generate(seconds, tokens=100, inside=None):
    llmwatch.current().usage(output_tokens=tokens)
    time.sleep(seconds)
    if inside is not None:
        inside()


@llmwatch.watch(operation="execute_tool", name="tool")
def tool(inside):
    time.sleep(0.3)
    inside()


@pytest.fixture
def seen(driver):
    """Everything of a program on one GPU that draws the same all the time."""
    driver.add(energy=COUNTING)
    driver.start()
    with capture(sources=["gpu"], gpu_poll_interval=POLL, gpu_price=3.6) as seen:
        wait_for_polls(1)
        yield seen


def wait_for_polls(number):
    ledger = session.current().signals.holder._ledger
    before, deadline = ledger._last, time.monotonic() + 5
    for _ in range(number):
        while ledger._last is before and time.monotonic() < deadline:
            time.sleep(0.005)
        before = ledger._last


def gpu_attributes(span):
    return {
        key.removeprefix("llmwatch.gpu."): value
        for key, value in span.attributes.items()
        if key.startswith("llmwatch.gpu.")
    }


def duration(span):
    return (span.end_time - span.start_time) / 1e9


def test_a_local_operation_knows_what_it_used(seen):
    generate(0.4, tokens=50)
    llmwatch.flush()
    (span,) = seen.spans
    found = gpu_attributes(span)
    joules = found["energy.used"]
    assert joules == pytest.approx(WATTS * duration(span), rel=0.25)
    assert found == {
        "utilization.mean": pytest.approx(0.4),
        "utilization.max": pytest.approx(0.4),
        "memory.usage.mean": 20 * 1024**3,
        "memory.usage.max": 20 * 1024**3,
        "energy.used": joules,
        "energy.source": "counter",
        "energy.per_token": pytest.approx(joules / 50),
        "time": pytest.approx(duration(span), rel=0.05),
        "cost.usd": pytest.approx(0.001 * found["time"]),
    }
    metrics = seen.metrics()
    (point,) = metrics["llmwatch.gpu.operation.energy"]
    assert point.sum == pytest.approx(joules)
    assert metrics["llmwatch.gpu.operation.energy_per_token"][0].sum == pytest.approx(joules / 50)
    assert metrics["llmwatch.gpu.operation.cost"][0].sum == pytest.approx(found["cost.usd"])
    for name, value in {
        "utilization": 0.4,
        "utilization_peak": 0.4,
        "memory": 20 * GIB,
        "memory_peak": 20 * GIB,
    }.items():
        (point,) = metrics[f"llmwatch.gpu.operation.{name}"]
        assert (point.count, point.sum) == (1, pytest.approx(value))


def test_the_span_ends_when_the_call_did_though_it_is_told_of_later(seen):
    """And it comes by itself, with the next poll."""
    generate(0.2)
    ended = time.time_ns()
    assert not seen.spans
    wait_for_polls(3)
    (span,) = seen.spans
    assert ended - 50_000_000 < span.end_time <= ended


def test_concurrent_operations_share_by_tokens(seen):
    with ThreadPoolExecutor() as pool:
        list(pool.map(generate, [0.4, 0.4], [300, 100]))
    llmwatch.flush()
    first, second = (gpu_attributes(each)["energy.used"] for each in seen.spans)
    high, low = max(first, second), min(first, second)
    assert high / low == pytest.approx(3, rel=0.3)
    assert high + low == pytest.approx(WATTS * 0.4, rel=0.3)


def test_what_is_shared_is_what_the_counter_advanced(driver, monkeypatch):
    """Requests, idleness and others' use together, to the millijoule."""
    driver.add(energy=COUNTING)
    counter, poll = [], Ledger.poll

    def noted(ledger, at, gpus):
        counter.extend(gpu.energy for gpu in gpus)
        poll(ledger, at, gpus)

    monkeypatch.setattr(Ledger, "poll", noted)
    with capture(sources=["gpu"], gpu_poll_interval=POLL) as seen:
        wait_for_polls(1)
        generate(0.3)
        time.sleep(0.2)
        generate(0.2)
        llmwatch.flush()
        totals = {
            point.attributes["llmwatch.gpu.energy.to"]: point.value
            for point in seen.metrics()["llmwatch.gpu.energy.attributed"]
        }
    advanced = [round(each - counter[0], 3) for each in counter]
    assert round(sum(totals.values()), 3) in advanced[-4:]  # polls go on after the collection
    charged = sum(gpu_attributes(each)["energy.used"] for each in seen.spans)
    assert totals["requests"] == pytest.approx(charged)
    assert totals["idle"] > 0.15 * WATTS


def test_shorter_than_two_polls_has_no_value(seen):
    generate(POLL / 5)
    llmwatch.flush()
    (span,) = seen.spans
    assert gpu_attributes(span) == {}
    assert "llmwatch.gpu.operation.energy" not in seen.metrics()


def test_tools_and_agents_are_not_charged_but_the_models_in_them_are(seen):
    tool(lambda: generate(0.2))
    llmwatch.flush()
    charged = {span.name: "energy.used" in gpu_attributes(span) for span in seen.spans}
    assert charged == {"chat tiny-lm": True, "execute_tool tool": False}


def test_a_model_in_a_model_is_charged_once(seen):
    generate(0.2, inside=lambda: generate(0.2, tokens=7))
    llmwatch.flush()
    charged = {
        span.attributes["gen_ai.usage.output_tokens"]: "energy.used" in gpu_attributes(span)
        for span in seen.spans
    }
    assert charged == {7: True, 100: False}


def test_a_remote_call_is_never_charged_nor_who_waits_for_it(seen):
    def remote():
        operation = session.current().signals.start("chat", "openai", "gpt", {})
        time.sleep(0.2)
        operation.finish()

    remote()
    generate(0.1, inside=remote)
    llmwatch.flush()
    assert len(seen.spans) == 3
    assert not any(gpu_attributes(span) for span in seen.spans)


def test_a_failure_is_told_of_at_once(seen):
    """Holding the error would hold what its traceback holds."""

    def fail():
        raise KeyError

    with pytest.raises(KeyError):
        generate(0.2, inside=fail)
    assert len(seen.spans) == 1


def test_an_operation_beside_one_that_goes_on_is_told_of_in_time(seen, monkeypatch):
    monkeypatch.setattr(attribution, "HOLD_LIMIT", 0.2)
    thread = threading.Thread(target=generate, args=(1.0,))
    thread.start()
    generate(0.2)
    time.sleep(0.5)
    (span,) = seen.spans
    assert "energy.used" not in gpu_attributes(span)
    thread.join()
    llmwatch.flush()
    assert "energy.used" in gpu_attributes(seen.spans[1])


def test_where_more_wait_than_may_they_are_told_of_at_once(seen, monkeypatch):
    monkeypatch.setattr(attribution, "MOST_HELD", 0)
    generate(0.01)
    assert len(seen.spans) == 1


def test_uninstrumenting_tells_of_everything_and_leaves_no_thread(driver):
    driver.add(energy=COUNTING)
    with capture(sources=["gpu"], gpu_poll_interval=POLL) as seen:
        wait_for_polls(1)
        assert "llmwatch-gpu" in {each.name for each in threading.enumerate()}
        generate(0.3)
        llmwatch.uninstrument()
        assert "llmwatch-gpu" not in {each.name for each in threading.enumerate()}
        assert "energy.used" in gpu_attributes(seen.spans[0])


@pytest.fixture
def hanging(driver, monkeypatch):
    """A driver in whose middle the poller, and everybody who asks it, is stuck."""
    monkeypatch.setattr(attribution, "WAIT", 0.1)
    monkeypatch.setattr(attribution, "HANGS", 0.1)
    monkeypatch.setattr(nvidia, "CLOSE_WAIT", 0.1)
    monkeypatch.setattr(patience, "PATIENCE", 0.1)
    answers = threading.Event()
    driver.add(energy=COUNTING)
    ask = Library.ask
    hangs = threading.Event()

    def ask_and_wait(self, *arguments):
        if hangs.is_set():
            answers.wait(20)
        return ask(self, *arguments)

    monkeypatch.setattr(Library, "ask", ask_and_wait)
    with capture(sources=["gpu"], gpu_poll_interval=POLL) as seen:
        wait_for_polls(1)
        hangs.set()
        generate(2 * POLL)  # it is held: the poll that would settle it does not end
        yield seen
        answers.set()
    for thread in threading.enumerate():
        if thread.name.startswith("llmwatch-gpu"):
            thread.join(5)
            assert not thread.is_alive()


def test_a_driver_that_hangs_holds_up_neither_a_flush_nor_the_end(hanging):
    start = time.monotonic()
    llmwatch.flush()
    assert [span.name for span in hanging.spans] == ["chat tiny-lm"]
    assert "energy.used" not in gpu_attributes(hanging.spans[0])
    hanging.metrics()
    llmwatch.uninstrument()
    assert time.monotonic() - start < 5


def test_a_driver_that_hangs_holds_no_operation_back(hanging):
    """What was held is let go by those that end later, and these are told of at once."""
    time.sleep(2 * attribution.HANGS)
    generate(0.01)
    assert len(hanging.spans) == 2


def test_where_notes_were_lost_sharing_starts_anew(seen, monkeypatch):
    """One whose end was forgotten must not keep all later ones waiting."""
    mine = session.current().signals.holder
    mine._note(mine._ledger.start, 10**9, time.perf_counter())  # and it never ends
    wait_for_polls(1)
    with monkeypatch.context() as few:
        few.setattr(attribution, "MOST_NOTES", 1)
        mine._note(mine._ledger.drop, 0)
        wait_for_polls(2)
    generate(0.3)
    llmwatch.flush()
    assert gpu_attributes(seen.spans[0])["energy.used"] > 0


def test_without_a_gpu_nothing_waits(driver):
    with capture(gpu_poll_interval=POLL) as seen:
        time.sleep(2 * POLL)
        generate(0.01)
        assert len(seen.spans) == 1


def test_a_forked_child_polls_by_itself_and_leaves_the_parents_alone(seen, tmp_path):
    generate(0.15)
    pid = os.fork()
    if pid == 0:
        seen.clear()
        mine = session.current().signals.holder
        generate(0.01)  # starts the thread
        deadline = time.monotonic() + 5
        while not mine._watching and time.monotonic() < deadline:
            time.sleep(0.01)
        generate(0.3)
        mine.release()
        spans = [gpu_attributes(span) for span in seen.spans]
        os._exit(0 if len(spans) == 2 and spans[1].get("energy.used", 0) > 30 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    llmwatch.flush()
    assert len(seen.spans) == 1
    assert "energy.used" in gpu_attributes(seen.spans[0])
    forget_the_child(tmp_path / "log")


def test_what_began_in_the_parent_and_ends_in_a_child_is_told_of_there(seen, tmp_path):
    """Nobody polls in that child, so that nobody would ever let go of it."""
    parent = os.getpid()

    @llmwatch.watch(model="tiny-lm")
    def forks():
        time.sleep(2 * POLL)
        return os.fork()

    pid = forks()
    if os.getpid() != parent:
        os._exit(0 if not session.current().signals.holder._held else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    forget_the_child(tmp_path / "log")


def forget_the_child(log):
    """It ended without closing the library, which is not ours to close."""
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(line for line in lines if line.endswith(f" {os.getpid()}\n")))


def test_peaks_between_collections_are_seen(driver):
    """And each is told once: the next collection tells of what came after."""

    def peaks():
        time.sleep(FRESH)
        found = seen.metrics()
        return [
            [point.value for point in found.get(f"llmwatch.gpu.peak.{name}", [])]
            for name in ("utilization", "memory.usage", "power")
        ]

    driver.add()
    with capture(sources=["gpu"], gpu_poll_interval=POLL) as seen:
        wait_for_polls(1)
        assert peaks() == [[0.4], [20 * GIB], [250]]
        driver.set("0", util=97, memory__used=70 * GIB, power=690_000)
        wait_for_polls(2)
        driver.set("0", util=3, memory__used=GIB, power=70_000)
        wait_for_polls(2)
        assert peaks() == [[0.97], [70 * GIB], [690]]
        wait_for_polls(1)
        assert peaks() == [[0.03], [GIB], [70]]


def test_without_a_poller_there_are_no_peaks(driver):
    driver.add()
    with capture(sources=["gpu"]) as seen:
        metrics = seen.metrics()
    assert "hw.power" in metrics
    assert not [name for name in metrics if name.startswith("llmwatch.gpu.peak")]


def test_a_price_without_polling_is_an_error(driver):
    driver.add()
    with pytest.raises(llmwatch.ConfigError, match="gpu_poll_interval too"):
        llmwatch.instrument(sources=["gpu"], gpu_price=2.5)
