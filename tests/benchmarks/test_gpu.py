"""What watching eight GPUs costs, on the tests' fake driver: CPU time as a share of one core."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import thread_time

import pytest

pytest.importorskip("pynvml")

from llmwatch.sources.gpu.nvidia import Nvidia
from llmwatch.testing import capture
from tests.fake_nvml import H100, Driver, build, can_build
from tests.sources.gpu.conftest import load

EVERY = 1.0
"""Seconds between two polls."""

MOST = 0.002
"""Of one core, for the poller; a whole reading, which is seldom taken so often, may be twice that."""


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nvidia]:
    """Eight GPUs, each used by this process."""
    if not can_build():
        pytest.skip("needs gcc and the package nvidia-nvml-dev")
    monkeypatch.setenv("FAKE_NVML_SCRIPT", str(tmp_path / "script"))
    load(build(tmp_path / "library"), monkeypatch)
    driver = Driver(tmp_path / "script")
    for _ in range(8):
        driver.add({})
    values = {key.replace(".", "__"): value for key, value in H100.items()}
    driver.set("*", **values | {"procs": f"{os.getpid()}:1000:30"})
    probe = Nvidia()
    probe.read()
    yield probe
    probe.close()


def cost(call: Callable[[], object]) -> float:
    """Seconds of this thread's CPU for one call, the least of some batches."""

    def batch() -> float:
        start = thread_time()
        for _ in range(20):
            call()
        return (thread_time() - start) / 20

    return min(batch() for _ in range(10))


@pytest.mark.parametrize(("what", "most"), [("glance", MOST), ("read", 2 * MOST)])
def test_eight_gpus_at_one_a_second(probe: Nvidia, what: str, most: float) -> None:
    """A glance is what the poller takes, a reading what a collection takes."""
    seconds = cost(getattr(probe, what))
    print(f"{what} of 8 GPUs: {seconds * 1e3:.2f} ms")
    assert seconds / EVERY < most


def test_the_poller_at_one_a_second(probe: Nvidia) -> None:
    """The CPU time of its own thread, over seconds in which it sleeps between polls.

    What sleeps finds its caches cold: this is more than the batches above say.
    """
    with capture(sources=["gpu"], gpu_poll_interval=EVERY):
        (poller,) = [each for each in threading.enumerate() if each.name == "llmwatch-gpu"]
        clock = time.pthread_getcpuclockid(poller.ident)
        time.sleep(1.5 * EVERY)  # it imports, opens the library, and lists
        used = []
        for _ in range(10):
            before = time.clock_gettime(clock)
            time.sleep(EVERY)
            used.append(time.clock_gettime(clock) - before)
    print(f"a poll of 8 GPUs: {median(used) * 1e3:.2f} ms, at least {min(used) * 1e3:.2f} ms")
    assert min(used) / EVERY < MOST  # others, who empty the caches meanwhile, make it only more
