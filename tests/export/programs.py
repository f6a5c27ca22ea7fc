"""Programs under test: real processes that fork, are told to stop, or just end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from time import monotonic
from typing import Any

BEGIN = """
import os, sys, time
from opentelemetry import _logs, trace, metrics
from llmwatch import _guard
from llmwatch.config import Config
from llmwatch.export.pipeline import Pipeline

_guard.strict = True
where = {"endpoint": sys.argv[1], "protocol": sys.argv[2]}
if sys.argv[2] == "store":
    where = {"store_path": sys.argv[1]}
pipeline = Pipeline(Config.load(**where, flush_timeout=2))
pipeline.install()

def emit(name):
    providers = pipeline.providers
    with providers.tracer_provider.get_tracer("t").start_as_current_span(name):
        providers.meter_provider.get_meter("t").create_counter("calls").add(1)
        record = _logs.LogRecord(event_name=name, timestamp=1)
        providers.logger_provider.get_logger("t").emit(record)
"""


def start(
    program: str, endpoint: str, protocol: str = "http/protobuf", **more: Any
) -> subprocess.Popen[str]:
    """Start *program*, which begins with an installed pipeline and a function ``emit(name)``."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", BEGIN + program, endpoint, protocol],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **more},
        start_new_session=True,
    )


def run(program: str, endpoint: str, protocol: str = "http/protobuf", **more: Any) -> str:
    """Run *program* to its end, which must be a success without a word on stderr."""
    process = start(program, endpoint, protocol, **more)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, ""), (process.returncode, err)
    return out


def stop(process: subprocess.Popen[str], *, group: bool = False) -> float:
    """Send SIGTERM as soon as *process* prints a line; seconds until it was dead."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    began = monotonic()
    if group:
        os.killpg(process.pid, signal.SIGTERM)
    else:
        process.send_signal(signal.SIGTERM)
    process.wait(30)
    return monotonic() - began
