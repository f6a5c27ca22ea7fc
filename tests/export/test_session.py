"""Whole instrumentations: what operations do reaches a receiver from every process, once."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import llmwatch
from llmwatch.export.store_reader import read_metrics
from llmwatch.signals import active
from tests.export.test_fork import instance
from tests.receivers import GrpcReceiver, HttpReceiver, Receiver

DURATION = "gen_ai.client.operation.duration"
BEGIN = """
import os, sys, threading, time
import llmwatch
from llmwatch import _guard
from llmwatch.signals import active
_guard.strict = True
llmwatch.instrument(endpoint=sys.argv[1], protocol=sys.argv[2], sources=(), flush_timeout=3)
def call(name):
    active.signals.start(name, "p", "m", {}).finish()
"""


def run(program: str, receiver: Receiver, protocol: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BEGIN + program, receiver.endpoint, protocol],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def durations(receiver: Receiver) -> Counter[tuple[str, str]]:
    """How many operations were counted, by service instance and operation name."""
    last: Counter[tuple[str, str]] = Counter()
    for resource, point in receiver.points(DURATION):
        names = {each.key: each.value.string_value for each in point.attributes}
        key = instance(resource), names["gen_ai.operation.name"]
        assert point.count >= last[key]
        last[key] = point.count
    return last


def by_name(counts: Counter[tuple[str, str]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for (_, name), count in counts.items():
        found[name] += count
    return found


@pytest.mark.parametrize(
    ("kind", "protocol"), [(HttpReceiver, "http/protobuf"), (GrpcReceiver, "grpc")]
)
def test_operations_of_parent_and_children_are_each_counted_once(kind: Any, protocol: str) -> None:
    program = """
call("before"); call("before")
llmwatch.flush()
call("queued")
for _ in range(2):
    if os.fork() == 0:
        call("child")
        sys.exit()
for _ in range(2): assert os.wait()[1] == 0
call("after")
"""
    with kind() as receiver:
        run(program, receiver, protocol)
        expected = {"before": 2, "queued": 1, "child": 2, "after": 1}
        assert by_name(durations(receiver)) == expected
        names = Counter(name.removesuffix(" m") for name in receiver.names())
        assert names == expected
        assert len({place for place, _ in durations(receiver)}) == 3


def test_an_operation_in_flight_over_a_fork_is_the_parents() -> None:
    program = """
operation = active.signals.start("long", "p", "m", {})
child = os.fork()
operation.finish()
if child == 0:
    call("child")
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
"""
    with HttpReceiver() as receiver:
        run(program, receiver, "http/protobuf")
        assert by_name(durations(receiver)) == {"long": 1, "child": 1}
        assert sorted(receiver.names()) == ["child m", "long m"]


def test_forks_among_working_threads_count_everything_once() -> None:
    program = """
done = threading.Event()
def work():
    for _ in range(300):
        call("parent"); time.sleep(0.002)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for _ in range(12):
    if os.fork() == 0:
        call("child")
        done_in_time = llmwatch.flush(10)
        os._exit(0 if done_in_time else 1)
    time.sleep(0.02)
codes = [os.wait()[1] for _ in range(12)]
assert codes == [0] * 12, codes
for thread in threads: thread.join()
"""
    with HttpReceiver() as receiver:
        run(program, receiver, "http/protobuf")
        assert by_name(durations(receiver)) == {"parent": 900, "child": 12}


def test_a_meter_provider_set_later_is_followed_and_nothing_is_counted_twice() -> None:
    reader = InMemoryMetricReader()
    with HttpReceiver() as receiver:
        llmwatch.instrument(endpoint=receiver.endpoint, sources=())
        active.signals.start("before", "p", "m", {}).finish()
        metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
        active.signals.start("after", "p", "m", {}).finish()
        assert llmwatch.flush(5)
        data = reader.get_metrics_data()
        llmwatch.uninstrument()
        assert by_name(durations(receiver)) == {"before": 1}
    found = {
        point.attributes["gen_ai.operation.name"]: point.count
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == DURATION
        for point in metric.data.data_points
    }
    assert found == {"after": 1}


def test_a_tracer_provider_set_later_costs_no_metrics(tmp_path: Path) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    llmwatch.instrument(store_path=tmp_path, sources=())
    active.signals.start("one", "p", "m", {}).finish()
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
    active.signals.start("one", "p", "m", {}).finish()
    llmwatch.uninstrument()
    counts = [point.count for point in read_metrics(tmp_path) if point.metric == DURATION]
    assert counts[-1] == 2


def test_dropped_telemetry_is_reported_as_a_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    with HttpReceiver() as receiver, HttpReceiver(status=400) as refusing:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{refusing.endpoint}/v1/traces")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        llmwatch.instrument(sources=())
        active.signals.start("lost", "p", "m", {}).finish()
        assert not llmwatch.flush(5)
        llmwatch.uninstrument()
        told = [
            (point.attributes[0].value.string_value, point.as_int)
            for _, point in receiver.points("llmwatch.telemetry.dropped")
        ]
        assert told[:3] == [("traces", 0), ("metrics", 0), ("logs", 0)]
        assert told[-3:] == [("traces", 1), ("metrics", 0), ("logs", 0)]
