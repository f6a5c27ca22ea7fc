"""Metrics that Prometheus fetches: serve them, ask as Prometheus does, and show what came.

    python examples/prometheus.py

Needs the extra `prometheus`. With `--stay` it goes on serving until you press Enter, so that a real
Prometheus can ask: see docs/recipes/prometheus.yml for its side.
"""

from __future__ import annotations

import socket
import sys
from urllib.request import urlopen

from _server import a_model

import llmwatch


def free_port() -> int:
    """One that nobody listens on; a service has a port of its own, such as 9464."""
    with socket.create_server(("localhost", 0)) as free:
        return int(free.getsockname()[1])


def ask(port: int) -> list[str]:
    """What is served, line by line."""
    with urlopen(f"http://localhost:{port}/metrics") as answer:
        return str(answer.read().decode()).splitlines()


def main() -> None:
    """Stream two answers, and look at what was counted."""
    port = free_port()
    llmwatch.instrument(service_name="shop", prometheus_port=port)
    from openai import OpenAI

    with a_model(), OpenAI() as client, llmwatch.attributes(route="search"):
        for _ in range(2):
            for _ in client.chat.completions.create(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": "Describe a harbour."}],
                stream=True,
                stream_options={"include_usage": True},
            ):
                pass

    for line in ask(port):
        name = line.partition("{")[0]
        if name.startswith(("gen_ai", "llmwatch_operation")) and name.endswith(("_count", "_sum")):
            print(name, line.rpartition(" ")[2])
    if "--stay" in sys.argv:
        input(f"Serving http://localhost:{port}/metrics until you press Enter. ")
    llmwatch.uninstrument()


if __name__ == "__main__":
    main()
