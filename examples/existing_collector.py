"""Send to a collector that runs already.

    python examples/existing_collector.py http://localhost:4318
    python examples/existing_collector.py http://localhost:4317 grpc

Without an address it prints what to set, so that no program has to name one.
"""

from __future__ import annotations

import os
import sys

from _server import Script, a_model
from openai import OpenAI

import llmwatch

SETTINGS = """\
Set these where your program runs; then llmwatch.instrument() needs no arguments:

  OTEL_SERVICE_NAME=shop
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318
  OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf   # or grpc, usually port 4317
  OTEL_EXPORTER_OTLP_HEADERS=api-key=...      # only if the receiver asks for any

Or give the address to this example: python existing_collector.py http://localhost:4318
"""


def main(endpoint: str | None = None, protocol: str = "http/protobuf") -> None:
    """Stream one answer, and say whether its telemetry was delivered."""
    if endpoint:
        llmwatch.instrument(
            service_name="collector-example",
            endpoint=endpoint,
            protocol="grpc" if protocol == "grpc" else "http/protobuf",
        )
    elif endpoint := os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        llmwatch.instrument()
    else:
        print(SETTINGS)
        return
    with a_model(Script(chunks=30, delays=(0.2, 0.02))), OpenAI() as client:
        question = "Describe a harbour at dusk, briefly."
        with client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": question}], stream=True
        ) as stream:
            for _ in stream:
                pass
    if not llmwatch.flush(timeout=5):
        sys.exit(f"{endpoint} did not take it in 5 s")
    print("one span and its metrics are at", endpoint)


if __name__ == "__main__":
    main(*sys.argv[1:])
