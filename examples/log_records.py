"""The program's own log records, with the ids of the span that they were logged in.

    python examples/log_records.py

With ``logs="export"`` and the extra `logging` they would be sent as well.
"""

from __future__ import annotations

import logging

from _server import a_model
from openai import OpenAI

import llmwatch

log = logging.getLogger("harbour")


@llmwatch.watch(operation="invoke_agent")
def describe(client: OpenAI) -> str:
    """Ask a model, and log before and after."""
    log.info("asking")
    answer = client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "Describe the harbour."}]
    )
    log.info("answered")
    return answer.choices[0].message.content or ""


if __name__ == "__main__":
    llmwatch.instrument(logs="context")
    logging.basicConfig(
        format="%(name)s: %(message)s, trace %(otelTraceID).8s, span %(otelSpanID).8s", force=True
    )
    log.setLevel(logging.INFO)
    with a_model(), OpenAI() as client:
        log.info("outside")
        print(describe(client))
