"""Stores full of varied telemetry, written by the real exporters, for tests and benchmarks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from llmwatch import semconv
from llmwatch import semconv_models as models
from llmwatch.config import Config
from llmwatch.export.local_store import StoreSpanExporter

SECOND = 10**9
BEGUN = 1_800_000_000 * SECOND
"""When the first operation of every store begins; Unix nanoseconds."""

MODELS = ("gpt-4o", "gpt-4.1-mini", "claude-sonnet", "SmolLM2-135M", "text-embedding-3-small")
ROUTES = (None, "chat", "search", "summary", "agent", "nächtlich")
BATCH = 512


class Kept(SpanProcessor):
    """Collects spans that have ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keep one."""
        self.spans.append(span)


class Scenes:
    """Makes traces of different shapes, at times that it chooses.

    Args:
        service: ``service.name``.
        random: Chooses everything.
        begun: Unix nanoseconds of the first trace.
    """

    def __init__(self, service: str, random: Random, begun: int = BEGUN) -> None:
        self.random = random
        self.clock = begun
        self.kept = Kept()
        resource = Resource({"service.name": service, "service.instance.id": f"{random.random()}"})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self.kept)
        self.tracer = provider.get_tracer("llmwatch")

    def one(self) -> None:
        """One trace, of any shape."""
        self.clock += self.random.randrange(SECOND)
        self.random.choice((self.plain, self.plain, self.stream, self.agent, self.served))(
            Context()
        )

    def plain(self, context: Context) -> None:
        """A call that is answered as a whole, sometimes with an error."""
        span, took = self._begin("chat", context), self._seconds()
        self._use(span)
        if self.random.random() < 0.1:
            span.set_attribute(semconv.ERROR_TYPE, self.random.choice(("Timeout", "RateLimited")))
            span.set_status(Status(StatusCode.ERROR))
        self._end(span, took)

    def stream(self, context: Context) -> None:
        """A streamed call, sometimes left by the program."""
        span, took = self._begin("chat", context), self._seconds()
        self._use(span)
        ending = "closed" if self.random.random() < 0.1 else "exhausted"
        chunks = self.random.randrange(2, 40)
        span.set_attributes(
            {
                semconv.STREAM_ENDING: ending,
                semconv.STREAM_CHUNKS: chunks,
                semconv.RESPONSE_TIME_TO_FIRST_CHUNK: took / 10,
                semconv.STREAM_GAP_P50: took / chunks,
                semconv.STREAM_GAP_P95: 2 * took / chunks,
                semconv.STREAM_TIMELINE: [round(1e6 * took * n / chunks) for n in range(chunks)],
                semconv.OUTPUT_TOKEN_RATE: chunks / took,
            }
        )
        self._end(span, took)

    def agent(self, context: Context) -> None:
        """An agent with calls and a tool in it."""
        span = self._begin("invoke_agent", context, model=None)
        inside = set_span_in_context(span, context)
        for _ in range(self.random.randrange(4)):
            self.random.choice((self.plain, self.stream))(inside)
        tool = self.tracer.start_span("GET", inside, SpanKind.CLIENT, start_time=self.clock)
        self._end(tool, 0.01)
        self._end(span, self._seconds())

    def served(self, context: Context) -> None:
        """A call to a server that is watched too: one operation, seen from both sides."""
        model = self.random.choice(MODELS)
        client = self._begin("chat", context, model=model)
        http = self.tracer.start_span(
            "POST", set_span_in_context(client, context), SpanKind.SERVER, start_time=self.clock
        )
        server = self._begin("chat", set_span_in_context(http, context), model=model, local=True)
        took = self._seconds()
        server.set_attributes(
            {
                models.MODEL_CLASS: "LlamaForCausalLM",
                models.GENERATION_TIME_TO_FIRST_TOKEN: took / 20,
                models.GENERATION_PREFILL_TIME: took / 25,
                models.GENERATION_GAP_P50: took / 50,
                models.GENERATION_GAP_P95: took / 40,
                models.GENERATION_TIMELINE: [1000, 2000, 3000],
            }
        )
        self._use(server)
        self._use(client)
        for span in (server, http, client):
            self._end(span, took)

    def _begin(
        self, operation: str, context: Context, model: str | None = "", local: bool = False
    ) -> Any:
        model = self.random.choice(MODELS) if model == "" else model
        route = self.random.choice(ROUTES)
        known = {
            semconv.OPERATION_NAME: operation,
            semconv.PROVIDER_NAME: "openai",
            semconv.REQUEST_MODEL: model,
            semconv.ROUTE: route,
            semconv.SERVER_ADDRESS: "api.example.com",
            semconv.SERVER_PORT: 443,
            semconv.REQUEST_TEMPERATURE: 0.5,
            semconv.REQUEST_MAX_TOKENS: 1000,
        }
        return self.tracer.start_span(
            f"{operation} {model}",
            context,
            SpanKind.INTERNAL if local else SpanKind.CLIENT,
            {key: value for key, value in known.items() if value is not None},
            start_time=self.clock,
        )

    def _use(self, span: Any) -> None:
        span.set_attributes(
            {
                semconv.RESPONSE_MODEL: "answered-by-2026-01-01",
                semconv.RESPONSE_ID: f"chatcmpl-{self.random.random()}",
                semconv.RESPONSE_FINISH_REASONS: ["stop"],
                semconv.USAGE_INPUT_TOKENS: self.random.randrange(2000),
                semconv.USAGE_OUTPUT_TOKENS: self.random.randrange(500),
                semconv.USAGE_CACHE_READ_INPUT_TOKENS: 0,
                semconv.COST: self.random.random() / 100,
                semconv.CLIENT_WAIT: self.random.random() / 1000,
            }
        )

    def _seconds(self) -> float:
        return self.random.lognormvariate(0, 1)

    def _end(self, span: Any, seconds: float) -> None:
        span.end(self.clock + round(seconds * SECOND))


def batches(spans: int, seed: int = 0) -> Iterator[list[ReadableSpan]]:
    """At least *spans* spans of three services, in batches as a batch processor makes them."""
    random = Random(seed)
    services = [Scenes(name, random) for name in ("shop", "search", "batch")]
    made = count()
    while next(made) * BATCH < spans:
        scenes = random.choice(services)
        while len(scenes.kept.spans) < BATCH:
            scenes.one()
        yield scenes.kept.spans
        scenes.kept.spans = []


def fill(where: Path, spans: int, seed: int = 0, each: Callable[[], object] = lambda: None) -> None:
    """Write at least *spans* spans to a store; *each* is called after each batch."""
    exporter = StoreSpanExporter(Config.load(store_path=where, store_limit=4 * 1024**3))
    for batch in batches(spans, seed):
        exporter.export(batch)
        each()


if __name__ == "__main__":
    fill(Path(sys.argv[1]), int(sys.argv[2]))
