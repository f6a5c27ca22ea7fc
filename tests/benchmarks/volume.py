"""What each knob of the page on volume costs and saves: ``python -m tests.benchmarks.volume PATH``.

A request is a span of the application round two chats of the real client, whose answers come from
memory; every fiftieth fails. Everything is sent by OTLP to a process that counts what arrives. CPU
time is that of this process, all threads, with encoding and sending; knobs take turns, and the
quickest block of requests counts: whatever else the machine does can only add to it.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple
from urllib.request import urlopen

import openai
from opentelemetry import trace

import llmwatch
from tests.benchmarks.table import _machine, _versions, seconds
from tests.benchmarks.work import _SETTINGS, CHAT, _handler
from tests.receivers import REQUESTS
from tests.sources.openai.transport import httpx

KNOBS: dict[str, dict[str, Any] | None] = {
    "not watched": None,
    "everything (the default)": {},
    "`sample_ratio=0.05`": {"sample_ratio": 0.05},
    '`keep="errors,5%"`': {"keep": "errors,5%"},
    "`trace_limit=10`": {"trace_limit": 10},
    '`capture_content="span_only"`': {"capture_content": "span_only"},
    "… and `content_limit=100`": {"capture_content": "span_only", "content_limit": 100},
    '… and `keep="errors,5%"`': {"capture_content": "span_only", "keep": "errors,5%"},
    '`capture_content="event_only"`': {"capture_content": "event_only"},
}
"""Each knob, and the settings that turn it."""

BLOCK = 50
"""Requests of which one fails."""
PROMPT = "Say hello seventeen times, and say why. " * 20
"""800 characters."""


class Figures(NamedTuple):
    """What requests took."""

    cpu: float
    """Seconds a request."""
    arrived: Counter[str]
    requests: int


class Sink:
    """Counts, in a process of its own, the bytes and items that arrive."""

    def __enter__(self) -> Sink:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.volume", "--sink"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def counts(self) -> Counter[str]:
        """What came since the last call."""
        with urlopen(self.url) as answer:
            return Counter(json.load(answer))


def serve() -> None:
    """Be a `Sink`."""
    counts: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            signal = self.path.rpartition("/")[2]
            counts[f"bytes of {signal}"] += len(body)
            if signal == "traces":
                counts["spans"] += _spans(body)
            self._say(b"")

        def do_GET(self) -> None:
            self._say(json.dumps(counts).encode())
            counts.clear()

        def _say(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


def _spans(body: bytes) -> int:
    message = REQUESTS["traces"]()
    message.ParseFromString(body)
    return sum(len(scope.spans) for each in message.resource_spans for scope in each.scope_spans)


def answer(request: httpx.Request) -> httpx.Response:
    """As the other benchmarks' transport, or a failure where that is asked for."""
    return httpx.Response(500) if "x-fail" in request.headers else _handler(request)


@contextmanager
def turned(
    settings: dict[str, Any] | None, url: str
) -> Iterator[tuple[trace.Tracer, Callable[[], None]]]:
    """A knob in force: the application's tracer meanwhile, and what sends spans and events."""
    if settings is None:
        yield trace.NoOpTracer(), lambda: None
        return
    given: dict[str, Any] = {"endpoint": url, "sources": ("openai",), "export_interval": 3600}
    llmwatch.instrument(**given, **settings)
    session = llmwatch.session.current()
    assert session is not None
    providers = session.pipeline.providers

    def send() -> None:
        session.metrics.flush()
        providers.of("traces").force_flush()
        providers.of("logs").force_flush()

    yield providers.tracer_provider.get_tracer("shop"), send
    llmwatch.uninstrument()


def block(client: openai.OpenAI, tracer: trace.Tracer, send: Callable[[], None]) -> None:
    """Requests of two calls each, of which one fails, and their export."""
    chat = {**CHAT, "messages": [{"role": "user", "content": PROMPT}]}
    for number in range(BLOCK):
        with tracer.start_as_current_span("GET /hello"):
            client.chat.completions.create(**chat)
            fails = {"x-fail": "1"} if number == 0 else {}
            with suppress(openai.InternalServerError):
                client.chat.completions.create(**chat, extra_headers=fails)
    send()


def measure(sink: Sink, knob: str, blocks: int) -> Figures:
    """CPU and volume under one knob."""
    http = httpx.Client(transport=httpx.MockTransport(answer))
    took = []
    with (
        turned(KNOBS[knob], sink.url) as (tracer, send),
        openai.OpenAI(**_SETTINGS, http_client=http) as client,
    ):
        block(client, tracer, send)
        sink.counts()
        for _ in range(blocks):
            before = process_time()
            block(client, tracer, send)
            took.append(process_time() - before)
        return Figures(min(took) / BLOCK, sink.counts(), blocks * BLOCK)


def figures(knobs: list[str], blocks: int, rounds: int) -> dict[str, Figures]:
    """The least CPU time of each knob, and all that arrived, by turns."""
    found: dict[str, Figures] = {}
    with Sink() as sink:
        for _ in range(rounds):
            for knob in knobs:
                one = measure(sink, knob, blocks)
                cpu, arrived, many = found.get(knob, Figures(inf, Counter(), 0))
                found[knob] = Figures(min(cpu, one.cpu), arrived + one.arrived, many + one.requests)
    return found


def table(found: dict[str, Figures]) -> str:
    """The table of the docs."""
    bare = found["not watched"].cpu
    when = f"{datetime.now(UTC):%Y-%m-%d}"
    lines = [
        f"Measured {when} on {_machine()}, {_versions()}. Other work ran beside.",
        "",
        "| setting | spans | traces | events | CPU added a request |",
        "| --- | --- | --- | --- | --- |",
    ]
    for knob, (cpu, arrived, many) in found.items():
        if knob != "not watched":
            sizes = (arrived[f"bytes of {each}"] / many for each in ("traces", "logs"))
            spans = f"{arrived['spans'] * 1000 / many:.0f}"
            cells = [knob, spans, *(f"{each:.0f} kB" for each in sizes), seconds(cpu - bare)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all of them, and write the table."""
    if sys.argv[1:] == ["--sink"]:
        serve()
        return
    logging.disable(logging.WARNING)
    text = table(figures(list(KNOBS), blocks=12, rounds=4))
    Path(sys.argv[1]).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
