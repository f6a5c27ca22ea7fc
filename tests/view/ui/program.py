"""A program that is watched: real clients, a model with layers, a scripted GPU, a drift.

``python -m tests.view.ui.program STORE [NVML_LIBRARY NVML_SCRIPT]``. Then it serves orders, a line
each: ``stream TITLE`` makes a streamed call, ``end`` ends it.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from pathlib import Path
from typing import Any

import llmwatch
from llmwatch.demo.scenes import SCENES, USAGE, Stage, tokens
from llmwatch.demo.script import Script
from llmwatch.demo.server import Server

PLAYED = ("chat, streamed", "broken stream", "abandoned stream", "@watch agent")
HOSTILE = "</script><img src=x onerror=\"window.hurt=1\"><svg/onload='window.hurt=1'>&lt;b&gt;"
"""What must stay text wherever it is shown."""


def use_gpu(library: str, script: str) -> None:
    """Let NVIDIA's binding use a fake driver, with one GPU that becomes busy."""
    import pynvml

    from tests.fake_nvml import Driver

    pynvml.nvmlLib = ctypes.CDLL(library)
    driver = Driver(Path(script))
    driver.add()
    driver.start()
    for second in range(1, 40):
        driver.set("0", at=second / 2, util=35 + (second * 37) % 60, power=200_000 + second * 9_000)


def call_server(stage: Stage) -> None:
    """Some kinds of calls."""
    for scene in SCENES:
        if scene.title in PLAYED:
            stage.play(scene)
    stage.answer(Script(delays=tokens(0.02, 0.004, 8), text=HOSTILE))
    with llmwatch.attributes(route=HOSTILE, user=HOSTILE):
        ask(stage)


@llmwatch.watch(operation="invoke_agent")
def ask(stage: Stage) -> None:
    """A call of which every text is hostile."""
    logging.getLogger("shop").warning("asked for %s", HOSTILE)
    stream = stage.client.chat.completions.create(
        model=f"model {HOSTILE}",
        messages=[{"role": "user", "content": HOSTILE}],
        stream=True,
        stream_options=USAGE,
    )
    for _ in stream:
        pass


def run_model() -> None:
    """A tiny model generates, and its layers are timed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=99,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=6,
        num_attention_heads=4,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    model.name_or_path = "tiny-llama"
    with llmwatch.watch_layers(model, ["blocks", "*.self_attn", "*.mlp"], every=2) as watcher:
        for length in (12, 40):
            watcher.sample_now()
            with llmwatch.attributes(route="local"):
                model.generate(
                    torch.arange(2, 2 + length)[None], max_new_tokens=12, do_sample=False
                )
        watcher.report()


def drift() -> None:
    """The demo's monitor raises an alarm and clears it; metrics are collected meanwhile."""
    from rich.console import Console

    from llmwatch.demo import drift as demo
    from llmwatch.drift import registry

    def collect(*_: Any) -> None:
        llmwatch.flush()

    registry.listeners.append(collect)
    demo.show(Console(quiet=True))
    registry.listeners.remove(collect)
    llmwatch.flush()


def obey(stage: Stage) -> None:
    """Make a call for each order, until there are no more."""
    print("ready", flush=True)
    for line in sys.stdin:
        order, _, title = line.strip().partition(" ")
        if order == "end":
            return
        stage.answer(Script(delays=tokens(0.05, 0.02, 20), chunks=20))
        with llmwatch.attributes(route=title):
            stream = stage.client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": title}], stream=True
            )
            for _ in stream:
                pass
        print("done", flush=True)


def main(store: str, *gpu: str) -> None:
    """Do all of it."""
    from openai import OpenAI

    if gpu:
        use_gpu(*gpu)
    llmwatch.instrument(
        service_name="shop",
        store_path=store,
        timeline=True,
        layer_spans=6,
        capture_content="span_only",
        logs="export",
        export_interval=1.0,
    )
    run_model()
    with Server() as server, OpenAI(base_url=server.base_url, api_key="sk-test") as client:
        stage = Stage(server, client)
        call_server(stage)
        drift()
        llmwatch.flush()
        obey(stage)
    llmwatch.uninstrument()


if __name__ == "__main__":
    main(*sys.argv[1:])
