"""Dashboards show what a program under load did: by a real Prometheus that scrapes it.

It is one test, so that workers of pytest that run side by side do not each make a load of their own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep, time
from typing import Any, NamedTuple

import pytest

from tests import fake_nvml, fake_torch
from tests.dashboards import shipped
from tests.dashboards.load import MODEL, WATTS
from tests.dashboards.scraping import Prometheus, free_port, needs_prometheus, prometheus
from tests.dashboards.translated import translating
from tests.fake_nvml import GIB, H100
from tests.fake_torch import MIB

pytestmark = [needs_prometheus, pytest.mark.slow, pytest.mark.timeout(300)]

SCRAPED, RECEIVED = "load|device", "otlp|otlp-device"
"""Services: the programs, and the same with the names that metrics have which came by OTLP."""
EVERY, RATE_INTERVAL, STEP = "2s", "15s", 2.0
"""Time between two scrapes; four of them and more, as Grafana chooses; and its ``$__interval``."""


class Seen(NamedTuple):
    """A load that is over, in a Prometheus that still answers."""

    prometheus: Prometheus
    done: dict[str, int]
    """What the program says that it did."""
    start: float
    end: float

    def number(self, expression: str) -> float:
        """The one value of an expression, at the end."""
        (value,) = self.prometheus.at(expression, self.end).values()
        return value

    def shows(self, dashboard: str, title: str, **variables: str) -> dict[str, float]:
        """The last values of a panel's first query, by what its series are called."""
        (panel,) = [
            each for each in shipped.panels(shipped.load(dashboard)) if each["title"] == title
        ]
        target = panel["targets"][0]
        expression = shipped.interpolated(target["expr"], {**EVERYTHING, **variables})
        found = self.prometheus.at(expression, self.end)
        return {_called(target, dict(labels)): value for labels, value in found.items()}


CALLS = (
    f'gen_ai_client_operation_duration_seconds_count{{job="load", gen_ai_request_model="{MODEL}"'
)
ASKED, FAILED = f'sum({CALLS}, error_type=""}})', f'sum({CALLS}, error_type!=""}})'
EVERYTHING = {
    "service": SCRAPED,
    "instance": ".*",
    "model": ".*",
    "monitor": ".*",
    "__rate_interval": RATE_INTERVAL,
    "__range": "10m",
}


def _called(target: dict[str, Any], labels: dict[str, str]) -> str:
    legend: str = target["legendFormat"]
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), legend).strip()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Some rounds of load, scraped every other second."""
    if not fake_nvml.can_build() or not fake_torch.can_build():
        pytest.skip("needs gcc, g++ and the package nvidia-nvml-dev")
    folder = tmp_path_factory.mktemp("live")
    nvml, device = fake_nvml.build(folder), fake_torch.build(folder)
    port, other = free_port(), free_port()
    start = time()
    with (
        translating(port) as load_port,
        translating(other) as device_port,
        prometheus(
            folder,
            {
                "load": [port],
                "device": [other],
                "otlp": [load_port],
                "otlp-device": [device_port],
            },
            EVERY,
        ) as server,
        program(folder, "device", str(other), str(device)),
        program(folder, "load", str(port), str(nvml), str(folder / "script")) as load,
    ):
        sleep(10)  # findings about layers are looked for that often
        for name in ("llmwatch_layer_findings", "system_cpu_utilization"):
            server.wait_for(name)
        assert load.stdin is not None
        assert load.stdout is not None
        load.stdin.write("enough\n")
        load.stdin.flush()
        done = json.loads(load.stdout.readline())
        over = time()
        for job in ("load", "otlp"):  # once more when all is done
            up = f'up{{job="{job}"}}'  # of a comparison, the time would be that of the question
            server.wait_for(f"timestamp({up}) > {over} and {up} == 1")
        yield Seen(server, done, start, time())


@contextmanager
def program(folder: Path, name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A program beside this one, that has done all it does once; it ends with its input."""
    command = [sys.executable, "-m", f"tests.dashboards.{name}", *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    errors = folder / f"{name}.log"
    with (
        errors.open("w") as log,
        subprocess.Popen(command, **pipes, stderr=log, text=True, env=environment) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", errors.read_text()
        yield process


def test_dashboards_show_what_a_program_did(seen: Seen) -> None:
    for check in CHECKS:
        check(seen)


def every_expression_has_data(seen: Seen) -> None:
    """Whether metrics were scraped, or have the names of what came by OTLP: nothing is empty."""
    empty = []
    for services in (SCRAPED, RECEIVED):
        for query in shipped.queries():
            expression = shipped.interpolated(query.expression, {**EVERYTHING, "service": services})
            if query.instant:
                values = [[each] for each in seen.prometheus.at(expression, seen.end).values()]
            else:
                end = seen.end + STEP  # so that what only the last scrape saw is on a step
                values = seen.prometheus.over(expression, seen.start, end, STEP)
            if not values:
                empty.append((query.dashboard, query.panel, expression))
    assert not empty


def variables_list_what_there_is(seen: Seen) -> None:
    for name in shipped.NAMES:
        for variable in shipped.variables(shipped.load(name)):
            if variable["type"] != "query":
                continue
            asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
            assert asked is not None
            for services in (SCRAPED, RECEIVED):
                selector = shipped.interpolated(asked[1], {"service": services})
                values = seen.prometheus.values(selector, asked[2])
                assert values, (name, variable["name"])
                if variable["name"] == "service":
                    assert {"load", "otlp"} <= {*values}


def models_that_are_chosen_are_shown_and_others_are_not(seen: Seen) -> None:
    title = "How many requests a second, by model?"
    every = seen.shows("requests", title)
    assert {MODEL, "unpriced", "tiny-llama-4"} <= every.keys()
    some = shipped.chosen([MODEL, "tiny-llama-4"])
    assert seen.shows("requests", title, model=some).keys() == {MODEL, "tiny-llama-4"}
    assert seen.shows("requests", title, model=shipped.chosen([MODEL])).keys() == {MODEL}
    assert not seen.shows("requests", title, service="another")


def counts_are_those_of_the_program(seen: Seen) -> None:
    assert seen.number(ASKED) == seen.done["asked"]
    assert seen.number(FAILED) == seen.done["failed"]
    usage = f'gen_ai_client_token_usage_sum{{job="load", gen_ai_request_model="{MODEL}"'
    assert seen.number(f'sum({usage}, gen_ai_token_type="output"}})') == seen.done["output_tokens"]


def numbers_are_those_of_the_program(seen: Seen) -> None:
    failing = seen.shows("requests", "What share of requests fails, by model?")
    assert failing["unpriced"] == 0
    assert failing[MODEL] == pytest.approx(1 / 5, abs=0.1)  # one in five of each round
    routes = seen.shows("requests", "What share of requests fails, by route?")
    assert routes["search"] == routes["summary"] == 0
    assert seen.shows("requests", "How many are in flight, by model?")[MODEL] == 1
    assert seen.shows("requests", "Is telemetry lost on its way?") == {"dropped": 0}


def the_machine_is_the_one_that_the_driver_tells_of(seen: Seen) -> None:
    def shows(title: str) -> list[float]:
        return list(seen.shows("gpu-host", title).values())

    assert shows("How busy are the GPUs?") == [H100["util"] / 100]
    assert shows("How much memory is in use?") == [H100["memory.used"]]
    assert shows("How full is the fullest GPU?") == [pytest.approx(20 / 80)]
    assert shows("How many GPUs are held down?") == [0]  # by its power cap, as is normal
    reasons = seen.shows("gpu-host", "Why are clocks held down?")
    assert [each.split()[0] for each, held in reasons.items() if held] == ["sw_power_cap"]
    assert shows("How much energy does each GPU use?") == [pytest.approx(WATTS, rel=0.1)]
    assert sum(shows("What is the energy used for?")) == pytest.approx(WATTS, rel=0.1)
    assert seen.number('hw_gpu_memory_limit_bytes{job="load"}') == 80 * GIB
    assert seen.number('llmwatch_torch_memory_allocated_bytes{job="device"}') == MIB


def layers_of_a_model_share_its_time(seen: Seen) -> None:
    rows = seen.shows("local-models", "Which blocks take the time of tokens?")
    assert [name.split()[-1] for name in sorted(rows)] == ["000", "001", "002", "003"]
    assert 0 < sum(rows.values()) < 1
    findings = seen.shows("local-models", "Which findings are raised?")
    assert findings["tiny-llama-4 near_identity"] == 1


def a_monitor_of_what_does_not_drift_raises_no_alarm(seen: Seen) -> None:
    assert seen.shows("drift-quality", "How many drift alarms are raised?") == {"alarms": 0}
    refused = seen.shows("drift-quality", "Which embeddings cannot be used?")
    assert refused["queries nan"] > 0


CHECKS = (
    every_expression_has_data,
    variables_list_what_there_is,
    models_that_are_chosen_are_shown_and_others_are_not,
    counts_are_those_of_the_program,
    numbers_are_those_of_the_program,
    the_machine_is_the_one_that_the_driver_tells_of,
    layers_of_a_model_share_its_time,
    a_monitor_of_what_does_not_drift_raises_no_alarm,
)
