"""What is said of the process, checked against the system's own figures and known loads."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader

import llmwatch
from llmwatch import session
from llmwatch.signals.observed import FRESH
from llmwatch.sources.process import source
from llmwatch.sources.process.pauses import GcPauses, LoopLag
from llmwatch.testing import capture
from tests.sources.process import alone
from tests.sources.process.alone import MIB, read

ROOT = Path(__file__).parents[3]
HAS_PSUTIL = find_spec("psutil") is not None
needs_psutil = pytest.mark.skipif(not HAS_PSUTIL, reason="needs the extra host")
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.fixture
def seen():
    with capture(sources=["process"] if HAS_PSUTIL else None) as seen:
        yield seen


@pytest.mark.timing
@needs_psutil
@needs_proc
@pytest.mark.parametrize("program", alone.PROGRAMS, ids=lambda each: each.__name__)
def test_it_is_true(program):
    """Each of the laws in `alone`, in a process where nothing else happens."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", alone.__name__, program.__name__],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_forced_collection_is_counted_and_timed(seen):
    generation = {"cpython.gc.generation": 2}
    before = read(seen, "cpython.gc.collections", **generation) or 0
    spent = read(seen, "llmwatch.process.gc.time", **generation) or 0
    held = [[] for _ in range(200_000)]
    for each in held:
        each.append(each)
    start = time.perf_counter()
    gc.collect()
    took = time.perf_counter() - start
    del held, each
    assert read(seen, "cpython.gc.collections", **generation) >= before + 1
    assert read(seen, "llmwatch.process.gc.time", **generation) - spent > 0.5 * took
    assert took > 0.001


def test_the_longest_pause_is_told_once():
    pauses = GcPauses()
    gc.disable()  # else threads of other tests may cause a collection of their own
    try:
        pauses.install()
        gc.collect()
        pauses.undo()
        pauses.undo()
        assert pauses.counts[2] == 1
        assert pauses.take_longest() > 0
        assert pauses.take_longest() is None
        gc.collect()
        assert pauses.counts[2] == 1
    finally:
        gc.enable()


@llmwatch.watch(model="tiny-lm")
async def generate():
    await asyncio.sleep(0)


@pytest.mark.timing
async def test_a_loop_that_is_held_up_is_late(seen):
    def collect():
        return read(seen, "llmwatch.process.event_loop.lag")

    await generate()
    assert await asyncio.to_thread(collect) is None  # it was not asked before
    await asyncio.sleep(0.05)
    free = await asyncio.to_thread(collect)
    assert free < 0.2
    collecting = asyncio.create_task(asyncio.to_thread(collect))
    await asyncio.sleep(2 * FRESH + 0.1)  # it asks, and is answered
    await collecting
    thread = threading.Thread(target=collect)
    thread.start()
    time.sleep(0.5)  # noqa: ASYNC251 - it asks while the loop does something else
    await asyncio.to_thread(thread.join)
    assert 0.2 < await asyncio.to_thread(collect) < 2


def test_a_loop_that_ended_is_not_asked(seen):
    asyncio.run(generate())
    for _ in range(3):
        assert read(seen, "llmwatch.process.event_loop.lag") is None


def test_a_loop_at_rest_is_not_late():
    """As a program has one that calls `run_until_complete` now and then."""
    lag = LoopLag()
    loop = asyncio.new_event_loop()

    async def work():
        lag.started(None)
        await asyncio.sleep(0)

    loop.run_until_complete(work())
    assert lag.take() is None
    time.sleep(0.2)
    loop.run_until_complete(work())  # what was asked meanwhile would be answered now
    assert lag.take() is None
    loop.close()
    assert lag.take() is None


def test_loops_may_start_while_a_collection_asks():
    lag = LoopLag()
    ends = threading.Event()

    async def work():
        lag.started(None)

    def start_loops():
        while not ends.is_set():
            asyncio.run(work())

    threads = [threading.Thread(target=start_loops) for _ in range(2)]
    for each in threads:
        each.start()
    try:
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            lag.take()
    finally:
        ends.set()
        for each in threads:
            each.join()


@needs_psutil
def test_a_forked_child_speaks_of_itself(seen):
    read(seen, "process.memory.usage")
    held = bytearray(os.urandom(MIB)) * 100
    pid = os.fork()
    if pid == 0:
        del held
        owners = [getattr(each, "__self__", None) for each in session.current()._undo]
        (mine,) = [each for each in owners if isinstance(each, source.Source)]
        memory = mine._reading("memory")[0].value
        status = Path("/proc/self/status").read_text()
        rss = int(status.partition("VmRSS:")[2].split()[0]) * 1024
        os._exit(0 if abs(memory - rss) < 20 * MIB else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_sum_never_falls_however_often_it_is_instrumented():
    """Not for a reader of differences either, which cannot tell a fall from a new beginning."""
    reader = InMemoryMetricReader({ObservableCounter: AggregationTemporality.DELTA})
    provider = MeterProvider([reader])
    gc.disable()  # else threads of other tests may cause a collection of their own
    try:
        for collections in (3, 2, 4):
            llmwatch.instrument(meter_provider=provider)
            for _ in range(collections):
                gc.collect()
            assert collected(reader) == collections
            assert collected(reader) == 0
            llmwatch.uninstrument()
    finally:
        gc.enable()
        provider.shutdown()


def collected(reader):
    """Full collections since this was last asked."""
    time.sleep(FRESH)
    (resource,) = reader.get_metrics_data().resource_metrics
    (value,) = [
        point.value
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "cpython.gc.collections"
        for point in metric.data.data_points
        if point.attributes == {"cpython.gc.generation": 2}
    ]
    return value


def test_it_undoes(seen):
    llmwatch.uninstrument()
    assert not [each for each in gc.callbacks if isinstance(each, GcPauses)]


@needs_psutil
def test_another_that_says_the_same_is_left_to_it(seen):
    """What it was not asked to say is said here."""
    system_metrics = pytest.importorskip("opentelemetry.instrumentation.system_metrics")
    other = system_metrics.SystemMetricsInstrumentor(config={"process.memory.usage": None})
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    other.instrument(meter_provider=provider)
    try:
        gc.collect()
        assert read(seen, "process.memory.usage") is None
        assert read(seen, "cpython.gc.collections", **{"cpython.gc.generation": 2}) > 0
        assert read(seen, "process.memory.virtual") > 0
    finally:
        other.uninstrument()
        provider.shutdown()
    assert read(seen, "process.memory.usage") > 0


@needs_psutil
def test_beside_another_that_says_all_it_can_nothing_is_said_twice(seen):
    system_metrics = pytest.importorskip("opentelemetry.instrumentation.system_metrics")
    config = system_metrics._DEFAULT_CONFIG
    system_metrics.SystemMetricsInstrumentor._instance = None  # it keeps its first configuration
    other = system_metrics.SystemMetricsInstrumentor()
    provider = MeterProvider([InMemoryMetricReader()])
    other.instrument(meter_provider=provider)
    try:
        gc.collect()
        time.sleep(FRESH)
        ours = seen.metrics()
        assert not config.keys() & ours.keys()
        assert "llmwatch.process.gc.time" in ours
    finally:
        other.uninstrument()
        provider.shutdown()


@pytest.mark.parametrize(("sources", "fails"), [("['process']", True), ("None", False)])
def test_without_psutil(tmp_path, sources, fails):
    """By name it is an error that says what to install; by default it is left out."""
    program = (
        "import sys; sys.modules['psutil'] = None\n"
        "import llmwatch\n"
        f"llmwatch.instrument(sources={sources}, store_path=sys.argv[1])\n"
        "print(llmwatch.shutdown())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False
    )
    assert ("llmwatch-otel[host]" in done.stderr) == fails, done.stderr
    assert done.stdout == ("" if fails else "True\n")


def test_instrumenting_does_not_load_what_only_a_collection_needs(tmp_path):
    program = (
        "import sys, llmwatch\n"
        "llmwatch.instrument(store_path=sys.argv[1])\n"
        "print('llmwatch.sources.process.reading' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
