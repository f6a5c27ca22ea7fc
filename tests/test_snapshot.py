"""One look at everything, typed, and fit to print."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

import llmwatch
from llmwatch.measure.machine import Allocator, Device, Gpu, Host, Process
from llmwatch.snapshot import Resources

OOM = "out of memory: 1"


def test_it_prints_well():
    gib = 1024**3
    device = Device("GPU-1", "GPU 0", "NVIDIA", "NVIDIA H100")
    gpu = Gpu(
        device,
        utilization=0.4,
        memory_used=20 * gib,
        memory_limit=80 * gib,
        power=250.0,
        power_limit=700.0,
        temperature=45,
        process_memory=3 * gib,
    )
    process = Process(cpu_user=1.25, cpu_system=0.5, memory=gib // 4, threads=5, file_descriptors=9)
    host = Host(cpus=2, memory_used=3 * gib, memory_limit=8 * gib)
    torch = Allocator(
        "cuda:0",
        allocated=2 * gib,
        reserved=3 * gib,
        allocated_max=3 * gib,
        fragmentation=0.25,
        ooms=1,
    )
    assert str(Resources((gpu,), process, host, (torch,))).splitlines() == [
        "GPU 0:   NVIDIA H100, 40% busy, 20.0 of 80.0 GiB, 250.0 of 700.0 W, 45 °C, 3.0 GiB ours",
        "cuda:0:  2.0 of 3.0 GiB reserved in tensors, 3.0 GiB at most, 25% in fragments, " + OOM,
        "process: 1.8 s CPU, 256 MiB, 5 threads, 9 files",
        "host:    2 CPUs, 3.0 of 8.0 GiB",
    ]


def test_what_is_not_known_is_not_printed():
    device = Device("GPU-1", "GPU 0", "NVIDIA")
    assert str(Resources((Gpu(device, power=9.0),), Process(), None)).split("\n") == [
        "GPU 0:   9.0 W",
        "process: ",
    ]


@pytest.mark.skipif(find_spec("psutil") is None, reason="needs the extra host")
def test_it_reads_this_process_uninstrumented():
    found = llmwatch.resources()
    assert found.host is not None
    assert found.process is not None
    assert found.host.cpus == os.cpu_count()
    assert 2**20 < found.process.memory < found.host.memory_limit
