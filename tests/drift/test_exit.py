"""A short program that ends with embeddings in a buffer tells their counts all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from llmwatch import semconv
from tests.receivers import HttpReceiver

pytest.importorskip("openai", reason="needs the extra openai")

PROGRAM = """
import os, sys
import numpy as np
import llmwatch
from tests.sources.openai import transport

llmwatch.instrument(endpoint=sys.argv[1], drift="first:2000", drift_numbers=["input_tokens"])
own = llmwatch.DriftMonitor("own", "first:2000")
own.add(np.ones((5, 8), np.float32))
own.add(np.ones(8, np.float32))
client = transport.client()
client.embeddings.create(model="m", input=["a", "b", "c"])
"""
FORK = """
if (child := os.fork()) == 0:
    own.add(np.ones((2, 8), np.float32))
    client.embeddings.create(model="m", input=["a"])
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
"""


def told(receiver: HttpReceiver) -> Counter[str]:
    """Embeddings by monitor, all processes together: the last value of each."""
    last: dict[tuple[str, str], int] = {}
    for resource, point in receiver.points("llmwatch.drift.embeddings"):
        process = next(
            each.value.string_value
            for each in resource.attributes
            if each.key == "service.instance.id"
        )
        named = {each.key: each.value.string_value for each in point.attributes}
        last[process, named[semconv.DRIFT_MONITOR]] = point.as_int
    found: Counter[str] = Counter()
    for (_, monitor), many in last.items():
        found[monitor] += many
    return found


@pytest.mark.parametrize("fork", [False, True])
def test_a_program_that_just_ends_tells_of_every_embedding(fork):
    with HttpReceiver() as receiver:
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAM + (FORK if fork else ""), receiver.endpoint],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        more = int(fork)
        assert told(receiver) == {
            "own": 6 + 2 * more,
            "m": 3 + more,
            "embeddings input_tokens": 1 + more,
        }
