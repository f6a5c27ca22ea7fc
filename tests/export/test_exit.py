"""What is queued leaves when the process ends, and nothing holds the end up beyond its bound."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Any

import pytest

from llmwatch.export.bounded import MAX_WAITING
from llmwatch.export.lifecycle import ProcessEnd
from tests.export import programs
from tests.export.conftest import emit
from tests.receivers import GrpcReceiver, HttpReceiver, black_hole, closed_endpoint

pytestmark = pytest.mark.timing

PROTOCOLS = ["http/protobuf", "grpc"]


@pytest.fixture(params=["closed", "black hole"])
def dead(request: pytest.FixtureRequest) -> Iterator[str]:
    """Endpoint of a collector that is not there, or that never answers."""
    if request.param == "closed":
        yield closed_endpoint()
    else:
        with black_hole() as endpoint:
            yield endpoint


@pytest.mark.parametrize(
    ("kind", "protocol"), [(HttpReceiver, "http/protobuf"), (GrpcReceiver, "grpc")]
)
def test_a_program_that_just_ends_loses_nothing(kind: Any, protocol: str) -> None:
    with kind() as receiver:
        programs.run("emit('last words')", receiver.endpoint, protocol)
        assert receiver.names() == ["last words"]
        assert [event.event_name for event in receiver.events()] == ["last words"]
        assert [point.as_int for _, point in receiver.points("calls")] == [1]


def test_a_program_that_fails_loses_nothing() -> None:
    with HttpReceiver() as receiver:
        process = programs.start("emit('last words'); raise SystemExit(3)", receiver.endpoint)
        assert process.communicate(timeout=30)[1] == ""
        assert process.returncode == 3
        assert receiver.names() == ["last words"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_dead_collector_holds_up_the_end_only_so_long(protocol: str, dead: str) -> None:
    """The bound is 2 s; what is measured includes the interpreter's own end."""
    program = "emit('lost'); print(time.time(), flush=True)"
    process = programs.start(program, dead, protocol)
    assert process.stdout is not None
    process.stdout.readline()
    began = monotonic()
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert monotonic() - began < 2 + 1.5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_flush_and_undo_keep_their_timeout(protocol: str, dead: str, pipeline: Any) -> None:
    running = pipeline(endpoint=dead, protocol=protocol)
    emit(running.providers)
    for method in (running.flush, running.undo):
        began = monotonic()
        assert method(0.5) is False
        assert monotonic() - began < 0.5 + 0.4


def test_flushing_in_a_loop_does_not_pile_up_threads(pipeline: Any) -> None:
    with black_hole() as endpoint:
        running = pipeline(endpoint=endpoint)
        emit(running.providers)
        before = threading.active_count()
        for _ in range(20):
            running.flush(0.01)
        assert threading.active_count() - before <= 3 * MAX_WAITING
        running.undo(0)


def test_a_span_costs_the_same_with_a_dead_collector(pipeline: Any) -> None:
    """Nothing on the caller's thread waits for an exporter."""
    with black_hole() as endpoint:
        running = pipeline(endpoint=endpoint)
        tracer = running.providers.tracer_provider.get_tracer("t")
        began = monotonic()
        for _ in range(5000):
            tracer.start_span("s").end()
        assert monotonic() - began < 3
        running.undo(0)


# --- SIGTERM -------------------------------------------------------------------------------------

SLEEP = "emit('last words'); print('ready', flush=True); time.sleep(60)"


def test_sigterm_flushes_and_still_kills() -> None:
    with HttpReceiver() as receiver:
        process = programs.start(SLEEP, receiver.endpoint)
        programs.stop(process)
        assert process.returncode == -signal.SIGTERM
        assert process.communicate()[1] == ""
        assert receiver.names() == ["last words"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sigterm_kills_in_time_with_a_dead_collector(protocol: str, dead: str) -> None:
    process = programs.start(SLEEP, dead, protocol)
    assert programs.stop(process) < 2 + 1
    assert process.returncode == -signal.SIGTERM
    process.communicate()


def test_a_second_sigterm_kills_at_once() -> None:
    with black_hole() as endpoint:
        process = programs.start(SLEEP, endpoint)
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        sleep(0.3)
        began = monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert monotonic() - began < 1
        assert process.returncode == -signal.SIGTERM
        process.communicate()


def test_the_applications_own_handler_is_left_alone() -> None:
    program = """
import signal
pipeline.undo()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
pipeline = Pipeline(Config.load(endpoint=sys.argv[1]))
pipeline.install()
"""
    with HttpReceiver() as receiver:
        process = programs.start(program + SLEEP, receiver.endpoint)
        programs.stop(process)
        assert process.returncode == 7
        process.communicate()
        assert receiver.names() == ["last words"]  # by atexit


def end(handle: bool = True) -> tuple[ProcessEnd, list[str]]:
    called: list[str] = []
    return ProcessEnd(lambda: called.append("finish"), sigterm=handle), called


def test_the_handler_is_undone_exactly() -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    one, _ = end()
    one.install()
    assert signal.getsignal(signal.SIGTERM) == one._on_sigterm
    one.undo()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_put_over_ours_stays() -> None:
    def theirs(*_: object) -> None: ...

    one, _ = end()
    one.install()
    signal.signal(signal.SIGTERM, theirs)
    try:
        one.undo()
        assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_sigterm_is_left_alone_off_the_main_thread_and_when_not_asked_for() -> None:
    for one, _ in (end(), end(handle=False)):
        thread = threading.Thread(target=one.install)
        thread.start() if one._sigterm else one.install()
        if one._sigterm:
            thread.join()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        one.undo()


def test_a_handler_that_could_not_be_taken_out_only_ends_the_process() -> None:
    program = """
import threading
thread = threading.Thread(target=pipeline.undo); thread.start(); thread.join()
""" + SLEEP.replace("emit('last words')", "None")
    with HttpReceiver() as receiver:
        process = programs.start(program, receiver.endpoint)
        programs.stop(process)
        assert process.returncode == -signal.SIGTERM
        assert process.communicate()[1] == ""
