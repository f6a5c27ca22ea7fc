"""Parent and children report to one collector, each for itself, and nothing is counted twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.request import urlopen

import pytest
from opentelemetry.sdk.trace import TracerProvider

from llmwatch.demo.server import Server
from tests.collector.collector import Arrived, Collector, environment, free_ports, gaps
from tests.collector.programs import Programs

pytestmark = [
    pytest.mark.collector,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
]

PROTOCOLS = ["http/protobuf", "grpc"]
DURATION = "gen_ai.client.operation.duration"


@pytest.fixture(params=PROTOCOLS)
def where(collector: Collector, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings that lead to the collector."""
    return {"endpoint": collector.rotel.endpoint(request.param), "protocol": request.param}


def by_instance(items: list[dict[str, Any]]) -> Counter[str]:
    """How many spans or events each process sent."""
    return Counter(each["resource"]["service.instance.id"] for each in items)


def check(arrived: Arrived, expected: list[int]) -> None:
    """So many processes made so many calls each, by every signal."""
    counts = arrived.counts(DURATION)
    assert sorted(counts.values()) == expected
    assert len(arrived.spans) == len(arrived.events) == sum(expected)
    if hasattr(TracerProvider, "_handle_fork"):  # older releases of the SDK send a parent's name
        assert counts == by_instance(arrived.spans) == by_instance(arrived.events)


CHILDREN = """
import multiprocessing

def child(chunks):
    global client
    client = connect()  # processes cannot share a connection
    stream(chunks)

call()
context = multiprocessing.get_context("fork")
children = [context.Process(target=child, args=(number,)) for number in (4, 5)]
for child in children: child.start()
for child in children: child.join()
assert [child.exitcode for child in children] == [0, 0]
call()
"""


def test_children_of_multiprocessing_report(
    collector: Collector, programs: Programs, service: str, where: dict[str, Any]
) -> None:
    """The parent's queue and sums stay the parent's."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork here")
    programs.start(CHILDREN, **where, operation_events=True).ends()
    arrived = collector.arrived(service, lambda now: len(now.spans) == 4)
    check(arrived, [1, 1, 2])
    assert sum(arrived.counts("llmwatch.stream.inter_chunk_time").values()) in gaps(arrived.spans)


APPLICATION = """
import json, os
import llmwatch
from openai import OpenAI

llmwatch.instrument(**json.loads(os.environ["SETTINGS"]))


def ask():
    with OpenAI(base_url=os.environ["BASE_URL"], api_key="sk-secret", max_retries=0) as client:
        messages = [{"role": "user", "content": "why?"}]
        for _ in client.chat.completions.create(model="gpt-4o", messages=messages, stream=True):
            pass


ask()  # in the master, before it forks


def application(environ, start_response):
    ask()
    start_response("200 OK", [("content-type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


@pytest.fixture
def gunicorn(
    tmp_path: Path, server: Server, service: str, where: dict[str, Any]
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """gunicorn with ``--preload``, two workers, and the port it listens on."""
    (port,) = free_ports(1)
    (tmp_path / "program.py").write_text(APPLICATION)
    command = [
        sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--bind",
        f"127.0.0.1:{port}", "--no-control-socket", "--log-level", "error", "program:application",
    ]  # fmt: skip
    given = {
        "OTEL_SERVICE_NAME": service,
        "BASE_URL": server.base_url,
        "SETTINGS": json.dumps({**where, "operation_events": True}),
    }
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(**given), text=True)
    yield process, port
    process.kill()
    process.wait()


def test_workers_that_were_forked_from_a_master_report(
    collector: Collector, service: str, gunicorn: tuple[subprocess.Popen[str], int]
) -> None:
    """The master has watched a call before; every worker counts the requests it served."""
    process, port = gunicorn
    served: Counter[str] = Counter()
    deadline = monotonic() + 30
    while len(served) < 2 or served.total() < 6:
        assert monotonic() < deadline
        try:
            with urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                served[answer.read().decode()] += 1
        except OSError:  # it does not listen yet
            sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    arrived = collector.arrived(service, lambda now: len(now.spans) == served.total() + 1)
    check(arrived, sorted([1, *served.values()]))
