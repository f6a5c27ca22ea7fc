"""A program that calls models as it is told: ``python -m tests.rules.program SERVER PORT``.

It reads ``well`` and ``ill`` from stdin, and ends with it. Each model has a way of its own to be ill.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from threading import Event, Thread

import numpy as np
from openai import APIError, OpenAI

import llmwatch
from llmwatch.demo.script import Script

ILL, END = Event(), Event()

WELL = Script(chunks=4)
SLOW = Script(chunks=3, delays=(1.2, 0.6))
FAILING = Script(status=500)
HANGING = Script(fault="hang")


def asking(base_url: str, model: str, when_ill: Script, pause: float = 0.2) -> Callable[[], None]:
    """Calls a model again and again."""
    client = OpenAI(base_url=base_url, api_key="sk-test", max_retries=0, timeout=3)
    ask = {"model": model, "messages": [{"role": "user", "content": "why?"}]}

    def work() -> None:
        while not END.wait(pause):
            headers = (when_ill if ILL.is_set() else WELL).headers
            options = {"include_usage": True}
            with (
                contextlib.suppress(APIError),
                client.chat.completions.create(
                    **ask, stream=True, stream_options=options, extra_headers=headers
                ) as stream,
            ):
                for _ in stream:
                    pass

    return work


def spending(base_url: str) -> None:
    """Calls a model that costs money; when ill, far more often."""
    client = OpenAI(base_url=base_url, api_key="sk-test", max_retries=0)
    while not END.wait(0.05 if ILL.is_set() else 2.0):
        client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "why? " * 500}]
        )


def embedding() -> None:
    """Gives a drift monitor embeddings; when ill, foreign ones: elsewhere, and more spread out."""
    random = np.random.default_rng(0)
    monitor = llmwatch.DriftMonitor("queries", random.normal(size=(800, 64)), window=100)
    while not END.wait(0.1):
        batch = random.normal(size=(20, 64))
        monitor.add(3.0 * batch + 2.0 if ILL.is_set() else batch)


def main(base_url: str, port: int) -> None:
    llmwatch.instrument(prometheus_port=port)
    work = [
        *[asking(base_url, "slow", SLOW) for _ in range(2)],
        asking(base_url, "failing", FAILING),
        *[asking(base_url, "hanging", HANGING) for _ in range(3)],
        lambda: spending(base_url),
        embedding,
    ]
    threads = [Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for line in sys.stdin:
        (ILL.set if line.strip() == "ill" else ILL.clear)()
    END.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
