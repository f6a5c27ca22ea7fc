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
from itertools import chain
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import llmwatch
from llmwatch import session
from llmwatch.sources.process import source
from llmwatch.sources.process.pauses import GcPauses
from llmwatch.testing import capture

needs_psutil = pytest.mark.skipif(find_spec("psutil") is None, reason="needs the extra host")
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
MIB = 1024**2
MODES = ("user", "system")


@pytest.fixture
def seen():
    with capture(sources=["process"]) as seen:
        yield seen


def read(seen, name, **attributes):
    """The one value of a metric with these attributes, read now; None: there is none."""
    time.sleep(source.FRESH)
    points = seen.metrics().get(name, [])
    found = [each.value for each in points if attributes.items() <= each.attributes.items()]
    assert len(found) <= 1
    return found[0] if found else None


def burn(seconds):
    """Use one CPU for so long, by its own clock."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@needs_psutil
def test_a_second_of_work_is_a_second_of_cpu(seen):
    def used():
        return sum(read(seen, "process.cpu.time", **{"cpu.mode": mode}) for mode in MODES)

    before = used()
    thread = threading.Thread(target=burn, args=(1.0,))
    thread.start()
    thread.join()
    assert used() - before == pytest.approx(1.0, abs=0.3)


@needs_psutil
def test_utilization_is_the_share_of_all_cpus(seen):
    assert read(seen, "process.cpu.utilization") is None  # nothing to compare with yet
    start = time.monotonic()
    burn(0.5)
    used = 0.5 / (time.monotonic() - start) / os.cpu_count()
    assert read(seen, "process.cpu.utilization") == pytest.approx(used, rel=0.4)
    assert 0 < read(seen, "system.cpu.utilization") <= 1


@needs_psutil
def test_memory_that_is_taken_is_seen(seen):
    before = read(seen, "process.memory.usage")
    held = bytearray(os.urandom(MIB)) * 200
    assert read(seen, "process.memory.usage") - before == pytest.approx(200 * MIB, rel=0.2)
    del held


@needs_psutil
@needs_proc
def test_the_system_says_the_same(seen):
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    memory = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    rss, threads = int(status["VmRSS"].split()[0]) * 1024, int(status["Threads"])
    assert read(seen, "process.memory.usage") == pytest.approx(rss, rel=0.1)
    assert read(seen, "process.thread.count") == pytest.approx(threads, abs=2)
    files = len(list(Path("/proc/self/fd").iterdir()))
    assert read(seen, "process.unix.file_descriptor.count") == pytest.approx(files, abs=2)
    voluntary = int(status["voluntary_ctxt_switches"])
    kind = {"process.context_switch.type": "voluntary"}
    assert read(seen, "process.context_switches", **kind) >= voluntary
    total = int(memory["MemTotal"].split()[0]) * 1024
    assert read(seen, "system.memory.limit") == total
    states = [{"system.memory.state": state} for state in ("used", "free")]
    assert sum(read(seen, "system.memory.usage", **each) for each in states) == pytest.approx(
        total, rel=0.05
    )


@needs_psutil
def test_threads_and_files_are_counted(seen):
    threads, files = (
        read(seen, "process.thread.count"),
        read(seen, "process.unix.file_descriptor.count"),
    )
    done = threading.Event()
    more = [threading.Thread(target=done.wait) for _ in range(50)]
    for thread in more:
        thread.start()
    pipes = [os.pipe() for _ in range(50)]
    try:  # meanwhile threads of earlier tests may end, and close what they hold
        assert read(seen, "process.thread.count") == pytest.approx(threads + 50, abs=20)
        assert read(seen, "process.unix.file_descriptor.count") == pytest.approx(
            files + 100, abs=20
        )
    finally:
        done.set()
        for file in chain.from_iterable(pipes):
            os.close(file)


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
    pauses.install()
    gc.collect()
    pauses.undo()
    pauses.undo()
    assert pauses.counts[2] == 1
    assert pauses.take_longest() > 0
    assert pauses.take_longest() is None
    gc.collect()
    assert pauses.counts[2] == 1


@llmwatch.watch(model="tiny-lm")
async def generate():
    await asyncio.sleep(0)


async def test_a_loop_that_is_held_up_is_late(seen):
    def collect():
        return read(seen, "llmwatch.process.event_loop.lag")

    await generate()
    assert await asyncio.to_thread(collect) is None  # it was not asked before
    await asyncio.sleep(0.05)
    free = await asyncio.to_thread(collect)
    assert free < 0.2
    collecting = asyncio.create_task(asyncio.to_thread(collect))
    await asyncio.sleep(2 * source.FRESH + 0.1)  # it asks, and is answered
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


@needs_psutil
def test_a_forked_child_speaks_of_itself(seen):
    read(seen, "process.memory.usage")
    held = bytearray(os.urandom(MIB)) * 100
    pid = os.fork()
    if pid == 0:
        del held
        owners = [getattr(each, "__self__", None) for each in session.current()._undo]
        (mine,) = [each for each in owners if isinstance(each, source.Source)]
        memory = mine._observe("memory")[0].value
        status = Path("/proc/self/status").read_text()
        rss = int(status.partition("VmRSS:")[2].split()[0]) * 1024
        os._exit(0 if abs(memory - rss) < 20 * MIB else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_it_undoes(seen):
    llmwatch.uninstrument()
    assert not [each for each in gc.callbacks if isinstance(each, GcPauses)]


@needs_psutil
def test_another_that_says_the_same_is_left_to_it(seen):
    system_metrics = pytest.importorskip("opentelemetry.instrumentation.system_metrics")
    other = system_metrics.SystemMetricsInstrumentor(config={"process.memory.usage": None})
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    other.instrument(meter_provider=provider)
    try:
        gc.collect()
        assert read(seen, "process.memory.usage") is None
        assert read(seen, "cpython.gc.collections", **{"cpython.gc.generation": 2}) > 0
    finally:
        other.uninstrument()
        provider.shutdown()
    assert read(seen, "process.memory.usage") > 0


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
