"""A stream: when its chunks came.

    python examples/streaming.py

Read back from the local store, which takes the place of a collector where none is configured.
"""

from __future__ import annotations

import tempfile

from _server import Script, a_model
from openai import OpenAI

import llmwatch
from llmwatch.export.store_reader import read_spans

DELAYS = (0.15, *[0.02] * 20, 0.3, 0.02)
"""Seconds before each chunk of the local server: a slow start, and a pause in the middle."""


def main() -> None:
    """Read a stream to its end, and another one only in part."""
    store = tempfile.mkdtemp(prefix="llmwatch-example-")
    llmwatch.instrument(service_name="streaming-example", store_path=store, stall_after=0.25)
    with a_model(*[Script(delays=DELAYS, chunks=40)] * 2), OpenAI() as client:
        for read_all in (True, False):
            stream = client.chat.completions.create(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": "Describe a harbour at dusk, briefly."}],
                stream=True,
                stream_options={"include_usage": True},
            )
            with stream:
                for chunk in stream:
                    if chunk.choices:
                        print(chunk.choices[0].delta.content or "", end="", flush=True)
                    if not read_all:
                        break
            print()
    llmwatch.shutdown()
    for span in read_spans(store):
        report(span.attributes)


def report(found: dict[str, object]) -> None:
    """Print what a span tells about its stream; what is not known is not there."""
    print(f"\n{found['gen_ai.request.model']}, {found['llmwatch.stream.ending']}:")
    for name in (
        "gen_ai.response.time_to_first_chunk",
        "llmwatch.response.time_to_first_output",
        "llmwatch.stream.chunks",
        "llmwatch.stream.gap.p50",
        "llmwatch.stream.gap.p95",
        "llmwatch.stream.gap.max",
        "llmwatch.stream.stalls",
        "llmwatch.response.time_per_output_token",
        "gen_ai.usage.output_tokens",
        "llmwatch.cost.usd",
    ):
        if name in found:
            print(f"  {name:40} {found[name]:.4g}")


if __name__ == "__main__":
    main()
