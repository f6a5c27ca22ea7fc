"""Adding stays on the thread that adds: waking BLAS's threads for a few rows costs more."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import time

import numpy as np

from llmwatch import DriftMonitor
from llmwatch.drift.reference import fit_reference

random = np.random.default_rng(0)
rows = (random.normal(size=(640, {dimension})) + {away}).astype(np.float32)
monitor = DriftMonitor("m", fit_reference(rows[:400], window=100, replicates=20), window=100)
blocks = np.split(rows, 10)
for block in blocks:
    monitor.add(block)
time.sleep(0.5)  # the threads that fitted stay awake for a while
process, thread = time.process_time(), time.thread_time()
for _ in range(40):
    for block in blocks:
        monitor.add(block)
thread = time.thread_time() - thread
assert monitor.state().count
print((time.process_time() - process) / thread)
"""


@pytest.mark.parametrize("dimension", [384, 1024, 1536])
@pytest.mark.parametrize("away", [0, 20])
def test_adding_wakes_no_thread_of_blas(dimension, away):
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(dimension=dimension, away=away)],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not ran.returncode, ran.stderr
    assert float(ran.stdout) < 1.05
