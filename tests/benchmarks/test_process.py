"""What watching adds to a whole process: its start, and its memory in the long run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.processes import ROOT, Process
from tests.benchmarks.table import number_of_bytes, seconds

START = """
from time import process_time
from tests.benchmarks.worker import Pipeline, WATCHERS
from tests.benchmarks.work import WORK

pipeline, unit = Pipeline(), WORK["chat"]()
before = process_time()
WATCHERS[{watcher!r}](pipeline)
unit()
print(process_time() - before, process_time())
"""
"""A program that has imported the SDK and the client, and makes its first call."""


def start(watcher: str, cache: Path) -> tuple[float, float]:
    """CPU seconds of instrumenting and a first call, and of the whole program."""
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else all is compiled anew each time
    done = subprocess.run(
        [sys.executable, "-c", START.format(watcher=watcher)],
        capture_output=True, text=True, check=True, cwd=ROOT, env=environment,
    )  # fmt: skip
    first, whole = map(float, done.stdout.split())
    return first, whole


def test_a_cold_start(turns, overhead, tmp_path):
    """Instrumenting adds at most 50 ms to a program that takes a second to its first call.

    By the least of many starts: nothing but the machine makes one slower than another.
    """
    watchers = ("nobody", "by hand", "llmwatch with every source")
    for watcher in watchers:
        start(watcher, tmp_path)  # compiles
    starts = [{each: start(each, tmp_path) for each in watchers} for _ in range(turns)]
    first = {each: min(found[each][0] for found in starts) for each in watchers}
    whole = min(found["nobody"][1] for found in starts)
    added = first["llmwatch with every source"] - first["nobody"]
    by_hand = first["by hand"] - first["nobody"]
    overhead(
        "A process",
        "cold start: CPU added up to the end of a first call",
        f"{seconds(added)} (by hand {seconds(by_hand)})",
        f"the bare program: {seconds(whole)}",
        1 + added / whole,
        1.05,
    )


@pytest.fixture
def calls(request) -> int:
    """How many calls memory is watched for."""
    return 400 if request.config.getoption("--quick") else 20_000


@pytest.fixture
def fresh():
    """Workers that have done nothing yet, one for each watcher."""
    made = {watcher: Process() for watcher in ("nobody", "llmwatch")}
    yield made
    for each in made.values():
        each.close()


WARM = 1000
"""Calls before memory is looked at: caches and queues have their size by then."""


def test_resident_memory_does_not_grow(fresh, calls, overhead):
    grown = {}
    for watcher, worker in fresh.items():
        worker("resident", watcher, min(WARM, calls))
        grown[watcher] = worker("resident", watcher, calls)
    overhead(
        "A process",
        f"growth of resident memory over {calls:,} calls",
        number_of_bytes(grown["llmwatch"]),
        f"bare: {number_of_bytes(grown['nobody'])}",
        (grown["llmwatch"] - grown["nobody"]) / calls,
        100,  # what leaks at all leaks more
        unit=" B a call",
    )


def test_python_holds_on_to_nothing(fresh, calls, overhead):
    calls = max(calls // 10, 100)
    held = {watcher: worker("traced", watcher, calls) for watcher, worker in fresh.items()}
    overhead(
        "A process",
        f"growth of Python's own memory over {calls:,} calls",
        number_of_bytes(held["llmwatch"]),
        f"bare: {number_of_bytes(held['nobody'])}",
        (held["llmwatch"] - held["nobody"]) / calls,
        100,
        unit=" B a call",
    )
