"""One chat completion, and the line that llmwatch prints for it.

    python examples/chat.py

Set OTEL_EXPORTER_OTLP_ENDPOINT to send span and metrics to a collector too; without it they are in
the local store.
"""

from __future__ import annotations

from _server import Script, a_model
from openai import OpenAI

import llmwatch


def main() -> None:
    """Ask one question."""
    llmwatch.instrument(service_name="chat-example", console=True)
    with a_model(Script(delay=0.2, chunks=30)), OpenAI() as client:
        with llmwatch.attributes(route="/ask", user="u-17"):
            answer = client.chat.completions.create(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": "Describe a harbour at dusk, briefly."}],
            )
        print(answer.choices[0].message.content)
    llmwatch.shutdown()


if __name__ == "__main__":
    main()
