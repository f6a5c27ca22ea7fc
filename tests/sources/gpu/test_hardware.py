"""On a real GPU, where there is one: that what is read is possible, and agrees with nvidia-smi."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from llmwatch.sources.gpu.allocator import read_allocators
from llmwatch.sources.gpu.nvidia import Nvidia
from llmwatch.sources.gpu.probe import NoGpuError

pytestmark = pytest.mark.gpu


@pytest.fixture
def probe() -> Iterator[Nvidia]:
    """The GPUs of this machine."""
    probe = Nvidia()
    try:
        probe.read()
    except NoGpuError as missing:
        pytest.skip(f"needs an NVIDIA GPU: {missing}")
    yield probe
    probe.close()


def test_readings_are_possible(probe):
    for gpu in probe.read():
        assert gpu.device.id.startswith(("GPU-", "MIG-"))
        assert 0 < gpu.memory_used <= gpu.memory_limit
        for name in ("utilization", "encoder_utilization", "memory_activity", "memory_utilization"):
            assert getattr(gpu, name) is None or 0 <= getattr(gpu, name) <= 1
        assert gpu.power is None or 1 < gpu.power < 2000
        assert gpu.temperature is None or 5 < gpu.temperature < 110
        assert gpu.sm_clock is None or 1e8 < gpu.sm_clock < 5e9


def test_energy_grows_as_power_says(probe):
    """The counter and the power reading are two sources of one truth, to within a half."""
    import time

    start, (before, *_) = time.monotonic(), probe.glance()
    if before.energy is None or before.power is None:
        pytest.skip("needs a GPU with an energy counter")
    powers = []
    for _ in range(20):
        time.sleep(0.1)
        powers.append(probe.glance()[0].power)
    used = probe.glance()[0].energy - before.energy
    expected = sum(powers) / len(powers) * (time.monotonic() - start)
    assert 0.5 * expected < used < 2 * expected


def test_nvidia_smi_agrees(probe):
    command = shutil.which("nvidia-smi")
    if command is None:
        pytest.skip("needs nvidia-smi")
    query = "--query-gpu=uuid,name,memory.total,power.max_limit"
    told = subprocess.run(
        [command, query, "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = {line.split(", ")[0]: line.split(", ") for line in told.stdout.splitlines()}
    for gpu in probe.read():
        if gpu.device.parent is None:
            assert theirs[gpu.device.id][1] == gpu.device.model
            assert int(theirs[gpu.device.id][2]) == gpu.memory_limit // 1024**2


def test_memory_that_is_allocated_here_is_ours(probe):
    torch = pytest.importorskip("torch")
    before = probe.read()[0].process_memory or 0
    held = torch.empty(256 * 1024**2, dtype=torch.uint8, device="cuda")
    after = probe.read()[0].process_memory
    if after is None:
        pytest.skip("the driver does not show processes here, as in some containers")
    assert after - before >= held.numel()


def test_torchs_allocator_is_that_of_the_same_gpu(probe):
    """Its books are torch's own, and the driver sees at least what it has reserved."""
    torch = pytest.importorskip("torch")
    held = torch.empty(256 * 1024**2, dtype=torch.uint8, device="cuda")
    gpus = {gpu.device.id: gpu for gpu in probe.read()}
    (first, *_) = read_allocators()
    assert first.device == "cuda:0"
    assert first.allocated == torch.cuda.memory_allocated(0) >= held.numel()
    assert first.reserved == torch.cuda.memory_reserved(0)
    assert first.ooms == torch.cuda.memory_stats(0)["num_ooms"]
    gpu = gpus.get(f"GPU-{first.uuid}") or gpus[f"MIG-{first.uuid}"]
    assert first.reserved <= gpu.memory_used


def test_a_forked_child_has_no_allocator_of_its_parents(probe):
    torch = pytest.importorskip("torch")
    held = torch.empty(1024, device="cuda")
    pid = os.fork()
    if pid == 0:
        os._exit(0 if read_allocators() == [] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert read_allocators()
    del held
