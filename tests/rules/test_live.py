"""A program under load → Prometheus → Alertmanager → whoever is on call, with shorter windows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import sleep

import pytest

from llmwatch.demo.server import Server
from llmwatch.rules.files import export
from llmwatch.rules.rule import anchor
from tests.fake_nvml import GIB, Driver, build, can_build
from tests.rules.fleet import (
    ALERTMANAGER,
    PROMETHEUS,
    Fleet,
    Listener,
    Pager,
    free_port,
    wait_for,
)

pytest.importorskip("prometheus_client")

ROOT = Path(__file__).parents[2]

SHORT = """
interval = "1s"
[slo]
least = 1
[slo.ttft]
objective = 0.9
threshold = 1.0
[slo.itl]
objective = 0.9
threshold = 0.4
[slo.errors]
objective = 0.9
[[burn]]
severity = "page"
long = "8s"
short = "4s"
rate = 4
[throughput]
window = "5s"
baseline = "1m"
for = "0s"
[cost]
budget = 0.05
window = "7s"
burn_window = "5s"
burn_rate = 1.5
[gpu.throttling]
window = "4s"
for = "1s"
[gpu.errors]
window = "5s"
corrected_window = "5s"
[gpu.memory]
window = "4s"
for = "1s"
[drift]
for = "0s"
window = "6s"
fleet_for = "1s"
[telemetry]
window = "5s"
[no_data]
lookback = "1h"
for = "3s"
"""

BASELINE = 7
"""Seconds in which all is well: throughput is compared with them."""

PATIENCE = 120
"""Seconds that all alerts may take to fire, and then to clear: 10 to 20 where nothing else runs."""

ALERTS = {
    "LlmwatchTtftBudgetBurn",
    "LlmwatchItlBudgetBurn",
    "LlmwatchErrorBudgetBurn",
    "LlmwatchThroughputCollapse",
    "LlmwatchCostBudgetBurn",
    "LlmwatchCostBudgetSpent",
    "LlmwatchDriftRaised",
    "LlmwatchFleetDriftRaised",
    "LlmwatchTelemetryDropped",
    "LlmwatchNoData",
}
OF_GPUS = {
    "LlmwatchGpuThrottled",
    "LlmwatchGpuMemoryErrors",
    "LlmwatchGpuCorrectedErrors",
    "LlmwatchGpuMemoryPressure",
}


class Program:
    """A watched program that is well or ill."""

    def __init__(self, *command: str, log: Path, **environment: str) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def ready(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def is_(self, state: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{state}\n")
        self._process.stdin.flush()

    def end(self) -> None:
        self._process.communicate(timeout=30)


QUIET = """
import sys, llmwatch
llmwatch.instrument(prometheus_port=int(sys.argv[1]), sources=())
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def pager() -> Iterator[Pager]:
    pager = Pager()
    yield pager
    pager.close()


@pytest.mark.slow
@pytest.mark.timeout(300)  # it takes 40 s, on a machine that has time
@pytest.mark.skipif(
    not PROMETHEUS or not ALERTMANAGER,
    reason="needs the Debian packages prometheus and prometheus-alertmanager",
)
def test_one_alert_of_each_family_fires_and_clears(
    server: Server, pager: Pager, tmp_path: Path
) -> None:
    (tmp_path / "short.toml").write_text(SHORT)
    rules = [each for each in export(tmp_path, tmp_path / "short.toml") if each.suffix == ".yml"]
    ports = {"shop": free_port(), "quiet": free_port()}
    sink = Listener(len)
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink.port}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "500",
        "FAKE_NVML_SCRIPT": str(tmp_path / "script"),
    }
    driver = Driver(tmp_path / "script")
    driver.add()
    expected = set(ALERTS)
    if can_build():
        environment["LD_LIBRARY_PATH"] = str(build(tmp_path / "nvml").parent)
        expected |= OF_GPUS

    def start(*command: str) -> Program:
        return Program(*command, log=tmp_path / "programs.log", **environment)

    with ExitStack() as stack:
        shop = start("-m", "tests.rules.program", server.base_url, str(ports["shop"]))
        stack.callback(shop.end)
        quiet = start("-c", QUIET, str(ports["quiet"]))
        fleet = Fleet(tmp_path, rules, ports, pager)
        stack.callback(fleet.stop)
        shop.ready()
        quiet.ready()
        sleep(BASELINE)

        shop.is_("ill")
        quiet.end()
        sink.close()
        driver.set("0", throttle=0x40, memory__used=78 * GIB)
        driver.set("0", ecc__corrected=5000, ecc__uncorrected=2)
        wait_for(
            lambda: set(pager.said) >= expected, PATIENCE, lambda: (set(pager.said), fleet.said())
        )

        shop.is_("well")
        driver.set("0", throttle=0, memory__used=20 * GIB)
        sink = Listener(len, sink.port)
        stack.callback(sink.close)
        quiet = start("-c", QUIET, str(ports["quiet"]))
        stack.callback(quiet.end)
        wait_for(lambda: not pager.firing(), PATIENCE, lambda: (pager.firing(), fleet.said()))

    for name in expected:
        assert pager.said[name]["runbook"] == f"runbooks.md{anchor(name)}"
    assert pager.said["LlmwatchGpuThrottled"]["summary"].endswith("hw_thermal_slowdown")
    assert f":{ports['shop']}" in pager.said["LlmwatchGpuThrottled"]["description"]
