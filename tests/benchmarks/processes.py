"""Worker processes, and what is made of their answers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]


class Process:
    """One worker: see `tests.benchmarks.worker`.

    Args:
        under: A command to run it under, for example valgrind's.
    """

    def __init__(self, under: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*under, sys.executable, "-m", "tests.benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": "0"},
        )
        self._answer()

    def __call__(self, command: str, *arguments: Any) -> Any:
        """Give a command, and wait for its answer."""
        assert self._process.stdin is not None
        print(json.dumps([command, *arguments]), file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.communicate()
            raise RuntimeError("a worker has died; see above for why")
        return json.loads(line)


class Costs(NamedTuple):
    """CPU seconds a unit of work, of one watcher and of nobody, by turns."""

    bare: list[float]
    watched: list[float]

    @property
    def added(self) -> float:
        """What watching adds to one unit: the median of the turns."""
        return median(with_ - without for with_, without in self._turns())

    @property
    def least(self) -> float:
        """The same from the quickest turn of each."""
        return min(self.watched) - min(self.bare)

    @property
    def ratio(self) -> float:
        """What a watched unit costs, as a ratio to a bare one: the median of the turns."""
        return median(with_ / without for with_, without in self._turns())

    def _turns(self) -> list[tuple[float, float]]:
        return list(zip(self.watched, self.bare, strict=True))


def compare(worker: Process, work: str, *watchers: str, times: int, turns: int) -> list[Costs]:
    """Let nobody and the watchers have *turns* turns of *times* units each."""
    names = ("nobody", *watchers)
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(turns + 1):
        for name in names if turn % 2 else reversed(names):
            seconds = worker("run", name, work, times) / times
            if turn:  # the first one warms up
                found[name].append(seconds)
    return [Costs(found["nobody"], found[name]) for name in watchers]


# --- instructions --------------------------------------------------------------------------------

_HELPER = """
#include <valgrind/callgrind.h>
void start(void) { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
void stop(const char *name) { CALLGRIND_DUMP_STATS_AT(name); CALLGRIND_STOP_INSTRUMENTATION; }
"""


def why_no_callgrind() -> str | None:
    """What is missing to count instructions; None: nothing."""
    for program in ("valgrind", "cc"):
        if shutil.which(program) is None:
            return f"instructions are counted by valgrind's callgrind, and there is no {program!r}"
    return None


def instructions(jobs: Mapping[tuple[str, str], int], folder: Path) -> dict[tuple[str, str], float]:
    """Instructions a unit of work.

    Args:
        jobs: Watchers and works, and how many units of each.
        folder: An empty one, for callgrind's files.
    """
    helper = folder / "helper.so"
    command = ["cc", "-O1", "-shared", "-fPIC", "-x", "c", "-", "-o", str(helper)]
    subprocess.run(command, input=_HELPER, text=True, check=True)
    under = [
        "valgrind", "--tool=callgrind", "--instr-atstart=no", "--log-file=/dev/null",
        f"--callgrind-out-file={folder}/counts",
    ]  # fmt: skip
    worker = Process(under)
    for (watcher, work), times in jobs.items():
        worker("count", watcher, work, times, str(helper))
    worker.close()
    found = dict(filter(None, map(_dumped, folder.glob("counts*"))))
    return {
        (watcher, work): found[f"{watcher}: {work}"] / times
        for (watcher, work), times in jobs.items()
    }


def _dumped(path: Path) -> tuple[str, int] | None:
    text = path.read_text()
    name = re.search(r"^desc: Trigger: Client Request: (.+)$", text, re.MULTILINE)
    total = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
    return (name[1], int(total[1])) if name and total else None
