"""A process that works, block by block, while nobody, something or llmwatch watches, as it is told.

One process for all of them, so that they share one heap and one layout of it: between processes
those alone make a difference of a percent. ``python -m tests.benchmarks.worker``: one JSON list a
line on its stdin is a command and its arguments, one JSON value a line on its stdout is the answer.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import process_time_ns
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    LogRecordExporter,
    LogRecordExportResult,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from tests.benchmarks.work import WORK, Unit

DELIVER_EVERY = 100
"""Calls after which what was seen is delivered where many are made, for the queues are bounded."""


Undo = Callable[[], object]


class _NoSpans(SpanExporter):
    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class _NoLogs(LogRecordExporter):
    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        return None

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True


class Pipeline:
    """The application's providers: batched, with exporters that send nothing."""

    def __init__(self) -> None:
        self._spans = BatchSpanProcessor(_NoSpans(), max_queue_size=65536)
        self._logs = BatchLogRecordProcessor(_NoLogs(), max_queue_size=65536)
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(self._spans)
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.logger_provider = LoggerProvider(shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(self._logs)

        self.fold: Callable[[], object] = lambda: None
        """What the watcher does on a thread of its own; here it is part of what is measured."""

    def deliver(self) -> None:
        """Export everything now, so that it is part of what is measured."""
        self.fold()
        self._spans.force_flush()
        self._logs.force_flush()

    def collect(self) -> None:
        """What happens at every export interval, once, however many calls there were."""
        self._reader.get_metrics_data()


def _nobody(pipeline: Pipeline) -> Undo:
    return lambda: None


def _by_hand(pipeline: Pipeline) -> Undo:
    from tests.benchmarks.by_hand import ByHand

    return ByHand(pipeline.tracer_provider, pipeline.meter_provider).install()


def _llmwatch(pipeline: Pipeline, **settings: Any) -> Undo:
    import llmwatch
    from llmwatch import session

    llmwatch.instrument(
        tracer_provider=pipeline.tracer_provider,
        meter_provider=pipeline.meter_provider,
        logger_provider=pipeline.logger_provider,
        **{"sources": ["openai"], "cost": False} | settings,
    )
    made = session.current()
    assert made is not None
    pipeline.fold = made.metrics.flush
    return llmwatch.uninstrument


WATCHERS: dict[str, Callable[[Pipeline], Undo]] = {
    "nobody": _nobody,
    "by hand": _by_hand,
    "llmwatch": _llmwatch,
    "llmwatch with content": partial(_llmwatch, capture_content=True),
    "llmwatch with every source": partial(_llmwatch, sources=None),
}
"""What begins to watch, with the application's providers; and returns what ends that."""


class Worker:
    """The commands. The first argument of each is who watches meanwhile, one of `WATCHERS`."""

    def __init__(self) -> None:
        self._pipelines = {watcher: Pipeline() for watcher in WATCHERS}
        self._units: dict[str, Unit] = {}
        self._watcher, self._undo = "nobody", _nobody(self._pipelines["nobody"])

    def run(self, watcher: str, work: str, times: int) -> float:
        """CPU seconds of this process, all threads, for *times* units and their delivery."""
        unit = self._ready(watcher, work, 1 + times // 4)
        before = process_time_ns()
        self._block(unit, times)
        return (process_time_ns() - before) / 1e9

    def collect(self, watcher: str, times: int) -> float:
        """CPU seconds of *times* collections of the metrics of some chats."""
        self._block(self._ready(watcher, "chat", 1), 1)
        collect = self._pipelines[watcher].collect
        collect()
        before = process_time_ns()
        for _ in range(times):
            collect()
        return (process_time_ns() - before) / 1e9

    def count(self, watcher: str, work: str, times: int, helper: str) -> None:
        """Let callgrind count the instructions of *times* units, and of their delivery."""
        callgrind, unit = ctypes.CDLL(helper), self._ready(watcher, work, times)
        gc.collect()
        gc.disable()
        callgrind.start()
        self._block(unit, times)
        callgrind.stop(f"{watcher}: {work}".encode())
        gc.enable()

    def resident(self, watcher: str, calls: int) -> int:
        """Bytes by which the resident set grows over *calls* chats."""
        before = self._resident()
        self._many(watcher, calls)
        return self._resident() - before

    def traced(self, watcher: str, calls: int) -> int:
        """Bytes that Python holds on to after *calls* chats, beyond what it held before."""
        tracemalloc.start()
        try:
            self._many(watcher, DELIVER_EVERY)
            before = tracemalloc.get_traced_memory()[0]
            self._many(watcher, calls)
            return tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()

    def _ready(self, watcher: str, work: str, warm: int) -> Unit:
        """The unit of a work; *warm* of it are done, so that the interpreter adapts its code."""
        if watcher != self._watcher:
            self._undo()
            self._watcher, self._undo = watcher, WATCHERS[watcher](self._pipelines[watcher])
        if work not in self._units:
            self._units[work] = WORK[work]()
        self._block(self._units[work], warm)
        return self._units[work]

    def _block(self, unit: Unit, times: int) -> None:
        for _ in range(times):
            unit()
        self._pipelines[self._watcher].deliver()

    def _many(self, watcher: str, calls: int) -> None:
        unit = self._ready(watcher, "chat", 1)
        for _ in range(0, calls, DELIVER_EVERY):
            self._block(unit, DELIVER_EVERY)
            self._pipelines[watcher].collect()
        gc.collect()

    @staticmethod
    def _resident() -> int:
        pages = Path("/proc/self/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints
    worker = Worker()
    print("null", file=answers, flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(worker, name)(*arguments)), file=answers, flush=True)
    os._exit(0)  # nothing is left to deliver


if __name__ == "__main__":
    main()
