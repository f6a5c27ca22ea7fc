"""What psutil says of this process and of the host.

What a system does not tell, or does not let us see, is None.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from llmwatch._optional import require
from llmwatch.measure.machine import Host, Process


def read_process() -> Process:
    """This process, whichever it is by now: a fork makes it another.

    Raises:
        MissingExtraError: If psutil is not installed.
    """
    psutil: Any = require("psutil", extra="host")
    process = psutil.Process(os.getpid())
    ask = _asker(psutil)
    with process.oneshot():
        cpu, memory = ask(process.cpu_times), ask(process.memory_info)
        switches = _switches() or ask(process.num_ctx_switches)
        count_files = getattr(process, "num_fds", None)  # Windows has handles instead
        return Process(
            cpu_user=cpu and cpu.user,
            cpu_system=cpu and cpu.system,
            memory=memory and memory.rss,
            memory_virtual=memory and memory.vms,
            threads=ask(process.num_threads),
            file_descriptors=count_files and ask(count_files),
            switches_voluntary=switches and switches.voluntary,
            switches_involuntary=switches and switches.involuntary,
        )


def read_host() -> Host:
    """The machine.

    Raises:
        MissingExtraError: If psutil is not installed.
    """
    psutil: Any = require("psutil", extra="host")
    ask = _asker(psutil)
    cpu, memory = ask(psutil.cpu_times), ask(psutil.virtual_memory)
    total = idle = None
    if cpu is not None:
        # The time of guests is in `user` and `nice` already.
        total = sum(cpu) - getattr(cpu, "guest", 0.0) - getattr(cpu, "guest_nice", 0.0)
        idle = cpu.idle + getattr(cpu, "iowait", 0.0)
    return Host(
        cpus=os.cpu_count(),
        cpu_busy=None if total is None or idle is None else total - idle,
        cpu_total=total,
        memory_used=memory and memory.total - memory.available,
        memory_available=memory and memory.available,
        memory_limit=memory and memory.total,
    )


class _Switches(NamedTuple):
    voluntary: int
    involuntary: int


def _switches() -> _Switches | None:
    """Those of all threads, ended ones too: on Linux, psutil's are the main thread's alone."""
    try:
        import resource
    except ModuleNotFoundError:  # on Windows
        return None
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return _Switches(usage.ru_nvcsw, usage.ru_nivcsw)


def _asker(psutil: Any) -> Callable[[Callable[[], Any]], Any]:
    def ask(query: Callable[[], Any]) -> Any:
        try:
            return query()
        except (psutil.Error, OSError, NotImplementedError):
            return None

    return ask
