"""Programs under test: real processes with the real client, which know llmwatch by its face alone."""

from __future__ import annotations

import json
import subprocess
import sys
from time import monotonic
from typing import Any

from tests.collector.collector import environment

BEGIN = """
import json, os, sys, time
import llmwatch
from openai import APIError, OpenAI

llmwatch.instrument(**json.loads(sys.argv[2]))

def connect():
    return OpenAI(base_url=sys.argv[1], api_key="sk-very-secret", max_retries=0)

client = connect()
ASK = {"model": "gpt-4o", "messages": [{"role": "user", "content": "why?"}]}

def say(word):
    print(word, flush=True)

def call():
    client.chat.completions.create(**ASK)

def stream(chunks):
    headers = {"x-llmwatch-script": json.dumps({"chunks": chunks, "delays": [0.02]})}
    with client.chat.completions.create(**ASK, stream=True, extra_headers=headers) as stream:
        return sum(1 for _ in stream)
"""


class Running:
    """A program that has been started."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._said = monotonic()

    def says(self) -> str:
        """Its next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self._said = monotonic()
        assert line, self.process.communicate()[1]
        return line.strip()

    def tell(self) -> None:
        """Let a program that reads a line from stdin go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def ends(self, code: int = 0, *, quietly: bool = True) -> float:
        """Wait for its end, with *code* and not a word on stderr; seconds since its last line."""
        _, errors = self.process.communicate(timeout=60)
        took = monotonic() - self._said
        assert self.process.returncode == code, errors
        assert not (quietly and errors), errors
        return took

    def is_told_to_stop(self) -> float:
        """Send SIGTERM; seconds until it was dead by it."""
        self.process.terminate()
        self._said = monotonic()
        return self.ends(-15)


class Programs:
    """Starts programs, and ends those that a failing test left.

    Args:
        base_url: Of the model's server.
        service: What they are called in telemetry.
    """

    def __init__(self, base_url: str, service: str) -> None:
        self._base_url, self._service = base_url, service
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self, program: str, environ: dict[str, str] | None = None, **settings: Any
    ) -> Running:
        """Start *program*, instrumented with *settings*."""
        command = [sys.executable, "-W", "error", "-c", BEGIN + program]
        process = subprocess.Popen(
            [*command, self._base_url, json.dumps(settings)],
            env=environment(OTEL_SERVICE_NAME=self._service, **environ or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return Running(process)

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._started:
            with process:
                process.kill()
