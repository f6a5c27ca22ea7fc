"""Pipelines: a chat, a batch, and texts that are worked at one by one as they are asked for.

    python examples/pipeline.py

Each line on stderr is one operation. The generator's come one at a time, between our own lines.
"""

from __future__ import annotations

from collections.abc import Iterator

from _words import model_and_tokenizer
from transformers import pipeline

import llmwatch

TEXTS = ["the ferry is late", "lamps along the quay", "rain on the water all evening long"]


def main() -> None:
    """Ask one pipeline in three ways."""
    llmwatch.instrument(service_name="pipeline-example", console=True)
    model, tokenizer = model_and_tokenizer()
    write = pipeline(
        "text-generation", model=model, tokenizer=tokenizer, max_new_tokens=12, do_sample=False
    )

    print("a chat:")
    write([{"role": "user", "content": "is the ferry late"}])

    print("a batch of three:")
    write(TEXTS, batch_size=3)

    print("a generator:")

    def texts() -> Iterator[str]:
        for text in TEXTS:
            print(f"  next: {text}", flush=True)
            yield text

    for answer in write(texts()):
        print(f"  done: {len(answer)} answer")


if __name__ == "__main__":
    main()
