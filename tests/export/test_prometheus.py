"""Metrics that Prometheus comes to fetch: as long as llmwatch is there, and no longer."""

from __future__ import annotations

import socket
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

import llmwatch
from llmwatch.errors import ConfigError
from llmwatch.signals import active
from tests.export import programs


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> str:
    """Where metrics are served; traces and logs go nowhere."""
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
    return f"http://localhost:{port}/metrics"


def counts(url: str) -> dict[str, float]:
    with urlopen(url, timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        sample.labels["gen_ai_operation_name"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "gen_ai_client_operation_duration_seconds_count"
    }


def call(name: str) -> None:
    active.signals.start(name, "p", "m", {}).finish()


def test_counts_are_served_until_they_are_not(url: str) -> None:
    for _ in range(2):
        llmwatch.instrument(sources=())
        call("chat")
        call("chat")
        assert counts(url) == {"chat": 2}
        call("chat")
        assert counts(url) == {"chat": 3}
        llmwatch.uninstrument()
        with pytest.raises(URLError):
            counts(url)


def test_a_port_in_use_is_named_and_nothing_stays_behind(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
        with pytest.raises(ConfigError, match=str(port)):
            llmwatch.instrument(sources=())
    llmwatch.instrument(sources=())
    llmwatch.uninstrument()


FORK = """
import logging, threading, urllib.request
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(name)s")
emit("x")
child = os.fork()
if child == 0:
    emit("x")
    assert pipeline.flush(5)
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
url = "http://localhost:" + os.environ["OTEL_EXPORTER_PROMETHEUS_PORT"]
print([line for line in urllib.request.urlopen(url).read().decode().splitlines()
       if line.startswith("calls_total")][0].split()[-1])
"""


def test_a_forked_child_says_that_it_cannot_serve_and_lives_on(url: str, tmp_path: Any) -> None:
    out = programs.run(FORK, str(tmp_path), "store")
    assert out.splitlines() == ["WARNING llmwatch", "1.0"]
