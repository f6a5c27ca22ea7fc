"""Time every token of a model that runs in this process.

    python examples/generate.py

Nothing of the program changes but the line that calls `llmwatch.instrument`; here the spans are
kept in memory and printed.
"""

from __future__ import annotations

from _tiny import model, prompt, show

from llmwatch.testing import capture


def main() -> None:
    """Generate once, sampling, and look at what was seen."""
    llama = model()
    with capture(sources=["transformers"], confidence=True) as seen:
        llama.generate(**prompt(48), max_new_tokens=32, do_sample=True, temperature=0.7)
    (span,) = seen.spans
    print(span.name)
    show(
        span.attributes,
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.response.finish_reasons",
        "llmwatch.generation.time_to_first_token",
        "llmwatch.generation.prefill.token_rate",
        "llmwatch.generation.gap.p50",
        "llmwatch.generation.gap.p95",
        "llmwatch.response.time_per_output_token",
        "llmwatch.generation.decode.token_rate",
        "llmwatch.generation.cache.size",
        "llmwatch.generation.entropy",
        "llmwatch.generation.perplexity",
    )


if __name__ == "__main__":
    main()
