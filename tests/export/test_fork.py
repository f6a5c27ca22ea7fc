"""Parent and child both report, nothing is counted twice, and nothing hangs."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from tests.export import programs
from tests.receivers import GrpcReceiver, HttpReceiver, Receiver, black_hole

RECEIVERS = [(HttpReceiver, "http/protobuf"), (GrpcReceiver, "grpc")]


def instance(resource: Any) -> str:
    return next(
        each.value.string_value for each in resource.attributes if each.key == "service.instance.id"
    )


def calls(receiver: Receiver) -> Counter[str]:
    """The last value of the counter ``calls``, by service instance; values never go down."""
    last: Counter[str] = Counter()
    for resource, point in receiver.points("calls"):
        assert point.as_int >= last[instance(resource)]
        last[instance(resource)] = point.as_int
    return last


FORK = """
emit("before")
pipeline.flush(5)
emit("queued")
child = os.fork()
if child == 0:
    emit("child"); emit("child")
    sys.exit()
emit("parent")
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize(("kind", "protocol"), RECEIVERS)
def test_parent_and_child_report_each_what_they_did(kind: Any, protocol: str) -> None:
    with kind() as receiver:
        programs.run(FORK, receiver.endpoint, protocol)
        expected = ["before", "child", "child", "parent", "queued"]
        assert sorted(receiver.names()) == expected
        assert sorted(event.event_name for event in receiver.events()) == expected
        assert sorted(calls(receiver).values()) == [2, 3]


def test_a_child_that_does_nothing_sends_nothing() -> None:
    program = "emit('parent'); pipeline.flush(5)\nif os.fork() == 0: sys.exit()\nos.wait()"
    with HttpReceiver() as receiver:
        programs.run(program, receiver.endpoint)
        assert receiver.names() == ["parent"]
        assert len(calls(receiver)) == 1


def test_a_child_of_a_child_reports_too() -> None:
    program = """
if os.fork() == 0:
    emit("child")
    if os.fork() == 0:
        emit("grandchild")
        sys.exit()
    os.wait()
    sys.exit()
os.wait()
emit("parent")
"""
    with HttpReceiver() as receiver:
        programs.run(program, receiver.endpoint)
        assert sorted(receiver.names()) == ["child", "grandchild", "parent"]
        assert list(calls(receiver).values()) == [1, 1, 1]


MANY = """
import threading
done = threading.Event()
def work():
    while not done.is_set():
        emit("parent")
        time.sleep(0.001)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for _ in range(20):
    if os.fork() == 0:
        emit("child")
        pipeline.flush(5)
        os._exit(0)
    time.sleep(0.01)
for _ in range(20): assert os.wait()[1] == 0
done.set()
for thread in threads: thread.join()
"""


@pytest.mark.parametrize(("kind", "protocol"), RECEIVERS)
def test_forks_in_the_midst_of_work_neither_hang_nor_lose_nor_repeat(
    kind: Any, protocol: str
) -> None:
    """Exports go on all the while; grpc itself would abort a child, or send a batch twice."""
    with kind() as receiver:
        programs.run(MANY, receiver.endpoint, protocol, OTEL_BSP_SCHEDULE_DELAY="5")
        assert Counter(receiver.names())["child"] == 20
        assert list(calls(receiver).values()).count(1) == 20
        ids = [span.span_id for span in receiver.spans()]
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_fork_waits_only_a_moment_for_a_server_that_does_not_answer(protocol: str) -> None:
    program = """
emit("x"); time.sleep(0.5)
for _ in range(2):
    began = time.monotonic()
    if os.fork() == 0: os._exit(0)
    took = time.monotonic() - began
    assert took < 0.25 + 0.25, took
    os.wait()
os._exit(0)
"""
    with black_hole() as endpoint:
        process = programs.start(program, endpoint, protocol, OTEL_BSP_SCHEDULE_DELAY="5")
        _, errors = process.communicate(timeout=60)  # grpc itself remarks on such a fork
        assert process.returncode == 0, errors


IMPORTS = """
from llmwatch.export.delivery import _Delivery
def send(delivery, batch, items, **more):
    exporter = delivery._get()
    before = set(sys.modules)
    exporter.export(batch, **more)
    print(sorted(set(sys.modules) - before))
    return True
_Delivery.send = send
emit("x")
for name in ("tracer", "meter", "logger"):
    getattr(pipeline.providers, name + "_provider").force_flush()
os._exit(0)
"""


@pytest.mark.parametrize("kind", ["http/protobuf", "grpc", "store"])
def test_sending_imports_nothing_that_building_did_not(kind: str, tmp_path: Any) -> None:
    """Forks wait while an exporter is built, not while it sends."""
    receiver = {"http/protobuf": HttpReceiver, "grpc": GrpcReceiver}.get(kind)
    if receiver is None:
        out = programs.run(IMPORTS, str(tmp_path), kind)
    else:
        with receiver() as running:
            out = programs.run(IMPORTS, running.endpoint, kind)
    assert out == "[]\n" * 3


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_of_multiprocessing_report_at_their_end(method: str, tmp_path: Any) -> None:
    """They skip atexit. A spawned child instruments itself, as its module is imported anew."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    program = tmp_path / "program.py"
    program.write_text(
        programs.BEGIN
        + """
import multiprocessing
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[3])
    process = context.Process(target=emit, args=("child",))
    process.start(); process.join()
    assert process.exitcode == 0
"""
    )
    with HttpReceiver() as receiver:
        subprocess.run(
            [sys.executable, str(program), receiver.endpoint, "http/protobuf", method],
            check=True,
            timeout=60,
        )
        assert receiver.names() == ["child"]
        assert list(calls(receiver).values()) == [1]


def test_workers_of_a_pool_report_when_it_is_closed() -> None:
    program = """
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    pool.map(emit, ["child"] * 6, chunksize=3)
    pool.close(); pool.join()
"""
    with HttpReceiver() as receiver:
        programs.run(program, receiver.endpoint)
        assert receiver.names() == ["child"] * 6
        assert sum(calls(receiver).values()) == 6


def test_a_child_flushes_on_sigterm() -> None:
    program = """
child = os.fork()
if child == 0:
    emit("child"); os.write(1, b"ready\\n"); time.sleep(60)
import signal
os.write(1, b"started\\n")
sys.stdin.readline()
os.kill(child, signal.SIGTERM)
assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
"""
    with HttpReceiver() as receiver:
        process = subprocess.Popen(
            [sys.executable, "-c", programs.BEGIN + program, receiver.endpoint, "http/protobuf"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert {process.stdout.readline(), process.stdout.readline()} == {"ready\n", "started\n"}
        process.communicate("\n", timeout=30)
        assert process.returncode == 0
        assert receiver.names() == ["child"]


def test_sigterm_to_a_group_kills_parent_and_child_after_a_flush() -> None:
    program = """
if os.fork() == 0:
    emit("child"); print("ready", flush=True); time.sleep(60)
emit("parent"); time.sleep(60)
"""
    with HttpReceiver() as receiver:
        process = programs.start(program, receiver.endpoint)
        programs.stop(process, group=True)
        process.communicate(timeout=30)  # until the child has closed its pipes too
        assert process.returncode == -signal.SIGTERM
        assert sorted(receiver.names()) == ["child", "parent"]


GLOBAL = """
pipeline.undo()
pipeline = Pipeline(Config.load(endpoint=sys.argv[1], flush_timeout=2, set_global=True))
pipeline.install()
tracer = trace.get_tracer("app")
tracer.start_span("manual parent").end()
if os.fork() == 0:
    tracer.start_span("manual child").end()
    emit("child")
    assert metrics.get_meter_provider() is pipeline.providers.meter_provider
    metrics.get_meter("app").create_counter("manual").add(5)
    sys.exit()
os.wait()
"""


def test_manual_spans_of_a_child_leave_through_ours_where_they_are_global() -> None:
    with HttpReceiver() as receiver:
        programs.run(GLOBAL, receiver.endpoint)
        assert sorted(receiver.names()) == ["child", "manual child", "manual parent"]
        assert [point.as_int for _, point in receiver.points("manual")] == [5]


GIVEN = """
pipeline.undo()
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
theirs = TracerProvider()
theirs.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(sys.argv[1] + "/v1/traces")))
pipeline = Pipeline(Config.load(
    endpoint=sys.argv[1], tracer_provider=theirs, meter_provider=MeterProvider(),
))
pipeline.install()
if os.fork() == 0:
    emit("child")
    assert pipeline.providers.tracer_provider is theirs
    sys.exit()
os.wait()
emit("parent")
"""


def test_given_providers_are_the_same_in_a_child() -> None:
    with HttpReceiver() as receiver:
        programs.run(GIVEN, receiver.endpoint)
        assert sorted(receiver.names()) == ["child", "parent"]
        assert sorted(event.event_name for event in receiver.events()) == ["child", "parent"]


def test_the_store_of_a_child_is_a_file_of_its_own(tmp_path: Any) -> None:
    from llmwatch.export.store_reader import read_metrics, read_spans

    programs.run(FORK, str(tmp_path), "store")
    assert sorted(span.name for span in read_spans(tmp_path)) == [
        "before", "child", "child", "parent", "queued",
    ]  # fmt: skip
    assert len({each.name.rsplit("-")[-1] for each in tmp_path.glob("*.jsonl")}) == 2
    last = {point.resource["service.instance.id"]: point.value for point in read_metrics(tmp_path)}
    assert sorted(last.values()) == [2, 3]
