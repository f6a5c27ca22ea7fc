"""See what a batch wastes: prompts of different lengths, answers that end at different times.

python examples/batch.py
"""

from __future__ import annotations

from _tiny import model, prompt, show

from llmwatch.testing import capture


def main() -> None:
    """Four prompts at once; one answer in two ends early, and its row is padded from then on."""
    llama = model()
    with capture(sources=["transformers"]) as seen:
        llama.generate(**prompt(5, 20, 31, 48), max_new_tokens=24, eos_token_id=list(range(2, 16)))
    (span,) = seen.spans
    print(span.name)
    show(
        span.attributes,
        "llmwatch.generation.batch_size",
        "gen_ai.usage.input_tokens",
        "llmwatch.generation.output_tokens",
        "gen_ai.response.finish_reasons",
        "llmwatch.generation.slots",
        "llmwatch.generation.padding",
        "llmwatch.response.output_token_rate",
        "llmwatch.generation.padding.token_rate",
    )


if __name__ == "__main__":
    main()
