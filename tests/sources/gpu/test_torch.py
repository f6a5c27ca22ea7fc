"""What PyTorch's allocator says, checked against a device whose books can be worked out by hand.

The device is below torch: the allocator's numbers come through the same functions of torch's that
read CUDA's. That CUDA's numbers mean what its documentation says is for `test_hardware`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmwatch.sources.gpu.allocator import read_allocators
from tests.fake_nvml import Driver
from tests.fake_torch import MIB, build, can_build

pytest.importorskip("torch")

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def steps(library, tmp_path_factory):
    """What was told at each step of `allocating`, and the UUID of the GPU that is the first device."""
    if not can_build():
        pytest.skip("needs g++ and torch")
    folder = tmp_path_factory.mktemp("torch")
    driver = Driver(folder / "script")
    gpu = driver.add()
    environment = {
        "FAKE_NVML_SCRIPT": str(driver.path),
        "FAKE_TORCH_BYTES": str(8 * MIB),
        "LD_LIBRARY_PATH": str(library.parent),
        "OMP_NUM_THREADS": "1",
    }
    uuids = [gpu.removeprefix("GPU-"), "00000000-1111-4000-8000-000000000000"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.sources.gpu.allocating", build(folder), *uuids],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"gpu": gpu}


def values(step):
    return {
        name: {device: value for device, (value, _) in points.items()}
        for name, points in step.items()
    }


def both(first, second):
    return {"scripted:0": first, "scripted:1": second}


@pytest.mark.parametrize("step", ["not loaded", "not used"])
def test_where_torch_uses_no_device_nothing_is_told(steps, step):
    """And torch is not imported for it: the program says so itself."""
    assert steps[step] == {}


def test_what_is_in_tensors_and_what_is_kept(steps):
    """Sizes are of the allocator: in steps of 512 bytes, from segments of 2 MiB."""
    assert values(steps["used"]) == {
        "allocated": both(1.5 * MIB, 1024),
        "reserved": both(2 * MIB, 2 * MIB),
        "allocated_peak": both(1.5 * MIB, 1024),
        "reserved_peak": both(2 * MIB, 2 * MIB),
        "fragmentation": both(0.25, 1 - 1024 / (2 * MIB)),
        "out_of_memory": both(0, 0),
        "retries": both(0, 0),
    }


def test_what_is_given_back_is_kept_beside_what_is_not(steps):
    found = values(steps["given back"])
    assert found["allocated"]["scripted:0"] == MIB / 2
    assert found["reserved"]["scripted:0"] == 2 * MIB
    assert found["allocated_peak"]["scripted:0"] == 1.5 * MIB
    assert found["fragmentation"]["scripted:0"] == 0.75


def test_a_forked_child_says_nothing_of_its_parents_memory(steps):
    """Not even while what the parent read last would still do as an answer."""
    assert steps["used"] != {}
    assert steps["in a child"] == []


def test_running_out_of_memory_is_counted(steps):
    found = values(steps["out of memory"])
    assert found["out_of_memory"] == both(1, 0)
    assert found["retries"] == both(1, 0)


def test_the_peak_begins_anew_when_the_program_says_so(steps):
    assert values(steps["reset"])["allocated_peak"]["scripted:0"] == MIB / 2


def test_it_is_joined_to_the_gpu_of_the_same_uuid(steps):
    """A device that no driver tells of is told by torch's name alone."""
    _, first = steps["used"]["allocated"]["scripted:0"]
    _, second = steps["used"]["allocated"]["scripted:1"]
    assert first["hw.id"] == steps["gpu"]
    assert first["hw.name"] == "GPU 0"
    assert second == {"llmwatch.torch.device": "scripted:1"}


def test_a_torch_without_accelerator_has_no_allocator():
    import torch

    if torch.accelerator.current_accelerator() is None:
        assert read_allocators() == []


class CudaMallocAsync:
    """How ``torch.cuda`` looks with the backend of that name: what it does not count is zero."""

    @staticmethod
    def memory_stats(index):
        sizes = ("allocated_bytes", "reserved_bytes", "inactive_split_bytes")
        stats = {f"{each}.all.{when}": 0 for each in sizes for when in ("current", "peak")}
        known = {"allocated_bytes.all.current": 10, "reserved_bytes.all.current": 40}
        return stats | known | {"num_ooms": 0, "num_alloc_retries": 0}

    @staticmethod
    def get_allocator_backend():
        return "cudaMallocAsync"


def test_what_cudas_own_allocator_does_not_count_is_absent():
    from llmwatch.sources.gpu.allocator import _read

    found = _read("cuda", CudaMallocAsync, 0)
    assert (found.allocated, found.reserved) == (10, 40)
    assert found.fragmentation is found.ooms is found.retries is None
