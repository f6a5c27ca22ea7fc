"""How much less each setting of the page on volume sends: ``python -m tests.benchmarks.volume PATH``.

A request is a span of the application round two chats of the real client, whose answers come from
memory; every fiftieth fails. Everything is sent by OTLP to a process that counts what arrives.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import openai
from opentelemetry import trace

import llmwatch
from tests.benchmarks.work import _SETTINGS, CHAT, _handler
from tests.receivers import REQUESTS
from tests.sources.openai.transport import httpx

KNOBS: dict[str, dict[str, Any]] = {
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

REQUESTS_MADE, FAILS_EVERY = 1000, 50
PROMPT = "Say hello seventeen times, and say why. " * 20
"""800 characters."""


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


def make(client: openai.OpenAI, tracer: trace.Tracer, numbers: Iterable[int]) -> None:
    """Requests of two calls each, of which some fail."""
    chat = {**CHAT, "messages": [{"role": "user", "content": PROMPT}]}
    for number in numbers:
        with tracer.start_as_current_span("GET /hello"):
            client.chat.completions.create(**chat)
            fails = {} if number % FAILS_EVERY else {"x-fail": "1"}
            with suppress(openai.InternalServerError):
                client.chat.completions.create(**chat, extra_headers=fails)


def volume(client: openai.OpenAI, sink: Sink, settings: dict[str, Any]) -> Counter[str]:
    """What arrives of many requests, some of which fail."""
    given: dict[str, Any] = {"endpoint": sink.url, "sources": ("openai",)}
    llmwatch.instrument(**given, **settings)
    session = llmwatch.session.current()
    assert session is not None
    tracer = session.pipeline.providers.tracer_provider.get_tracer("shop")
    for start in range(0, REQUESTS_MADE, FAILS_EVERY):
        make(client, tracer, range(start, start + FAILS_EVERY))
        llmwatch.flush()
    llmwatch.uninstrument()
    return sink.counts()


def table(client: openai.OpenAI, sink: Sink) -> str:
    """The table of the docs."""
    lines = ["| setting | spans | traces | events |", "| --- | --- | --- | --- |"]
    for knob, settings in KNOBS.items():
        arrived = volume(client, sink, settings)
        sizes = (f"{arrived[f'bytes of {each}'] / 1000:.0f} kB" for each in ("traces", "logs"))
        lines.append(f"| {' | '.join([knob, str(arrived['spans']), *sizes])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Try all of them, and write the table."""
    if sys.argv[1:] == ["--sink"]:
        serve()
        return
    logging.disable(logging.WARNING)
    http = httpx.Client(transport=httpx.MockTransport(answer))
    with Sink() as sink, openai.OpenAI(**_SETTINGS, http_client=http) as client:
        text = table(client, sink)
    Path(sys.argv[1]).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
