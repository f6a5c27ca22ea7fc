"""GPUs among the sources: what is emitted, and that nothing is done for nobody."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import llmwatch
from llmwatch import semconv_hardware as names
from llmwatch.signals.observed import FRESH
from llmwatch.sources.gpu.observations import TABLE
from tests.fake_nvml import GIB
from tests.sources.gpu.conftest import log


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader):
    provider = MeterProvider([reader])
    yield provider
    provider.shutdown()


def points(reader):
    """What a collection gives of GPUs: by metric, then by the attributes that are not the device's."""
    data = reader.get_metrics_data()
    found = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name.startswith(("hw.", "llmwatch.gpu.")):
                    found[metric.name] = {
                        tuple(
                            value
                            for key, value in sorted(point.attributes.items())
                            if key not in DEVICE
                        ): point
                        for point in metric.data.data_points
                    }
    return found


DEVICE = {"hw.id", "hw.name", "hw.type", "hw.vendor", "hw.model", "hw.parent"}


def test_every_metric_has_its_unit_and_value(driver, reader, provider):
    uuid = driver.add(fan=30, throttle=0x4, procs=f"{os.getpid()}:{GIB}:30", pcie__tx=1, pcie__rx=2)
    llmwatch.instrument(sources=["gpu"], meter_provider=provider)
    found = points(reader)
    values = {
        (name, *key): point.value for name, each in found.items() for key, point in each.items()
    }
    assert values == pytest.approx(
        {
            ("hw.gpu.utilization", "general"): 0.4,
            ("hw.gpu.utilization", "encoder"): 0,
            ("hw.gpu.utilization", "decoder"): 0.07,
            ("hw.gpu.memory.usage",): 20 * GIB,
            ("hw.gpu.memory.limit",): 80 * GIB,
            ("hw.gpu.memory.utilization",): 0.25,
            ("llmwatch.gpu.memory.activity",): 0.25,
            ("hw.gpu.io", "receive"): 8192,
            ("hw.gpu.io", "transmit"): 4096,
            ("llmwatch.gpu.nvlink.io", "receive"): 2000 * 1024,
            ("llmwatch.gpu.nvlink.io", "transmit"): 1000 * 1024,
            ("hw.energy",): 5000,
            ("hw.power",): 250,
            ("llmwatch.gpu.power.limit",): 700,
            ("hw.temperature", "gpu"): 45,
            ("hw.temperature", "memory"): 51,
            ("hw.temperature.limit", "high.critical", "gpu"): 95,
            ("hw.temperature.limit", "high.degraded", "gpu"): 92,
            ("hw.temperature.limit", "max", "gpu"): 87,
            ("hw.temperature.limit", "max", "memory"): 105,
            ("llmwatch.gpu.clock.frequency", "sm"): 1.755e9,
            ("llmwatch.gpu.clock.frequency", "memory"): 2.619e9,
            ("llmwatch.gpu.clock.limit", "sm"): 1.98e9,
            ("llmwatch.gpu.clock.limit", "memory"): 2.62e9,
            ("llmwatch.gpu.performance_state",): 0,
            ("llmwatch.gpu.throttled", "sw_power_cap"): 1,
            ("hw.errors", "corrected"): 3,
            ("hw.errors", "uncorrected"): 0,
            ("hw.errors", "pcie_replay"): 2,
            ("hw.fan.speed_ratio",): 0.3,
            ("llmwatch.gpu.process.memory.usage",): GIB,
            ("llmwatch.gpu.process.utilization",): 0.3,
        }
    )
    point = found["hw.power"][()]
    assert point.attributes == {
        "hw.id": uuid,
        "hw.name": "GPU 0",
        "hw.type": "gpu",
        "hw.vendor": "NVIDIA",
        "hw.model": "NVIDIA H100 80GB HBM3",
    }


def test_the_table_fills_every_metric_but_the_one_that_has_code():
    assert {row.metric for row in TABLE} == set(names.GPU_METRICS) - {"throttled"}


def test_a_reason_that_is_over_is_zero(driver, reader, provider):
    driver.add(throttle=0x8)
    llmwatch.instrument(sources=["gpu"], meter_provider=provider)
    assert points(reader)["llmwatch.gpu.throttled"][("hw_slowdown",)].value == 1
    driver.set("0", throttle=0)
    time.sleep(FRESH)
    assert points(reader)["llmwatch.gpu.throttled"][("hw_slowdown",)].value == 0


def test_nothing_is_read_when_nobody_reads(driver, provider, tmp_path):
    """No library is opened, no thread runs."""
    driver.add()
    before = set(threading.enumerate())
    llmwatch.instrument(meter_provider=provider)
    assert log(tmp_path) == []
    started = set(threading.enumerate()) - before
    assert not [each.name for each in started if each.name.startswith("llmwatch")]


def test_the_last_collection_has_gpus_too(driver, reader, provider, tmp_path):
    """A program that is shorter than the export interval would say nothing of them otherwise."""
    driver.add()
    llmwatch.instrument(sources=["gpu"], meter_provider=provider)
    seen = []
    flush = provider.force_flush
    provider.force_flush = lambda **more: seen.append(points(reader)) or flush(**more)
    llmwatch.uninstrument()
    assert "hw.power" in seen[-1]
    assert log(tmp_path) == ["init", "shutdown"]
    points(reader)  # the reader of memory still holds the last collection
    assert points(reader) == {}


def test_it_may_be_instrumented_again(driver, reader, provider):
    driver.add()
    for _ in range(2):
        llmwatch.instrument(sources=["gpu"], meter_provider=provider)
        assert points(reader)["hw.power"][()].value == 250
        llmwatch.uninstrument()
        points(reader)  # the reader of memory still holds the last collection
    assert points(reader) == {}


def test_readers_that_collect_at_once_share_one_reading(driver, reader):
    """Else each would take the peaks from the other, and see none."""
    driver.add(delay=5)
    other = InMemoryMetricReader()
    provider = MeterProvider([reader, other])
    llmwatch.instrument(sources=["gpu"], meter_provider=provider, gpu_poll_interval=0.05)
    time.sleep(0.5)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(points, [reader, other]))
    assert found[0].keys() == found[1].keys()
    assert found[0]["llmwatch.gpu.peak.power"][()].value == 250
    provider.shutdown()


def test_a_lost_device_gives_no_points(driver, reader, provider):
    """Not even of counters: a backend would take a repeated value for a reading."""
    driver.add()
    llmwatch.instrument(meter_provider=provider)
    assert "hw.energy" in points(reader)
    driver.set("0", lost=1)
    time.sleep(FRESH)
    assert points(reader) == {}


def test_asked_for_and_missing_is_an_error(driver, provider):
    driver.set("-", init="!9")
    with pytest.raises(llmwatch.ConfigError, match=r"sources='gpu'.*Driver Not Loaded.*container"):
        llmwatch.instrument(sources=["gpu"], meter_provider=provider)


def test_found_by_default_and_missing_is_nothing(driver, reader, provider, caplog):
    driver.set("-", init="!9")
    llmwatch.instrument(meter_provider=provider)
    assert points(reader) == {}
    assert not caplog.records


PROGRAM = """
import sys
import llmwatch
llmwatch.instrument(sources=SOURCES, store_path=sys.argv[1])
print("pynvml" in sys.modules)
llmwatch.uninstrument()
"""


def run(sources, folder, **environment):
    program = PROGRAM.replace("SOURCES", sources)
    return subprocess.run(
        [sys.executable, "-c", program, folder / "store"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_instrumenting_loads_no_binding(tmp_path):
    """Starting must not cost what only a collection needs."""
    done = run("None", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def test_the_system_finds_the_library_by_its_name(library, driver, tmp_path):
    driver.add()
    done = run("['gpu']", tmp_path, LD_LIBRARY_PATH=str(library.parent))
    assert done.stdout == "True\n", done.stderr
    assert done.returncode == 0


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
def test_without_the_library_the_error_says_what_to_do(tmp_path):
    done = run("['gpu']", tmp_path)
    assert "NVML Shared Library Not Found" in done.stderr
    assert "libnvidia-ml.so.1 can be found here" in done.stderr


def test_resources_reads_once_and_lets_go(driver, tmp_path):
    uuid = driver.add()
    (gpu,) = llmwatch.resources().gpus
    assert (gpu.device.id, gpu.power, gpu.temperature) == (uuid, 250.0, 45)
    assert log(tmp_path) == ["init", "shutdown"]
