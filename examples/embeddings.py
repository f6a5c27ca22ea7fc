"""Embeddings: how many, how long, how many tokens.

    python examples/embeddings.py

The vectors are neither copied nor looked at (drift.py shows how to have them watched).
"""

from __future__ import annotations

import tempfile

from _server import Script, a_model
from openai import OpenAI

import llmwatch
from llmwatch.export.store_reader import read_metrics, read_spans

TEXTS = ["The ferry is late.", "Lamps along the quay.", "Rain on the water, all evening long."]


def main() -> None:
    """Embed three texts twice."""
    store = tempfile.mkdtemp(prefix="llmwatch-example-")
    llmwatch.instrument(service_name="embeddings-example", store_path=store)
    with a_model(Script(delay=0.05), Script(delay=0.05)), OpenAI() as client:
        for _ in range(2):
            client.embeddings.create(model="text-embedding-3-small", input=TEXTS)
    llmwatch.shutdown()

    for span in read_spans(store):
        found = span.attributes
        print(
            f"{span.name}: {found['llmwatch.request.input_count']} texts, "
            f"{found['gen_ai.embeddings.dimension.count']} dimensions, "
            f"{found['gen_ai.usage.input_tokens']} tokens in {span.duration * 1000:.0f} ms"
        )
    latest = {point.metric: point for point in read_metrics(store)}  # sums: the last one says all
    duration = latest["gen_ai.client.operation.duration"]
    print(f"{duration.metric}: {duration.count} calls, {duration.sum:.3f} s")


if __name__ == "__main__":
    main()
