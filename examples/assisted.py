"""See whether speculative decoding pays: what was drafted, and what the model agreed to.

python examples/assisted.py
"""

from __future__ import annotations

from _tiny import model, prompt, show

from llmwatch.testing import capture

NAMES = (
    "llmwatch.generation.mode",
    "llmwatch.generation.drafter",
    "gen_ai.usage.output_tokens",
    "llmwatch.generation.steps",
    "llmwatch.generation.drafted_tokens",
    "llmwatch.generation.accepted_tokens",
    "llmwatch.response.time_per_output_token",
)


def main() -> None:
    """The same answer without help, with a draft model, and from the prompt itself."""
    llama, drafter = model(), model(noise=0.001)
    given = prompt(24)
    given["input_ids"] = given["input_ids"].repeat(1, 2)  # it says everything twice
    given["attention_mask"] = given["attention_mask"].repeat(1, 2)
    with capture(sources=["transformers"]) as seen:
        for more in ({}, {"assistant_model": drafter}, {"prompt_lookup_num_tokens": 4}):
            llama.generate(**given, max_new_tokens=24, min_new_tokens=24, **more)
    for span in seen.spans:
        print(span.name)
        show(span.attributes, *NAMES)


if __name__ == "__main__":
    main()
