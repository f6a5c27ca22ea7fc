"""Metrics that Prometheus comes to fetch: as long as llmwatch is there, and no longer."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from prometheus_client import REGISTRY, Counter
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

import llmwatch
from llmwatch.errors import ConfigError
from llmwatch.export.prometheus import OneAtATime, PrometheusReader
from llmwatch.signals import active
from tests import receivers
from tests.export import programs

CALLS = "gen_ai_client_operation_duration_seconds"


@pytest.fixture
def port() -> int:
    """One that was free a moment ago."""
    with socket.create_server(("localhost", 0)) as free:
        return int(free.getsockname()[1])


def served(port: int) -> list[Sample]:
    with urlopen(f"http://localhost:{port}/metrics", timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return [sample for family in families for sample in family.samples]


def calls(port: int) -> dict[str, float]:
    """How many operations of each name were counted."""
    return {
        sample.labels["gen_ai_operation_name"]: sample.value
        for sample in served(port)
        if sample.name == f"{CALLS}_count"
    }


def call(name: str = "chat") -> None:
    active.signals.start(name, "p", "m", {}).finish()


class TestAsked:
    """By ``prometheus_port``."""

    def test_counts_are_served_until_they_are_not(self, port: int) -> None:
        for _ in range(2):
            llmwatch.instrument(sources=(), prometheus_port=port)
            call()
            call()
            assert calls(port) == {"chat": 2}
            call("embeddings")
            assert calls(port) == {"chat": 2, "embeddings": 1}
            llmwatch.uninstrument()
            with pytest.raises(URLError):
                served(port)
            socket.create_server(("localhost", port)).close()  # nobody holds it

    def test_the_port_is_free_at_once_whatever_the_collector_does(self, port: int) -> None:
        with receivers.black_hole() as endpoint:
            for limit in (7, 8, 9):  # other settings: all is built anew
                llmwatch.instrument(
                    sources=(),
                    prometheus_port=port,
                    endpoint=endpoint,
                    flush_timeout=0.01,
                    content_limit=limit,
                )
                call()
                assert calls(port) == {"chat": 1}
            llmwatch.shutdown(0)
            socket.create_server(("localhost", port)).close()

    def test_a_histogram_of_ours_has_buckets_count_and_sum(self, port: int) -> None:
        llmwatch.instrument(sources=(), prometheus_port=port)
        for _ in range(3):
            call()
        samples = served(port)
        buckets = [each.value for each in samples if each.name == f"{CALLS}_bucket"]
        assert buckets == sorted(buckets)
        assert buckets[-1] == 3
        assert len(buckets) == 15  # those of the conventions, and the rest
        (total,) = (each.value for each in samples if each.name == f"{CALLS}_sum")
        assert 0 < total < 10

    def test_names_that_cannot_be_encoded_do_not_break_the_page(self, port: int) -> None:
        """Whether the program says them or a server."""
        llmwatch.instrument(sources=(), prometheus_port=port)
        assert active.signals is not None
        with llmwatch.attributes(route="/\ud800"):
            operation = active.signals.start("chat", "p", "m\ud800", {})
        assert operation is not None
        operation.response_model, operation.response_id = "r\ud800", "i\ud800"
        operation.finish_reasons = ["stop\ud800"]
        operation.finish()
        assert calls(port) == {"chat": 1}
        (labels,) = [each.labels for each in served(port) if each.name == f"{CALLS}_count"]
        assert labels["gen_ai_request_model"] == "m?"
        assert labels["gen_ai_response_model"] == "r?"
        assert labels["llmwatch_route"] == "/?"

    def test_a_variable_asks_too(self, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLMWATCH_PROMETHEUS_PORT", str(port))
        llmwatch.instrument(sources=())
        call()
        assert calls(port) == {"chat": 1}

    def test_it_is_reached_from_this_machine_only_unless_asked(
        self, port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.2")
        llmwatch.instrument(sources=(), prometheus_port=port)
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), 5)
        socket.create_connection(("127.0.0.2", port), 5).close()
        llmwatch.instrument(sources=(), prometheus_port=port, prometheus_host="localhost")
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", port), 5)
        socket.create_connection(("localhost", port), 5).close()

    def test_the_local_store_stays(self, port: int, tmp_path: Path) -> None:
        llmwatch.instrument(sources=(), prometheus_port=port, store_path=tmp_path)
        call()
        assert calls(port) == {"chat": 1}
        llmwatch.uninstrument()
        kept = "".join(each.read_text() for each in tmp_path.rglob("*metrics*.jsonl"))
        assert "gen_ai.client.operation.duration" in kept

    @pytest.mark.parametrize("aggregation", ["", "base2_exponential_bucket_histogram"])
    @pytest.mark.parametrize("temporality", ["", "delta"])
    def test_a_collector_gets_its_own_kind_of_the_same_counts(
        self,
        port: int,
        aggregation: str,
        temporality: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        name = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
        monkeypatch.setenv(name, aggregation)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality)
        with receivers.HttpReceiver() as collector:
            llmwatch.instrument(sources=(), prometheus_port=port, endpoint=collector.endpoint)
            for _ in range(3):
                call()
                assert llmwatch.flush(5)
            assert calls(port) == {"chat": 3}
            assert any(each.name == f"{CALLS}_bucket" for each in served(port))
            llmwatch.uninstrument()
            points = collector.points("gen_ai.client.operation.duration")
            sent = [point.count for _, point in points]
        assert (sum(sent) if temporality else max(sent)) == 3

    def test_a_view_to_exponential_histograms_leaves_the_others(self, port: int) -> None:
        exponential = View(
            instrument_type=Histogram, aggregation=ExponentialBucketHistogramAggregation()
        )
        ports = range(port, port + 1)
        reader = PrometheusReader("here", ports, OneAtATime(), "localhost")
        provider = MeterProvider([reader], views=[exponential], shutdown_on_exit=False)
        meter = provider.get_meter("tests")
        meter.create_histogram("times").record(1)
        meter.create_counter("calls").add(1)
        assert [each.name for each in served(port)] == ["target_info", "calls_total"]
        provider.shutdown()

    def test_whoever_asks_too_early_gets_nothing_and_is_not_complained_of(
        self, port: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        reader = PrometheusReader("here", range(port, port + 1), OneAtATime(), "localhost")
        assert served(port) == []
        reader.shutdown()
        assert not caplog.records

    def test_it_serves_what_opentelemetry_collects_and_nothing_else(self, port: int) -> None:
        counter = Counter("of_the_program", "…")
        try:
            llmwatch.instrument(sources=(), prometheus_port=port)
            call()
            assert not any(each.name.startswith(("of_the", "python_")) for each in served(port))
        finally:
            REGISTRY.unregister(counter)

    def test_many_who_ask_at_once_all_get_everything_once(self, port: int) -> None:
        llmwatch.instrument(sources=(), prometheus_port=port)
        call()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(served, [port] * 40))
        counted = [
            [each for each in samples if each.name == f"{CALLS}_count"] for samples in answers
        ]
        assert [len(each) for each in counted] == [1] * 40

    def test_where_none_of_the_exporters_is_asked_for_it_still_serves(
        self, port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for signal in ("TRACES", "METRICS", "LOGS"):
            monkeypatch.setenv(f"OTEL_{signal}_EXPORTER", "none")
        llmwatch.instrument(sources=(), prometheus_port=port)
        call()
        assert calls(port) == {"chat": 1}


class TestProcesses:
    """A port is one process' own."""

    def test_a_forked_child_takes_the_next_free_port(self, tmp_path: Path) -> None:
        first = consecutive(2)
        out = serving(FAMILY, tmp_path, LLMWATCH_PROMETHEUS_PORT=f"{first}-{first + 1}")
        assert json.loads(out) == [[1], [2]]

    def test_a_child_without_a_port_reports_by_otlp_all_the_same(
        self, port: int, tmp_path: Path
    ) -> None:
        with receivers.HttpReceiver() as collector:
            program = f"{SERVING}\nlog()\n{CHILD}"
            out = programs.run(
                program, collector.endpoint, LLMWATCH_PROMETHEUS_PORT=str(port), PORT=str(port)
            )
            last = {str(found): point.as_int for found, point in collector.points("calls")}
        assert out.splitlines() == ["WARNING llmwatch"]
        assert sorted(last.values()) == [1, 2]

    def test_a_child_does_not_hold_its_parents_port(self, port: int, tmp_path: Path) -> None:
        """Else whoever connects would wait for an answer of nobody."""
        out = serving(GONE, tmp_path, LLMWATCH_PROMETHEUS_PORT=str(port))
        assert out == "refused\n"


def serving(program: str, folder: Path, **more: str) -> str:
    """What a program prints that exports to the local store, and serves."""
    first = more["LLMWATCH_PROMETHEUS_PORT"].partition("-")[0]
    return programs.run(SERVING + program, str(folder), "store", PORT=first, **more)


SERVING = """
import json, logging, urllib.error, urllib.request
PORT = int(os.environ["PORT"])

def log():
    logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(name)s")

def served(port):
    text = urllib.request.urlopen(f"http://localhost:{port}/metrics").read().decode()
    return [int(float(line.split()[-1])) for line in text.splitlines()
            if line.startswith("calls_total")]
"""
CHILD = """
emit("x")
if (child := os.fork()) == 0:
    emit("x"); emit("x")
    assert pipeline.flush(5)
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
"""
FAMILY = """
emit("x")
end, start = os.pipe()
if (child := os.fork()) == 0:
    os.close(start)
    emit("x"); emit("x")
    os.read(end, 1)
    sys.exit()
os.close(end)
found, deadline = None, time.monotonic() + 20
while found != [[1], [2]] and time.monotonic() < deadline:
    try:
        found = [served(PORT), served(PORT + 1)]
    except urllib.error.URLError:
        time.sleep(0.05)
os.close(start)
assert os.waitpid(child, 0)[1] == 0
print(json.dumps(found))
"""
GONE = """
emit("x")
if (child := os.fork()) == 0:
    time.sleep(60)
pipeline.undo()
try:
    served(PORT)
except urllib.error.URLError as error:
    print("refused" if isinstance(error.reason, ConnectionRefusedError) else error)
os.kill(child, 9)
os.waitpid(child, 0)
"""


class TestUnusable:
    """A port that cannot be had."""

    @pytest.mark.parametrize(
        "value", [0, 65_536, -1, "x", "", " ", "9465-9464", "1-70000", True, 1.5]
    )
    def test_what_is_no_port_is_an_error(self, value: Any) -> None:
        with pytest.raises(ConfigError, match=r"prometheus_port=.*9464-9471"):
            llmwatch.instrument(sources=(), prometheus_port=value)

    def test_one_in_use_is_named_and_nothing_stays_behind(self, port: int) -> None:
        before = set(threading.enumerate())
        with (
            socket.create_server(("localhost", port)),
            pytest.raises(ConfigError, match=f"prometheus_port={port} .*in use"),
        ):
            llmwatch.instrument(sources=(), prometheus_port=port)
        assert set(threading.enumerate()) <= before
        llmwatch.instrument(sources=(), prometheus_port=port)
        call()
        assert calls(port) == {"chat": 1}

    def test_a_host_that_is_not_here_is_named(self, port: int) -> None:
        with pytest.raises(ConfigError, match=r"nowhere\.invalid"):
            llmwatch.instrument(sources=(), prometheus_port=port, prometheus_host="nowhere.invalid")

    def test_of_a_range_the_first_free_one_is_taken(self) -> None:
        first = consecutive(2)
        with socket.create_server(("localhost", first)):
            llmwatch.instrument(sources=(), prometheus_port=f"{first}-{first + 1}")
            call()
            assert calls(first + 1) == {"chat": 1}

    def test_a_range_that_is_all_taken_is_named(self) -> None:
        first = consecutive(2)
        with ExitStack() as stack:
            for each in range(first, first + 2):
                stack.enter_context(socket.create_server(("localhost", each)))
            with pytest.raises(ConfigError, match=f"'{first}-{first + 1}'"):
                llmwatch.instrument(sources=(), prometheus_port=f"{first}-{first + 1}")

    def test_a_provider_of_the_program_is_not_served_and_that_is_said(
        self, port: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        llmwatch.instrument(
            sources=(), prometheus_port=port, meter_provider=MeterProvider(shutdown_on_exit=False)
        )
        assert "prometheus_port= is not used" in caplog.text
        with pytest.raises(URLError):
            served(port)

    def test_a_missing_package_names_its_extra(self) -> None:
        program = (
            "import sys; sys.modules['prometheus_client'] = None\n"
            "import llmwatch\n"
            "try: llmwatch.instrument(sources=(), prometheus_port=9464)\n"
            "except llmwatch.MissingExtraError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert "pip install 'llmwatch-otel[prometheus]'" in done.stdout, done.stderr


def consecutive(count: int) -> int:
    """The first of so many ports that are free, one after the other."""
    for _ in range(100):
        with ExitStack() as stack, suppress(OSError):
            first: int = stack.enter_context(socket.create_server(("localhost", 0))).getsockname()[
                1
            ]
            for each in range(first + 1, first + count):
                stack.enter_context(socket.create_server(("localhost", each)))
            return first
    raise AssertionError


class TestStandard:
    """By OpenTelemetry's own variables."""

    @pytest.fixture(autouse=True)
    def _environment(self, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
        monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))

    def test_counts_are_served_until_they_are_not(self, port: int) -> None:
        for _ in range(2):
            llmwatch.instrument(sources=())
            call()
            assert calls(port) == {"chat": 1}
            llmwatch.uninstrument()
            with pytest.raises(URLError):
                served(port)

    def test_a_port_in_use_is_named_and_nothing_stays_behind(self, port: int) -> None:
        with (
            socket.create_server(("localhost", port)),
            pytest.raises(ConfigError, match=f"OTEL_EXPORTER_PROMETHEUS_PORT={port}"),
        ):
            llmwatch.instrument(sources=())
        llmwatch.instrument(sources=())

    def test_the_setting_has_the_last_word_on_the_port(self, port: int) -> None:
        other = consecutive(1)
        llmwatch.instrument(sources=(), prometheus_port=other)
        call()
        assert calls(other) == {"chat": 1}
        with pytest.raises(URLError):
            served(port)

    def test_a_forked_child_says_that_it_cannot_serve_and_lives_on(
        self, port: int, tmp_path: Path
    ) -> None:
        out = programs.run(FORK, str(tmp_path), "store")
        assert out.splitlines() == ["WARNING llmwatch", "1.0"]


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
