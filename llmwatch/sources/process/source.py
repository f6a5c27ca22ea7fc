"""This process and its host as a source: read when metrics are collected.

OpenTelemetry's own instrumentation of system metrics says much the same of the process and more of
the host; where it is active, no metric is said here that it says. It is not used for this because
it cannot be undone, and goes on to speak of the parent in a forked child.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Collection
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from llmwatch import semconv_hardware as names
from llmwatch.errors import MissingExtraError
from llmwatch.semconv_hardware import PROCESS_METRICS
from llmwatch.signals.observed import Observation, Reading

if TYPE_CHECKING:
    from llmwatch.measure.machine import Host, Process
    from llmwatch.signals.operation import Signals
    from llmwatch.sources.process.pauses import GcPauses, LoopLag

_log = logging.getLogger("llmwatch")

Found = dict[str, list[Observation]]
"""Observations by key of `PROCESS_METRICS`."""


class Source:
    """The process of one session.

    Args:
        signals: Where what is read goes.
    """

    def __init__(self, signals: Signals) -> None:
        from llmwatch.sources.process.pauses import GcPauses, LoopLag

        self._signals = signals
        self._pauses, self._lag = GcPauses(), LoopLag()
        self._pauses.install()
        signals.listeners += (self._lag,)
        self._pid = os.getpid()
        self._reading = Reading(self._read)
        self._before: tuple[float, Process, Host] | None = None
        self._told = False
        for key, metric in PROCESS_METRICS.items():
            signals.observe(metric, partial(self._reading, key))

    def undo(self) -> None:
        """Stop timing; what is observed ends with the last collection."""
        self._pauses.undo()
        mine = self._lag
        self._signals.listeners = tuple(
            each for each in self._signals.listeners if each is not mine
        )

    def _read(self) -> Found:
        found = _of_pauses(self._pauses, self._lag) | self._machine()
        said = _said_by_another()
        return {key: each for key, each in found.items() if PROCESS_METRICS[key].name not in said}

    def _machine(self) -> Found:
        from llmwatch.sources.process.reading import read_host, read_process

        if self._pid != os.getpid():
            self._pid, self._before = os.getpid(), None
        try:
            now = monotonic(), read_process(), read_host()
        except MissingExtraError as missing:
            if not self._told:
                self._told = True
                _log.debug("llmwatch says nothing of the process: %s", missing)
            return {}
        before, self._before = self._before, now
        return _of_process(now[1]) | _of_host(now[2]) | _between(before, now)


def install(signals: Signals) -> Source:
    """Watch this process and its host.

    Raises:
        MissingExtraError: If that was asked for by name and psutil is not installed.
    """
    if "process" in (signals.config.sources or ()):
        from llmwatch._optional import require

        require("psutil", extra="host")
    return Source(signals)


def _said_by_another() -> Collection[str]:
    """Names of metrics."""
    module: Any = sys.modules.get("opentelemetry.instrumentation.system_metrics")
    other = getattr(module, "SystemMetricsInstrumentor", None)
    instance = getattr(other, "_instance", None)
    if not getattr(instance, "is_instrumented_by_opentelemetry", False):
        return ()
    config: Collection[str] | None = getattr(instance, "_config", None)
    return config if config is not None else {each.name for each in PROCESS_METRICS.values()}


def _of_process(process: Process) -> Found:
    return {
        "cpu_time": _by(names.CPU_MODE, user=process.cpu_user, system=process.cpu_system),
        "memory": _one(process.memory),
        "memory_virtual": _one(process.memory_virtual),
        "threads": _one(process.threads),
        "file_descriptors": _one(process.file_descriptors),
        "switches": _by(
            names.CONTEXT_SWITCH_TYPE,
            voluntary=process.switches_voluntary,
            involuntary=process.switches_involuntary,
        ),
    }


def _of_host(host: Host) -> Found:
    return {
        "host_memory": _by(names.MEMORY_STATE, used=host.memory_used, free=host.memory_available),
        "host_memory_limit": _one(host.memory_limit),
    }


def _between(before: tuple[float, Process, Host] | None, now: tuple[float, Process, Host]) -> Found:
    """What is a rate: nothing at the first reading."""
    if before is None:
        return {}
    (then, process, host), (at, process_now, host_now) = before, now
    used, cpus = _advance(_cpu(process), _cpu(process_now)), host_now.cpus
    busy = _advance(host.cpu_busy, host_now.cpu_busy)
    total = _advance(host.cpu_total, host_now.cpu_total)
    return {
        "cpu_utilization": _one(used / (at - then) / cpus if used is not None and cpus else None),
        "host_cpu_utilization": _one(
            min(busy / total, 1.0) if busy is not None and total else None
        ),
    }


def _cpu(process: Process) -> float | None:
    if process.cpu_user is None or process.cpu_system is None:
        return None
    return process.cpu_user + process.cpu_system


def _advance(before: float | None, now: float | None) -> float | None:
    return None if before is None or now is None else max(now - before, 0.0)


def _of_pauses(pauses: GcPauses, lag: LoopLag) -> Found:
    happened = [each for each, count in enumerate(pauses.counts) if count]
    return {
        "gc_collections": [
            Observation(pauses.counts[each], {names.GC_GENERATION: each}) for each in happened
        ],
        "gc_time": [
            Observation(pauses.seconds[each], {names.GC_GENERATION: each}) for each in happened
        ],
        "gc_longest": _one(pauses.take_longest()),
        "loop_lag": _one(lag.take()),
    }


def _one(value: float | None) -> list[Observation]:
    return [] if value is None else [Observation(value)]


def _by(key: str, **values: float | None) -> list[Observation]:
    return [Observation(each, {key: name}) for name, each in values.items() if each is not None]
