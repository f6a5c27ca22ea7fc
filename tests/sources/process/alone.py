"""Programs that compare what llmwatch says of a process with the truth, where nothing else happens.

Threads, files and memory of other tests come and go; so each of these functions is run in an
interpreter of its own: ``python -m tests.sources.process.alone NAME``.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from llmwatch.signals.observed import FRESH
from llmwatch.testing import capture

MIB = 1024**2
MODES = ("user", "system")
TYPE = "process.context_switch.type"


def read(seen, name, **attributes):
    """The one value of a metric with these attributes, read now; None: there is none."""
    time.sleep(FRESH)
    points = seen.metrics().get(name, [])
    found = [each.value for each in points if attributes.items() <= each.attributes.items()]
    assert len(found) <= 1
    return found[0] if found else None


def burn(seconds):
    """Use one CPU for so long, by its own clock."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def in_thread(work, *arguments):
    """Do it in another thread, and wait for that."""
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    thread.join()


def told_by_the_system(name):
    """The table in a file of ``/proc``."""
    return dict(line.split(":", 1) for line in Path(name).read_text().splitlines())


def a_second_of_work_is_a_second_of_cpu(seen):
    def used():
        return sum(read(seen, "process.cpu.time", **{"cpu.mode": mode}) for mode in MODES)

    before = used()
    in_thread(burn, 1.0)
    assert used() - before == pytest.approx(1.0, abs=0.1)


def utilization_is_the_share_of_all_cpus(seen):
    assert read(seen, "process.cpu.utilization") is None  # nothing to compare with yet
    start, used = time.monotonic(), time.process_time()
    burn(0.5)
    time.sleep(FRESH)
    share = (time.process_time() - used) / (time.monotonic() - start) / os.cpu_count()
    metrics = seen.metrics()  # both of one collection: a machine may be idle between two
    (own,), (host,) = metrics["process.cpu.utilization"], metrics["system.cpu.utilization"]
    assert own.value == pytest.approx(share, rel=0.3)
    assert 0 < host.value <= 1


def memory_that_is_taken_is_seen(seen):
    before = read(seen, "process.memory.usage")
    held = bytearray(os.urandom(MIB)) * 200
    taken = read(seen, "process.memory.usage") - before
    assert taken == pytest.approx(200 * MIB, rel=0.05)
    del held
    assert read(seen, "process.memory.usage") - before < 20 * MIB


def threads_and_files_are_counted(seen):
    names = ("process.thread.count", "process.unix.file_descriptor.count")
    read(seen, names[0])  # what the first reading opens is open now
    threads, files = (read(seen, name) for name in names)
    done = threading.Event()
    more = [threading.Thread(target=done.wait) for _ in range(50)]
    for thread in more:
        thread.start()
    pipes = [os.pipe() for _ in range(50)]
    assert [read(seen, name) for name in names] == [threads + 50, files + 100]
    done.set()
    for thread in more:
        thread.join()
    for file in (each for pair in pipes for each in pair):
        os.close(file)
    assert [read(seen, name) for name in names] == [threads, files]


def a_thread_that_waits_gives_up_its_cpu_each_time(seen):
    """Whichever thread it is; and one that computes gives up none of its own will."""

    def switches(kind):
        return read(seen, "process.context_switches", **{TYPE: kind})

    def wait_often():
        for _ in range(300):
            time.sleep(0.0005)

    before = switches("voluntary")
    in_thread(wait_often)
    after = switches("voluntary")
    assert 300 <= after - before < 350
    assert switches("involuntary") >= 0


def the_system_says_the_same(seen):
    read(seen, "process.memory.usage")
    status, memory = told_by_the_system("/proc/self/status"), told_by_the_system("/proc/meminfo")
    files = len(list(Path("/proc/self/fd").iterdir()))
    kibi = {name: int(status[name].split()[0]) * 1024 for name in ("VmRSS", "VmSize")}
    assert read(seen, "process.memory.usage") == pytest.approx(kibi["VmRSS"], rel=0.02)
    assert read(seen, "process.memory.virtual") == pytest.approx(kibi["VmSize"], rel=0.02)
    assert read(seen, "process.thread.count") == int(status["Threads"])
    assert read(seen, "process.unix.file_descriptor.count") == files
    total = int(memory["MemTotal"].split()[0]) * 1024
    assert read(seen, "system.memory.limit") == total
    states = [{"system.memory.state": state} for state in ("used", "free")]
    both = [read(seen, "system.memory.usage", **each) for each in states]
    assert sum(both) == pytest.approx(total, rel=0.05)


PROGRAMS = (
    a_second_of_work_is_a_second_of_cpu,
    utilization_is_the_share_of_all_cpus,
    memory_that_is_taken_is_seen,
    threads_and_files_are_counted,
    a_thread_that_waits_gives_up_its_cpu_each_time,
    the_system_says_the_same,
)


if __name__ == "__main__":
    (program,) = [each for each in PROGRAMS if each.__name__ == sys.argv[1]]
    with capture(sources=["process"]) as seen:
        program(seen)
