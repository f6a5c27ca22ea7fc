"""Take what a program without llmwatch sends over OTLP into a store, and ask the store.

    python examples/receive.py

The program here is Python with the OpenTelemetry SDK; it could be of any language. `llmwatch top
--listen 4318` and `llmwatch ui --listen 4318` do the same, and show it.
"""

from __future__ import annotations

import time
from tempfile import TemporaryDirectory

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from llmwatch.view.receive import Receiver
from llmwatch.view.records import Filter
from llmwatch.view.store import open_view


def another_program(endpoint: str) -> None:
    """Three calls by the GenAI conventions; llmwatch has no part in them."""
    provider = TracerProvider(resource=Resource({"service.name": "another program"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces")))
    tracer = provider.get_tracer("another program")
    for tokens in (20, 30, 40):
        with tracer.start_as_current_span(
            "chat tiny",
            attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": "tiny"},
        ) as span:
            time.sleep(tokens / 1000)
            span.set_attribute("gen_ai.usage.output_tokens", tokens)
    provider.shutdown()


def main() -> None:
    with TemporaryDirectory() as store:
        with Receiver(store, port=0) as receiver:
            another_program(f"http://127.0.0.1:{receiver.port}")
        view = open_view(store)
        for row in view.operations(Filter()):
            print(f"{row.operation} {row.model}: {row.count} calls, {row.output_tokens} tokens")
        for request in view.requests(Filter(), limit=2):
            print(f"{request.service}: {request.duration:.3f} s, {request.token_rate:.0f} tokens/s")
        view.close()


if __name__ == "__main__":
    main()
