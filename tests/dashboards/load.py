"""A program under load that Prometheus scrapes: it does a bit of all that dashboards show.

    python -m tests.dashboards.load PORT NVML SCRIPT

It calls a local server with the real client, runs tiny models of transformers with layers watched,
has a GPU (by a fake driver) and a drift monitor. It says ``ready`` when all
kinds of work were done, works on until a line comes in, prints what it did as JSON, and waits for the
end of its input, so that the last counts can be scraped.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import openai
import pynvml
import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

import llmwatch
from examples import _tiny
from llmwatch.demo.script import Script
from llmwatch.demo.server import Server
from tests.fake_nvml import Driver
from tests.sources.transformers import words

MODEL = "gpt-4o-mini"
"""One that has a price."""
CHAT: Any = [{"role": "user", "content": "How late is it in Wellington?"}]
WATTS = 250


class Load:
    """Rounds of work, and a count of what was done."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.client = openai.OpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0)
        self.aclient = openai.AsyncOpenAI(base_url=server.base_url, api_key="sk-test")
        self.model: Any = _tiny.model()
        self.drafter: Any = _tiny.model(noise=0.001)
        silence(self.model.model.layers[2])
        self.monitor = llmwatch.DriftMonitor("queries", "first:200", window=50)
        self.dice = np.random.default_rng(0)
        self.done: Counter[str] = Counter()

    def round(self) -> None:
        """One of everything."""
        for route in ("search", "summary"):
            with llmwatch.attributes(route=route):
                self.ask(stream=True)
                self.ask(stream=False)
        self.fail()
        asyncio.run_coroutine_threadsafe(self.ask_async(), self.loop).result(30)
        self.client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
        self.generate()
        self.monitor.add(self.dice.normal(size=(40, 16)))
        self.monitor.add(np.full(16, np.nan))
        self.done["rounds"] += 1

    def ask(self, *, stream: bool) -> None:
        script = Script(delays=(0.005,), chunks=8, cached_tokens=2)
        more: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream else {}
        answer: Any = self.client.chat.completions.create(
            model=MODEL, messages=CHAT, stream=stream, extra_headers=script.headers, **more
        )
        usage = [each.usage for each in answer][-1] if stream else answer.usage
        self.done["asked"] += 1
        self.done["output_tokens"] += usage.completion_tokens

    async def ask_async(self) -> None:
        await self.aclient.chat.completions.create(model="unpriced", messages=CHAT)

    def fail(self) -> None:
        with contextlib.suppress(openai.InternalServerError):
            headers = Script(status=500).headers
            self.client.chat.completions.create(model=MODEL, messages=CHAT, extra_headers=headers)
        self.done["failed"] += 1

    def generate(self) -> None:
        """A batch with padding, one that a draft model helps, a queue, and no generation at all."""
        prompt = _tiny.prompt(5, 20)
        self.model.generate(**prompt, max_new_tokens=12, eos_token_id=list(range(2, 40)))
        helped = {**_tiny.prompt(24), "max_new_tokens": 8, "min_new_tokens": 8}
        self.model.generate(**helped, assistant_model=self.drafter)
        if self.done["rounds"] % 5 == 0:  # it takes its time
            words.speaker().generate_batch(
                [[4, 5, 6], [7, 8]],
                generation_config=GenerationConfig(max_new_tokens=3, eos_token_id=-1),
                continuous_batching_config=ContinuousBatchingConfig(
                    page_size=16, num_blocks=64, max_batch_tokens=64
                ),
                warmup=False,
            )
        words.embedder()(words.TEXTS)

    def hang(self) -> None:
        """One request that is in flight from now on."""
        headers = Script(fault="hang").headers

        def wait() -> None:
            with contextlib.suppress(openai.APIError):
                self.client.chat.completions.create(
                    model=MODEL, messages=CHAT, extra_headers=headers
                )

        Thread(target=wait, daemon=True).start()


def silence(block: Any) -> None:
    """Let a block put out what it is given: a finding."""
    for layer in (block.self_attn.o_proj, block.mlp.down_proj):
        torch.nn.init.zeros_(layer.weight)


def machine(library: str, script: str) -> None:
    """A GPU that works, and is held down by its power cap."""
    os.environ["FAKE_NVML_SCRIPT"] = script
    pynvml.nvmlLib = ctypes.CDLL(library)
    millijoules = f"5000000+{WATTS * 1000}t"
    Driver(Path(script)).add(energy=millijoules, throttle=4, fan=30, procs=f"{os.getpid()}:1000:30")


@contextlib.contextmanager
def running() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def main(port: str, library: str, script: str) -> None:
    """Work until a line comes in."""
    torch.set_num_threads(1)
    machine(library, script)
    llmwatch.instrument(prometheus_port=port, confidence=True, gpu_poll_interval=0.1, gpu_price=2.0)
    told = Thread(target=sys.stdin.readline, daemon=True)
    told.start()
    with Server() as server, running() as loop:
        load = Load(server, loop)
        with llmwatch.watch_layers(load.model, ("blocks", "*.mlp"), every=1, numbers=True):
            load.hang()
            while told.is_alive():
                load.round()
                if load.done["rounds"] == 5:
                    print("ready", flush=True)
                told.join(0.1)
            print(json.dumps(load.done), flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
