"""AMD's GPUs: what the probe reads, against what the driver below the real binding was told to say."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import llmwatch
from llmwatch.sources.gpu import amd
from llmwatch.sources.gpu.amd import Amd
from llmwatch.sources.gpu.every import Every
from llmwatch.sources.gpu.probe import NoGpuError
from tests.fake_amd import MI300, build, can_build
from tests.fake_nvml import GIB, Driver

ROOT = Path(__file__).parents[3]
NOT_SUPPORTED, NO_PERMISSION = "!2", "!10"

EXPECTED = {
    "utilization": 0.4,
    "encoder_utilization": None,
    "memory_activity": 0.25,
    "memory_used": 20 * GIB,
    "memory_limit": 192 * GIB,
    "power": 250,
    "power_limit": 750.0,
    "energy": pytest.approx(15.259),
    "temperature": 45,
    "temperature_shutdown": 115,
    "temperature_slowdown": None,
    "memory_temperature": 51,
    "sm_clock": 2.1e9,
    "sm_clock_limit": 2.101e9,
    "memory_clock": 1.3e9,
    "memory_clock_limit": 1.301e9,
    "corrected_errors": 3,
    "uncorrected_errors": 0,
    "pcie_replays": 2,
    "fan_speed": None,
    "throttle_reasons": None,
    "process_memory": None,
    "own_share": 1.0,
}


@pytest.fixture(scope="module")
def rocm(tmp_path_factory):
    """A home of ROCm with the fake ``libamd_smi.so``."""
    if not can_build():
        pytest.skip("needs gcc and the package amdsmi")
    home = tmp_path_factory.mktemp("rocm")
    build(home / "lib")
    return home


@pytest.fixture
def driver(rocm, tmp_path, monkeypatch):
    """A machine without GPUs, in a process that has not loaded the binding."""
    monkeypatch.setenv("ROCM_HOME", str(rocm))
    monkeypatch.setenv("FAKE_NVML_SCRIPT", str(tmp_path / "script"))
    monkeypatch.setenv("FAKE_AMD_LOG", str(tmp_path / "log"))
    for variable in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
    forget()
    yield Driver(tmp_path / "script")
    llmwatch.uninstrument()
    forget()


def forget():
    for name in [each for each in sys.modules if each.partition(".")[0] == "amdsmi"]:
        del sys.modules[name]


@pytest.fixture
def probe(driver):
    probe = Amd()
    yield probe
    probe.close()


def add(driver, **values):
    """Add a GPU; give its UUID. HIP names it after the last digit."""
    index = int(driver._lines[0.0, "-", "count"])
    names = {"uuid": f"{index:02x}ff74a1-0000-1000-8000-0123456789ab", "hip_id": index}
    driver.add(MI300, **{**names, "hip_uuid": f"GPU-00000000000000a{index}", **values})
    return names["uuid"]


def values(gpu):
    return {name: getattr(gpu, name) for name in EXPECTED}


def log(folder):
    path = folder / "log"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def test_the_fake_has_the_structures_of_the_binding(driver, rocm):
    from amdsmi import amdsmi_wrapper

    fake = ctypes.CDLL(str(rocm / "lib/libamd_smi.so"))
    names = ("asic_info", "enumeration_info", "engine_usage", "power_info", "power_cap_info")
    for name in (*names, "clk_info", "error_count", "proc_info"):
        theirs = ctypes.sizeof(getattr(amdsmi_wrapper, f"amdsmi_{name}_t"))
        assert (name, getattr(fake, f"size_of_{name}")()) == (name, theirs)


def test_every_reading_is_in_our_units(driver, probe):
    uuid = add(driver)
    (gpu,) = probe.read()
    assert values(gpu) == EXPECTED
    assert gpu.device == (uuid, "GPU 0", "AMD", "AMD Instinct MI300X", None)


def test_an_older_gpu_tells_its_mean_power_and_has_a_fan(driver, probe):
    add(driver, power=NOT_SUPPORTED, power__average=120, fan=51, fan__max=255)
    (gpu,) = probe.read()
    assert (gpu.power, gpu.fan_speed) == (120, pytest.approx(0.2))


GONE = {
    "util": ["utilization", "memory_activity"],
    "memory.used": ["memory_used"],
    "power": ["power"],
    "power.limit": ["power_limit"],
    "energy": ["energy"],
    "temperature1.0": ["temperature"],
    "temperature2.0": ["memory_temperature"],
    "clock0": ["sm_clock", "sm_clock_limit"],
    "ecc.corrected": ["corrected_errors", "uncorrected_errors"],
    "pcie.replays": ["pcie_replays"],
    "procs": ["own_share"],
}


@pytest.mark.parametrize("error", [NOT_SUPPORTED, NO_PERMISSION])
@pytest.mark.parametrize("key", GONE)
def test_what_cannot_be_read_is_absent_and_logged_once(driver, probe, caplog, key, error):
    """Never zero; and everything else is read as before."""
    add(driver, **{key: error})
    with caplog.at_level(logging.DEBUG, logger="llmwatch"):
        for _ in range(3):
            (gpu,) = probe.read()
    assert values(gpu) == EXPECTED | dict.fromkeys(GONE[key])
    told = [record.getMessage() for record in caplog.records]
    assert told
    assert len(told) == len(set(told))


def test_what_failed_for_a_while_comes_back_and_what_is_not_supported_is_not_asked(driver, probe):
    add(driver, power=NO_PERMISSION, energy=NOT_SUPPORTED)
    assert probe.read()[0].power is None
    driver.set("0", power=300, energy=1)
    assert (probe.read()[0].power, probe.read()[0].energy) == (300, None)


def test_a_glance_says_the_same_in_fewer_queries(driver, probe):
    add(driver)
    (glance,), (full,) = probe.glance(), probe.read()
    for name in ("device", "energy", "power", "utilization", "memory_used", "own_share"):
        assert getattr(glance, name) == getattr(full, name)
    assert glance.temperature is None


def test_a_lost_device_is_left_out_until_it_is_back(driver, probe):
    add(driver)
    second = add(driver)
    driver.set("0", lost=1)
    assert [gpu.device.id for gpu in probe.read()] == [second]
    driver.set("0", lost=0)
    assert len(probe.read()) == 2


def test_memory_is_ours_and_beside_a_stranger_no_share_is_known(driver, probe):
    add(driver, procs=f"{os.getpid()}:{3 * GIB},1:{GIB}")
    (gpu,) = probe.read()
    assert (gpu.process_memory, gpu.own_share) == (3 * GIB, None)


@pytest.mark.parametrize(
    ("settings", "ours"),
    [
        ({}, [0, 1, 2]),
        ({"HIP_VISIBLE_DEVICES": "2,0"}, [2, 0]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, [1]),
        ({"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "1"}, [0]),
        ({"ROCR_VISIBLE_DEVICES": "2,1", "HIP_VISIBLE_DEVICES": "0"}, [2]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-00000000000000a1"}, [1]),
        ({"HIP_VISIBLE_DEVICES": "1,7,0"}, [1]),
    ],
)
def test_only_visible_devices_are_ours(driver, probe, monkeypatch, settings, ours):
    """By HIP's numbers and names; the second variable counts what the first has left."""
    uuids = [add(driver) for _ in range(3)]
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert [gpu.device.id for gpu in probe.read()] == [uuids[each] for each in ours]


def test_hip_may_number_them_otherwise(driver, probe, monkeypatch):
    first, second = add(driver, hip_id=1), add(driver, hip_id=0)
    assert [gpu.device.id for gpu in probe.read()] == [second, first]
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")
    probe.close()
    assert [gpu.device.id for gpu in probe.read()] == [first]


def test_with_no_visible_device_there_is_none(driver, probe, monkeypatch):
    add(driver)
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "")
    with pytest.raises(NoGpuError, match="none of the 1 AMD GPUs here may be used"):
        probe.read()


def test_the_library_is_opened_once_and_closed_once(driver, tmp_path):
    add(driver)
    probe = Amd()
    for _ in range(3):
        probe.read()
    assert log(tmp_path) == ["init"]
    probe.close()
    probe.close()
    assert log(tmp_path) == ["init", "shutdown"]


def test_who_had_it_open_keeps_it_open(driver, tmp_path):
    """AMD SMI counts no users: closing it for us would close it for them."""
    import amdsmi

    add(driver)
    amdsmi.amdsmi_init()
    probe = Amd()
    assert len(probe.read()) == 1
    probe.close()
    assert log(tmp_path) == ["init", "init"]
    amdsmi.amdsmi_shut_down()


def test_a_fork_opens_its_own(driver, probe):
    add(driver)
    probe.read()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if len(probe.read()) == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(probe.read()) == 1


def test_without_a_driver_there_is_no_gpu(driver, probe):
    driver.set("-", init="!34")
    with pytest.raises(NoGpuError, match=r"AMD SMI cannot be used .*DRIVER_NOT_LOADED"):
        probe.read()


def test_without_the_library_the_binding_is_not_imported(driver, probe, monkeypatch, capfd):
    """It would print that it did not find it."""
    monkeypatch.setenv("ROCM_HOME", "/nowhere")
    if amd._library_is_here():
        pytest.skip("there is an AMD SMI")
    with pytest.raises(NoGpuError, match=r"libamd_smi\.so cannot be loaded"):
        probe.read()
    assert "amdsmi" not in sys.modules
    assert capfd.readouterr() == ("", "")


PROGRAM = """
import json
import llmwatch
from llmwatch.testing import capture

with capture(sources=["gpu"]) as seen:
    points = {name: [dict(each.attributes) for each in found] for name, found in seen.metrics().items()}
print(json.dumps([points["hw.power"], str(llmwatch.resources()).splitlines()[0]]))
"""


def test_it_is_emitted_beside_nvidias(driver, rocm):
    """The system finds the library by its name, and the other vendor's is looked for too."""
    uuid = add(driver)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert uuid in done.stdout
    assert '"hw.vendor": "AMD"' in done.stdout
    assert "AMD Instinct MI300X, 40% busy, 20.0 of 192.0 GiB, 250.0 of 750.0 W" in done.stdout


def test_both_vendors_are_read_together(driver, library, monkeypatch):
    from tests.sources.gpu.conftest import load

    load(library, monkeypatch)
    add(driver)
    every = Every()
    assert [gpu.device.vendor for gpu in every.read()] == ["NVIDIA", "AMD"]
    assert [gpu.device.vendor for gpu in every.glance()] == ["NVIDIA", "AMD"]
    every.close()


def test_where_nobody_has_a_gpu_everybody_says_why(driver):
    driver.set("-", init="!34")
    with pytest.raises(NoGpuError, match=r"NVML cannot be used .*; AMD SMI cannot be used"):
        Every().read()
