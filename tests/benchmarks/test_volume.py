"""What deciding on traces at their end costs, as ratios to sending all of them, in the same run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import set_span_in_context

from llmwatch import TailSampling, semconv
from tests.benchmarks.interleaved import seconds as seconds_of
from tests.benchmarks.table import seconds

ATTRIBUTES = {f"attribute.{number}": "some text" for number in range(18)} | {
    semconv.OPERATION_NAME: "chat",
    semconv.COST: 0.001,
}
RULES = "errors,flagged,slow>5s,ttft>2s,cost>0.1"
SPANS = 3


class _Encoding(SpanExporter):
    """Does what an exporter does up to the network."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


def traces(
    wrap: Callable[[SpanProcessor], SpanProcessor], sampler: Sampler = ALWAYS_ON
) -> Callable[[], Any]:
    """What makes a trace of a root and two operations, and exports it."""
    exporting = BatchSpanProcessor(_Encoding(), schedule_delay_millis=3_600_000)
    provider = TracerProvider(sampler, shutdown_on_exit=False)
    provider.add_span_processor(wrap(exporting))
    tracer = provider.get_tracer("bench")

    def one() -> None:
        root = tracer.start_span("root")
        context = set_span_in_context(root)
        for _ in range(SPANS - 1):
            tracer.start_span("chat", context, attributes=ATTRIBUTES).end()
        root.end()
        exporting.force_flush()

    return one


@pytest.mark.benchmark(group="volume")
def test_a_trace_that_is_decided_at_its_end(benchmark, overhead):
    """Keeping one costs little beside sending it; leaving one out saves most of that."""
    kept = traces(lambda each: TailSampling(each, f"{RULES},100%"))
    late = traces(lambda each: TailSampling(each, "cost>0.0015"))  # by the second operation
    left_out = traces(lambda each: TailSampling(each, RULES))
    every = traces(lambda each: each)
    benchmark(left_out)
    never = traces(lambda each: each, ALWAYS_OFF)
    sent, shared, waited, saved, unsampled = seconds_of(
        every, kept, late, left_out, never, number=20, rounds=60
    )
    for what, took, most in (
        ("kept by its share", shared, 1.3),
        ("kept by the second of its operations", waited, 1.3),
        ("left out by `keep`", saved, 0.7),
        ("left out by the sampler", unsampled, 0.4),
    ):
        overhead(
            "Other work",
            f"a trace of {SPANS} spans, {what}",
            seconds(took),
            f"sent, without `keep`: {seconds(sent)}",
            took / sent,
            most,
        )
