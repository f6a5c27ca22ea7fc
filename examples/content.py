"""Record what was said, with addresses taken out first.

    python examples/content.py

Content is never recorded unless it is asked for.
"""

from __future__ import annotations

import json
import re
import tempfile

from _server import Script, a_model
from openai import OpenAI

import llmwatch
from llmwatch.export.store_reader import read_logs

ADDRESS = re.compile(r"[\w.+-]+@[\w.-]+")


def redact(text: str) -> str:
    """Called with every text before it is recorded; if it fails, nothing is."""
    return ADDRESS.sub("(address)", text)


def main() -> None:
    """Ask with an address in the prompt."""
    store = tempfile.mkdtemp(prefix="llmwatch-example-")
    llmwatch.instrument(
        service_name="content-example",
        store_path=store,
        capture_content="EVENT_ONLY",
        redact=redact,
        content_limit=200,
    )
    with a_model(Script(text="Dear guest, the ferry leaves at nine.")), OpenAI() as client:
        client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[
                {"role": "system", "content": "You answer letters."},
                {"role": "user", "content": "Write to ida@example.org when the ferry leaves."},
            ],
        )
    llmwatch.shutdown()
    for event in read_logs(store):
        print(event.event_name)
        for name in ("gen_ai.input.messages", "gen_ai.output.messages"):
            print(name, json.dumps(event.attributes[name], indent=2))


if __name__ == "__main__":
    main()
