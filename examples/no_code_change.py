"""A program that does not mention llmwatch, watched all the same.

    llmwatch run --console examples/no_code_change.py
    LLMWATCH_CONSOLE=1 opentelemetry-instrument python examples/no_code_change.py

The first command comes with the extra `cli`, the second with llmwatch's dependencies: it starts
every OpenTelemetry instrumentation that is installed, llmwatch among them. Settings come from the
environment.
"""

from __future__ import annotations

from _server import a_model
from openai import OpenAI

QUESTION = "Describe the harbour, briefly."


def main() -> None:
    """Ask once, and once more for a stream."""
    with OpenAI() as client:
        answer = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": QUESTION}]
        )
        print(answer.choices[0].message.content)
        stream = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": QUESTION}], stream=True
        )
        for chunk in stream:
            print(chunk.choices[0].delta.content or "", end="")
        print()


if __name__ == "__main__":
    with a_model():
        main()
