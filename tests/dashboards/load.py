"""A program under load that Prometheus scrapes: it does a bit of all that dashboards show.

    python -m tests.dashboards.load PORT LIBRARY SCRIPT

It calls a local server with the real client, runs a tiny model of transformers with its layers
watched, has a GPU (by a fake driver) and a drift monitor. It says ``ready`` when every kind of work
was done once, works on until its standard input ends, and prints what it did as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import sys
from collections import Counter
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import openai
import pynvml
import torch

import llmwatch
from examples import _tiny
from llmwatch.demo.script import Script
from llmwatch.demo.server import Server
from tests.fake_nvml import Driver

MODEL = "gpt-4o-mini"
"""One that has a price."""
CHAT = [{"role": "user", "content": "How late is it in Wellington?"}]


class Load:
    """Rounds of work, and a count of what was done."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = openai.OpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0)
        self.model: Any = _tiny.model()
        self.drafter: Any = _tiny.model(noise=0.001)
        self.monitor = llmwatch.DriftMonitor("queries", "first:200", window=50)
        self.dice = np.random.default_rng(0)
        self.done: Counter[str] = Counter()

    def round(self) -> None:
        """One of everything."""
        for route in ("search", "summary"):
            with llmwatch.attributes(route=route):
                self.ask(stream=True, delay=0.01)
                self.ask(stream=False)
        self.fail()
        asyncio.run(self.ask_async())
        self.embed()
        self.generate()
        self.monitor.add(self.dice.normal(size=(40, 16)))
        self.monitor.wait()

    def ask(self, *, stream: bool, delay: float = 0.0) -> None:
        script = Script(delays=(delay,), chunks=8, cached_tokens=2)
        more: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream else {}
        answer: Any = self.client.chat.completions.create(
            model=MODEL, messages=CHAT, stream=stream, extra_headers=script.headers, **more
        )
        usage = [each.usage for each in answer][-1] if stream else answer.usage
        self.done["asked"] += 1
        self.done["output_tokens"] += usage.completion_tokens

    async def ask_async(self) -> None:
        """In an event loop, whose lag is told."""
        async with openai.AsyncOpenAI(base_url=self.server.base_url, api_key="k") as client:
            for _ in range(2):
                await client.chat.completions.create(model="unpriced", messages=CHAT)
                await asyncio.sleep(0.01)
        self.done["asked_async"] += 2

    def fail(self) -> None:
        with contextlib.suppress(openai.InternalServerError):
            self.client.chat.completions.create(
                model=MODEL, messages=CHAT, extra_headers=Script(status=500).headers
            )
        self.done["failed"] += 1

    def embed(self) -> None:
        self.client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
        self.done["embedded"] += 1

    def generate(self) -> None:
        """A batch with padding, and one that is helped by a draft model."""
        prompt = _tiny.prompt(5, 20)
        self.model.generate(**prompt, max_new_tokens=12, eos_token_id=list(range(2, 40)))
        drafted = {**_tiny.prompt(24), "max_new_tokens": 8, "min_new_tokens": 8}
        self.model.generate(**drafted, assistant_model=self.drafter)
        self.done["generated"] += 2

    def hang(self) -> None:
        """One request that is in flight from now on."""
        script = Script(fault="hang")

        def wait() -> None:
            with contextlib.suppress(openai.APIError):
                self.client.chat.completions.create(
                    model=MODEL, messages=CHAT, extra_headers=script.headers
                )

        Thread(target=wait, daemon=True).start()


def gpu(library: str, script: str) -> None:
    """One GPU that works, heats up and is held down."""
    os.environ["FAKE_NVML_SCRIPT"] = script
    pynvml.nvmlLib = ctypes.CDLL(library)
    driver = Driver(Path(script))
    driver.add(energy="5000000+250000t", throttle=4, fan=30, procs=f"{os.getpid()}:{1 << 30}:30")


def main(port: str, library: str, script: str) -> None:
    """Work until nobody listens."""
    torch.set_num_threads(1)
    gpu(library, script)
    llmwatch.instrument(
        service_name="load",
        prometheus_port=port,
        confidence=True,
        gpu_poll_interval=0.1,
        gpu_price=2.0,
    )
    stop = Thread(target=sys.stdin.read, daemon=True)
    stop.start()
    with Server() as server:
        load = Load(server)
        with llmwatch.watch_layers(load.model, "all", every=1, numbers=True):
            load.hang()
            for _ in range(6):
                load.round()
            print("ready", flush=True)
            while stop.is_alive():
                load.round()
                stop.join(0.2)
            print(json.dumps(load.done), flush=True)
            sys.stdin.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
