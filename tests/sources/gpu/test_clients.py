"""Independent clients read the same fake driver, and agree with llmwatch on what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.fake_nvml import GIB

NVITOP = """
import json
from nvitop import Device

print(json.dumps([
    {
        "uuid": device.uuid(),
        "name": device.name(),
        "util": device.gpu_utilization(),
        "memory": device.memory_used(),
        "limit": device.memory_total(),
        "power": device.power_usage(),
        "power_limit": device.power_limit(),
        "temperature": device.temperature(),
        "decoder": device.decoder_utilization(),
        "sm_clock": device.sm_clock(),
        "pstate": device.performance_state(),
        "ecc": device.total_volatile_uncorrected_ecc_errors(),
        "processes": {process.pid: process.gpu_memory() for process in device.processes().values()},
    }
    for device in Device.all()
]))
"""
GPUSTAT = """
import gpustat

print(json.dumps(gpustat.new_query().jsonify(), default=str))
"""


def client(name, library, program):
    if find_spec(name) is None:
        pytest.skip(f"needs {name}")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import json\n" + program],
        env=os.environ | {"LD_LIBRARY_PATH": str(library.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def gpus(driver, probe):
    """Three GPUs, of which one is in use by this process."""
    driver.add(procs=f"{os.getpid()}:{3 * GIB}:30")
    driver.add(util=93, power=345_600, temperature=71, pstate=2, ecc__uncorrected=4)
    driver.add(memory__used=7 * GIB, decoder=55, clock__sm=210)
    return probe.read()


def test_nvitop_agrees(library, gpus):
    theirs = client("nvitop", library, NVITOP)
    ours = [
        {
            "uuid": gpu.device.id,
            "name": gpu.device.model,
            "util": round(100 * gpu.utilization),
            "memory": gpu.memory_used,
            "limit": gpu.memory_limit,
            "power": round(1000 * gpu.power),
            "power_limit": round(1000 * gpu.power_limit),
            "temperature": gpu.temperature,
            "decoder": round(100 * gpu.decoder_utilization),
            "sm_clock": gpu.sm_clock / 1e6,
            "pstate": f"P{gpu.performance_state}",
            "ecc": gpu.uncorrected_errors,
            "processes": {str(os.getpid()): gpu.process_memory} if gpu.process_memory else {},
        }
        for gpu in gpus
    ]
    assert theirs == ours


def test_gpustat_agrees(library, gpus):
    theirs = client("gpustat", library, GPUSTAT)["gpus"]
    mebi = 1024**2
    for gpu, their in zip(gpus, theirs, strict=True):
        assert their["uuid"] == gpu.device.id
        assert their["name"] == gpu.device.model
        assert their["utilization.gpu"] == round(100 * gpu.utilization)
        assert their["utilization.dec"] == round(100 * gpu.decoder_utilization)
        assert their["memory.used"] == gpu.memory_used // mebi
        assert their["memory.total"] == gpu.memory_limit // mebi
        assert their["temperature.gpu"] == gpu.temperature
        assert their["power.draw"] == int(gpu.power)
        assert their["enforced.power.limit"] == gpu.power_limit
    assert [each["gpu_memory_usage"] for each in theirs[0]["processes"]] == [3 * 1024]
