"""A real Prometheus that scrapes programs, and answers as it answers Grafana."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

PROMETHEUS = shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None, reason="needs prometheus, of the Debian package of that name"
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Prometheus:
    """One that runs: ask it.

    Args:
        url: Where it is.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **parameters: Any) -> Any:
        """The data of an answer of its API; fails where it finds the question wrong."""
        query = urlencode(parameters, doseq=True)
        with urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:
            return json.load(answer)["data"]

    def at(self, expression: str, moment: float) -> dict[tuple[tuple[str, str], ...], float]:
        """What an expression is at a moment, by labels."""
        found = self.ask("query", query=expression, time=moment)["result"]
        return {tuple(sorted(each["metric"].items())): float(each["value"][1]) for each in found}

    def over(self, expression: str, start: float, end: float, step: float) -> list[list[float]]:
        """The values of each series of an expression over a time; those that are none are left out."""
        found = self.ask("query_range", query=expression, start=start, end=end, step=step)
        series = [[float(value) for _, value in each["values"]] for each in found["result"]]
        kept = [[value for value in each if not math.isnan(value)] for each in series]
        return [each for each in kept if each]

    def values(self, selector: str, label: str) -> list[str]:
        """The values of a label, as Grafana asks for those of a variable."""
        found: list[str] = self.ask(f"label/{label}/values", **{"match[]": selector})
        return found

    def wait_for(self, expression: str, seconds: float = 60) -> None:
        """Return once an expression has a result."""
        deadline = monotonic() + seconds
        while not self.at(expression, time()):
            assert monotonic() < deadline, f"never came: {expression}"
            sleep(0.3)


@contextmanager
def prometheus(folder: Path, jobs: Mapping[str, list[int]], every: str) -> Iterator[Prometheus]:
    """One that scrapes ports of this machine, by the name of their job."""
    scraped = [
        {"job_name": job, "static_configs": [{"targets": [f"localhost:{port}" for port in ports]}]}
        for job, ports in jobs.items()
    ]
    settings = {"scrape_interval": every, "scrape_timeout": every}
    config = folder / "prometheus.yml"
    config.write_text(json.dumps({"global": settings, "scrape_configs": scraped}))
    port = free_port()
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                str(PROMETHEUS),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield _ready(Prometheus(f"http://127.0.0.1:{port}"), process)
    finally:
        process.terminate()
        process.wait(30)


def _ready(server: Prometheus, process: subprocess.Popen[bytes]) -> Prometheus:
    deadline = monotonic() + 60
    while monotonic() < deadline:
        assert process.poll() is None, "see prometheus.log"
        try:
            with urlopen(f"{server.url}/-/ready", timeout=5):
                return server
        except URLError:
            sleep(0.2)
    raise AssertionError("Prometheus is not ready in a minute")
