"""What watching eight GPUs costs, on the tests' fake driver: CPU time as a share of one core."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time

import pytest

pytest.importorskip("pynvml")

from llmwatch.sources.gpu.nvidia import Nvidia
from tests.fake_nvml import H100, Driver, build, can_build
from tests.sources.gpu.conftest import load

EVERY = 1.0
"""Seconds between two polls."""

MOST = 0.002
"""Of one core."""


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
    """Seconds of CPU for one call, the least of some batches."""

    def batch() -> float:
        start = process_time()
        for _ in range(50):
            call()
        return (process_time() - start) / 50

    return min(batch() for _ in range(5))


@pytest.mark.parametrize("what", ["glance", "read"])
def test_eight_gpus_at_one_a_second(probe: Nvidia, what: str) -> None:
    """A glance is what the poller takes, a reading what a collection takes."""
    seconds = cost(getattr(probe, what))
    print(f"{what} of 8 GPUs: {seconds * 1e3:.2f} ms")
    assert seconds / EVERY < MOST
