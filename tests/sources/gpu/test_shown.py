"""The demo shows the process and its machine, and each GPU if there is one."""

from __future__ import annotations

from io import StringIO

import pytest

import llmwatch
from llmwatch.export.store_reader import read_metrics
from tests.fake_nvml import GIB

pytest.importorskip("psutil")
rich = pytest.importorskip("rich.console")


def shown(folder):
    from llmwatch.demo.report_machine import machine

    llmwatch.instrument(sources=None, store_path=folder)
    llmwatch.flush()
    llmwatch.uninstrument()
    written = StringIO()
    rich.Console(width=100, file=written).print(machine(read_metrics(folder)))
    return [" ".join(line.split()) for line in written.getvalue().splitlines()]


def test_a_gpu_is_shown(driver, tmp_path):
    driver.add(memory__used=7 * GIB)
    *_, process, machine, gpu = shown(tmp_path / "store")
    assert process.startswith("this process")
    assert "threads" in process
    assert machine.startswith("its machine")
    assert gpu == "GPU 0, NVIDIA H100 80GB HBM3 40% 7.0 of 80.0 GiB 250 W"


def test_without_one_the_process_is(driver, tmp_path):
    *_, process, machine = shown(tmp_path / "store")
    assert "CPU" in process
    assert "GiB" in machine
