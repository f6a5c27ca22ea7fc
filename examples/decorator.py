"""Watch a model that runs in this process.

    python examples/decorator.py

Prints a line for each call; set OTEL_EXPORTER_OTLP_ENDPOINT to send them to a collector instead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import llmwatch

WORDS = ["a", "model", "of", "your", "own", "is", "watched", "like", "any", "other"]


class TinyModel:
    """Stands for a real one: it thinks, then says one word at a time."""

    name = "tiny-lm"

    @llmwatch.watch(operation="text_completion", model_from="self.name")
    def stream(self, prompt: str) -> Iterator[str]:
        """Yield the answer word by word; each word is a chunk."""
        call = llmwatch.current()
        call.usage(input_tokens=len(prompt.split()))
        time.sleep(0.05)
        for count, word in enumerate(WORDS, 1):
            time.sleep(0.01)
            call.usage(output_tokens=count)
            yield word
        call.finish("stop")

    @llmwatch.watch(operation="execute_tool")
    def look_up(self, word: str) -> str:
        """A tool that fails for words it does not know."""
        return {"model": "a simplification"}[word]


def main() -> None:
    """Ask once, and use a tool twice."""
    llmwatch.instrument(service_name="decorator-example", console=True)
    model = TinyModel()
    with llmwatch.attributes(route="/ask"):
        print(*model.stream("tell me about models"))
    print(model.look_up("model"))
    try:
        model.look_up("watch")
    except KeyError as error:
        print("not known:", error)
    llmwatch.shutdown()


if __name__ == "__main__":
    main()
