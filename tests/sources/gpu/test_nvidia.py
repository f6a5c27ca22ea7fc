"""What the probe reads, checked against what the driver below the binding was told to say."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time

import pytest

from llmwatch.sources.gpu import nvidia
from llmwatch.sources.gpu.nvidia import Nvidia
from llmwatch.sources.gpu.probe import NoGpuError
from tests.fake_nvml import GIB, H100
from tests.sources.gpu.conftest import load, log

NOT_SUPPORTED, NO_PERMISSION, UNKNOWN, DRIVER_NOT_LOADED = "!3", "!4", "!999", "!9"

EXPECTED = {
    "utilization": 0.4,
    "memory_activity": 0.25,
    "encoder_utilization": 0.0,
    "decoder_utilization": 0.07,
    "memory_used": 20 * GIB,
    "memory_limit": 80 * GIB,
    "memory_utilization": 0.25,
    "power": 250.0,
    "power_limit": 700.0,
    "energy": 5000.0,
    "temperature": 45,
    "temperature_shutdown": 95,
    "temperature_slowdown": 92,
    "memory_temperature_max": 105,
    "temperature_max": 87,
    "memory_temperature": 51,
    "sm_clock": 1.755e9,
    "memory_clock": 2.619e9,
    "sm_clock_limit": 1.98e9,
    "memory_clock_limit": 2.62e9,
    "performance_state": 0,
    "throttle_reasons": (),
    "corrected_errors": 3,
    "uncorrected_errors": 0,
    "pcie_replays": 2,
    "nvlink_transmitted": 1000 * 1024,
    "nvlink_received": 2000 * 1024,
    "pcie_transmitted": 4096,
    "pcie_received": 8192,
    "pcie_receiving": None,
    "pcie_transmitting": None,
    "fan_speed": None,
    "process_memory": None,
    "process_utilization": None,
}


def values(gpu):
    """What it says, rounded where units were converted."""
    found = {name: getattr(gpu, name) for name in EXPECTED}
    return {
        name: round(value, 9) if isinstance(value, float) else value
        for name, value in found.items()
    }


def test_every_reading_is_in_our_units(driver, probe):
    uuid = driver.add()
    (gpu,) = probe.read()
    assert values(gpu) == EXPECTED
    assert gpu.device == (uuid, "GPU 0", "NVIDIA", "NVIDIA H100 80GB HBM3", None)


def test_readings_follow_the_device_over_time(driver, probe):
    driver.add(energy="1000+250000t")
    driver.set("0", at=0.2, util=90)
    driver.start()
    (before,) = probe.read()
    time.sleep(0.3)
    (after,) = probe.read()
    assert (before.utilization, after.utilization) == (0.4, 0.9)
    assert after.energy - before.energy == pytest.approx(0.3 * 250, rel=0.5)


GONE = {
    "util": ["utilization", "memory_activity"],
    "encoder": ["encoder_utilization"],
    "decoder": ["decoder_utilization"],
    "memory.used": ["memory_used", "memory_limit", "memory_utilization"],
    "power": ["power"],
    "power.limit": ["power_limit"],
    "energy": ["energy"],
    "temperature": ["temperature"],
    "temperature.limit0": ["temperature_shutdown"],
    "clock.sm": ["sm_clock"],
    "clock.max.memory": ["memory_clock_limit"],
    "pstate": ["performance_state"],
    "throttle": ["throttle_reasons"],
    "ecc.corrected": ["corrected_errors"],
    "pcie.replays": ["pcie_replays"],
    "field82": ["memory_temperature"],
    "field139": ["nvlink_received"],
    "fields": [
        "memory_temperature",
        "nvlink_received",
        "nvlink_transmitted",
        "pcie_received",
        "pcie_transmitted",
    ],
}


@pytest.mark.parametrize("error", [NOT_SUPPORTED, NO_PERMISSION, UNKNOWN])
@pytest.mark.parametrize("key", GONE)
def test_what_cannot_be_read_is_absent_and_logged_once(driver, probe, caplog, key, error):
    """Never zero; and everything else is read as before."""
    driver.add(**{key: error})
    with caplog.at_level(logging.DEBUG, logger="llmwatch"):
        for _ in range(3):
            (gpu,) = probe.read()
    assert values(gpu) == EXPECTED | dict.fromkeys(GONE[key])
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(set(told))
    assert key.startswith("field8") or key == "field139" or told


def test_what_failed_for_a_while_comes_back(driver, probe):
    driver.add(power=UNKNOWN)
    assert probe.read()[0].power is None
    driver.set("0", power=300_000)
    assert probe.read()[0].power == 300.0


def test_what_is_not_supported_is_not_asked_again(driver, probe):
    driver.add(power=NOT_SUPPORTED)
    assert probe.read()[0].power is None
    driver.set("0", power=300_000)
    assert probe.read()[0].power is None


def test_an_unknown_state_is_absent(driver, probe):
    driver.add(pstate=32)
    assert probe.read()[0].performance_state is None


def test_throttle_reasons_are_named(driver, probe):
    driver.add(throttle=0x1 | 0x4 | 0x40)
    assert probe.read()[0].throttle_reasons == ("sw_power_cap", "hw_thermal_slowdown")


def test_a_fan_that_there_is_has_a_speed(driver, probe):
    driver.add(fan=30)
    assert probe.read()[0].fan_speed == pytest.approx(0.3)


def test_pcie_traffic_is_sampled_where_nothing_counts_it(driver, probe):
    driver.add(field197=None, field198=None, pcie__tx=100, pcie__rx=200)
    (gpu,) = probe.read()
    assert (gpu.pcie_transmitting, gpu.pcie_receiving) == (100 * 1024, 200 * 1024)
    assert gpu.pcie_received is None


def test_a_glance_says_the_same_in_fewer_queries(driver, probe):
    driver.add()
    (glance,), (full,) = probe.glance(), probe.read()
    for name in ("device", "energy", "power", "utilization", "memory_used", "own_share"):
        assert getattr(glance, name) == getattr(full, name)
    assert glance.temperature is None


# --- devices that come and go -------------------------------------------------------------------


def test_a_lost_device_is_left_out_until_it_is_back(driver, probe, caplog, monkeypatch):
    driver.add()
    second = driver.add()
    assert len(probe.read()) == 2
    driver.set("0", lost=1)
    for _ in range(3):
        assert [gpu.device.id for gpu in probe.read()] == [second]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    monkeypatch.setattr(nvidia, "RETRY_EVERY", 0.0)
    assert [gpu.device.id for gpu in probe.read()] == [second]
    driver.set("0", lost=0)
    probe.read()
    assert len(probe.read()) == 2
    assert len(caplog.records) == 1


def test_all_devices_may_be_lost(driver, probe, monkeypatch):
    monkeypatch.setattr(nvidia, "RETRY_EVERY", 0.0)
    driver.add()
    probe.read()
    driver.set("0", lost=1)
    assert probe.read() == []
    assert probe.read() == []
    driver.set("0", lost=0)
    assert len(probe.read()) == 1


def test_a_device_that_cannot_be_had_hides_no_other(driver, probe):
    driver.add(handle=NO_PERMISSION)
    uuid = driver.add()
    assert [gpu.device.id for gpu in probe.read()] == [uuid]
    assert probe.read()[0].device.name == "GPU 1"


def test_eight_gpus_are_told_apart(driver, probe):
    uuids = [driver.add(util=10 * index) for index in range(8)]
    gpus = probe.read()
    assert [gpu.device.id for gpu in gpus] == uuids
    assert [gpu.utilization for gpu in gpus] == pytest.approx([index / 10 for index in range(8)])


def test_a_slow_device_delays_the_reading_and_nothing_else(driver, probe):
    driver.add(delay=20)
    (gpu,) = probe.read()
    assert values(gpu) == EXPECTED


def test_without_a_driver_there_is_no_gpu(driver, probe):
    driver.set("-", init=DRIVER_NOT_LOADED)
    with pytest.raises(NoGpuError, match="Driver Not Loaded"):
        probe.read()


def test_a_machine_without_gpus_has_none(driver, probe):
    with pytest.raises(NoGpuError, match="none of the 0"):
        probe.read()


def test_the_library_is_opened_once_and_closed_once(driver, tmp_path):
    driver.add()
    probe = Nvidia()
    assert log(tmp_path) == []
    for _ in range(3):
        probe.read()
    probe.glance()
    assert log(tmp_path) == ["init"]
    probe.close()
    probe.close()
    assert log(tmp_path) == ["init", "shutdown"]


def test_a_closed_probe_opens_again(driver, probe):
    driver.add()
    probe.read()
    probe.close()
    assert len(probe.read()) == 1


def test_a_fork_opens_its_own(driver, probe, tmp_path):
    driver.add()
    probe.read()
    pid = os.fork()
    if pid == 0:
        done = len(probe.read()) == 1
        probe.close()
        os._exit(0 if done else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(probe.read()) == 1
    ours, theirs = os.getpid(), pid
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines == [f"init {ours}", f"shutdown {theirs}", f"init {theirs}", f"shutdown {theirs}"]
    (tmp_path / "log").write_text(f"init {ours}\n")


def test_no_fork_happens_while_the_driver_is_asked(driver, probe):
    """A child would inherit a lock of the driver's that nobody opens there."""
    driver.add(delay=30)
    probe.read()
    thread = threading.Thread(target=probe.read)
    thread.start()
    time.sleep(0.05)
    assert thread.is_alive()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    thread.join(0.1)
    assert not thread.is_alive()


# --- which devices are ours ---------------------------------------------------------------------


def test_only_visible_devices_are_ours(driver, probe, monkeypatch):
    uuids = [driver.add() for _ in range(4)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{uuids[2]},{uuids[0]}")
    assert [gpu.device.id for gpu in probe.read()] == [uuids[0], uuids[2]]
    assert [gpu.device.name for gpu in probe.read()] == ["GPU 0", "GPU 2"]


def test_with_no_visible_device_there_is_none(driver, probe, monkeypatch):
    driver.add()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(NoGpuError, match="none of the 1 NVIDIA GPUs here may be used"):
        probe.read()


def test_parts_are_devices_of_their_own(driver, probe):
    whole = driver.add()
    memory = {"memory.total": 10 * GIB, "memory.used": GIB, "name": "NVIDIA H100 MIG 1g.10gb"}
    parts = [driver.add_part(0, number, **memory) for number in range(2)]
    gpus = probe.read()
    assert [gpu.device.id for gpu in gpus] == [whole, *parts]
    assert [gpu.device.parent for gpu in gpus] == [None, whole, whole]
    assert gpus[2].device.name == "GPU 0 MIG 1"
    assert (gpus[1].memory_used, gpus[1].memory_limit) == (GIB, 10 * GIB)
    assert gpus[1].power is gpus[1].energy is gpus[1].utilization is None


@pytest.mark.parametrize("old", [False, True])
def test_a_part_that_is_named_is_ours_alone(driver, probe, monkeypatch, old):
    whole = driver.add()
    parts = [driver.add_part(0, number) for number in range(3)]
    name = f"MIG-{whole}/8/0" if old else parts[1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", name)
    assert [gpu.device.id for gpu in probe.read()] == [parts[1]]


# --- this process ---------------------------------------------------------------------------------


def test_memory_and_utilization_are_ours_and_our_childrens(driver, probe):
    """A stranger counts for the device, and for nothing that is said of this process."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        procs = f"{os.getpid()}:{3 * GIB}:30,{child.pid}:{GIB}:10,1:{5 * GIB}:20"
        driver.add(procs=procs)
        (gpu,) = probe.read()
        assert gpu.process_memory == 4 * GIB
        assert gpu.process_utilization == pytest.approx(0.4)
        assert gpu.own_share == pytest.approx(40 / 60)
    finally:
        child.communicate(b"\n")


def test_where_nobody_else_is_the_device_is_ours(driver, probe):
    driver.add(procs=f"{os.getpid()}:{GIB}:0")
    assert probe.read()[0].own_share == 1.0


def test_beside_a_stranger_whose_use_is_not_known_neither_is_ours(driver, probe):
    driver.add(procs=f"{os.getpid()}:{GIB}:5,1:{GIB}:5", process__utilization=NO_PERMISSION)
    assert probe.read()[0].own_share is None


@pytest.mark.parametrize(("stranger", "share"), [(1, 0.0), (2**31 - 1, None)])
def test_where_none_of_the_processes_is_ours_our_share_is_none_if_they_are_here(
    driver, probe, stranger, share
):
    """Under numbers that nobody has here, as in a container, any of them may be this process."""
    driver.add(procs=f"{stranger}:{GIB}:30")
    (gpu,) = probe.read()
    assert gpu.own_share == share
    assert gpu.process_memory is gpu.process_utilization is None


def test_memory_that_the_driver_does_not_tell_is_absent(driver, probe):
    driver.add(procs=f"{os.getpid()}:-1:5")
    assert probe.read()[0].process_memory is None


# --- other drivers --------------------------------------------------------------------------------


def test_an_older_driver_says_what_it_can(driver, old_library, monkeypatch):
    """It counts what it keeps for itself as used, and knows nothing of newer queries."""
    load(old_library, monkeypatch)
    driver.add(procs=f"{os.getpid()}:{GIB}:5")
    probe = Nvidia()
    (gpu,) = probe.read()
    wanted = EXPECTED | {
        "memory_used": 20 * GIB + GIB // 2,
        "memory_utilization": 20.5 / 80,
        "process_memory": GIB,
        "process_utilization": 0.05,
    }
    assert values(gpu) == wanted
    probe.close()


def test_an_older_binding_lacks_functions(driver, probe, monkeypatch):
    import pynvml

    for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetTemperatureV"):
        monkeypatch.delattr(pynvml, name)
    monkeypatch.delattr(pynvml, "nvmlDeviceGetFieldValues")
    monkeypatch.delattr(pynvml, "nvmlMemory_v2")
    driver.add(throttle=0x8)
    (gpu,) = probe.read()
    assert gpu.throttle_reasons == ("hw_slowdown",)
    assert gpu.temperature == H100["temperature"]
    assert gpu.memory_temperature is None
    assert gpu.memory_used == 20 * GIB + GIB // 2
