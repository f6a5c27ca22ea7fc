"""What was seen is delivered before the process ends, and whatever the collector does meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from tests.collector.collector import Arrived, Collector, Rotel, gaps
from tests.collector.programs import Programs

pytestmark = pytest.mark.collector

PROTOCOLS = ["http/protobuf", "grpc"]
DURATION = "gen_ai.client.operation.duration"


@pytest.fixture(params=PROTOCOLS)
def where(collector: Collector, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings that lead to the collector."""
    return {"endpoint": collector.rotel.endpoint(request.param), "protocol": request.param}


def calls(number: int) -> Any:
    """A condition: so many calls arrived, with every signal."""

    def arrived(now: Arrived) -> bool:
        counted = sum(now.counts(DURATION).values())
        return len(now.spans) == len(now.events) == counted == number

    return arrived


def test_a_process_ends_promptly(
    collector: Collector, programs: Programs, service: str, where: dict[str, Any]
) -> None:
    """Delivering takes a moment, not an interval: far less than the 5 s it may take."""
    running = programs.start("call(); stream(5); say('done')", **where, operation_events=True)
    assert running.says() == "done"
    assert running.ends() < 4
    collector.arrived(service, calls(2))


def test_a_process_that_fails_delivers_too(
    collector: Collector, programs: Programs, service: str, where: dict[str, Any]
) -> None:
    """Its exit status is its own."""
    programs.start("call(); sys.exit(3)", **where, operation_events=True).ends(3)
    collector.arrived(service, calls(1))


def test_sigterm_delivers_and_kills(
    collector: Collector, programs: Programs, service: str, where: dict[str, Any]
) -> None:
    """In the midst of a stream that says no more: what had ended before is delivered."""
    hang = """
call(); stream(5)
script = {"fault": "hang", "fault_after": 3}
headers = {"x-llmwatch-script": json.dumps(script)}
for _ in client.chat.completions.create(**ASK, stream=True, extra_headers=headers):
    say("chunk")
"""
    running = programs.start(hang, **where, operation_events=True)
    for _ in range(3):
        assert running.says() == "chunk"
    assert running.is_told_to_stop() < 4
    arrived = collector.arrived(service, lambda now: len(now.spans) >= 2)
    assert sum(arrived.counts(DURATION).values()) == len(arrived.spans) == len(arrived.events)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collector_that_is_away_for_a_moment_misses_nothing(
    collector: Collector, rotel: Rotel, programs: Programs, service: str, protocol: str
) -> None:
    """Exports are tried again; the second call is made while nobody listens."""
    program = """
call()
assert llmwatch.flush(20)
say("flushed")
sys.stdin.readline()
stream(5)
say("flushing")
assert llmwatch.flush(20)
say("flushed")
"""
    where = {"endpoint": rotel.endpoint(protocol), "protocol": protocol}
    running = programs.start(program, **where, operation_events=True)
    assert running.says() == "flushed"
    rotel.stop()
    running.tell()
    assert running.says() == "flushing"
    rotel.start()
    assert running.says() == "flushed"
    running.ends(quietly=False)  # the exporters log each attempt that failed
    arrived = collector.arrived(service, calls(2))
    counted = sum(arrived.counts("llmwatch.stream.inter_chunk_time").values())
    assert counted in gaps(arrived.spans)
