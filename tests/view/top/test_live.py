"""The terminal follows real programs through a real store."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from openai import OpenAI
from textual.pilot import Pilot

import llmwatch
from llmwatch.demo.script import Script
from llmwatch.demo.server import Server
from llmwatch.semconv import STREAM_TIMELINE
from llmwatch.view.numbers import seconds
from llmwatch.view.records import Filter
from llmwatch.view.store import open_view
from llmwatch.view.top.app import Top
from llmwatch.view.top.detail import Detail
from llmwatch.view.top.frame import Look
from tests.fake_nvml import Driver, build, can_build
from tests.view.top.test_app import seen, until


@asynccontextmanager
async def following(store: Path) -> AsyncIterator[tuple[Top, Pilot[None]]]:
    """The app on a store, on a large screen."""
    opener = lambda progress: open_view(store, progress)  # noqa: E731
    app = Top(opener, where=store, at=Look(None), every=0.1)
    async with app.run_test(size=(180, 60)) as pilot:
        await until(pilot, lambda: app.frame is not None)
        yield app, pilot


async def test_it_follows_a_program_while_that_calls(
    tmp_path: Path, client: OpenAI, server: Server
) -> None:
    """From an empty store on; a stream shows each chunk that the server wrote."""
    store = tmp_path / "store"
    script = Script(delays=(0.05, 0.01), chunks=9)

    def ask() -> None:
        with llmwatch.attributes(route="/harbour"):
            stream = client.chat.completions.create(
                model="gpt-4o", messages=[], stream=True, extra_headers=script.headers
            )
            assert list(stream)
        llmwatch.flush()

    async with following(store) as (app, pilot):
        await until(pilot, lambda: seen(app, "Nothing is stored yet."))
        llmwatch.instrument(store_path=str(store), service_name="shop", timeline=True)
        for number in (1, 2, 3):
            await asyncio.to_thread(ask)
            await until(pilot, lambda number=number: len(app.panels.requests.rows) == number)  # type: ignore[misc]
        llmwatch.uninstrument()
        with closing(open_view(store)) as view:
            assert app.panels.requests.rows == view.requests(Filter())
            (operation,) = view.operations(Filter())
            row = app.panels.requests.rows[0]
            found = view.request(row.trace_id, row.span_id)
        assert app.panels.operations.rows == [operation]
        assert operation.ttft_p50 is not None
        assert seen(app, f" {seconds(operation.ttft_p50)} ")
        assert found is not None
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Detail) and seen(app, "Trace 1 span"))
        offsets = found.spans[0].attributes[STREAM_TIMELINE]
        written = [write for write in server.last.writes if write.start]
        assert len(written) >= len(offsets) >= 9
        assert seen(app, f"{len(offsets)} chunks")
        for number, offset in enumerate(offsets, 1):
            assert seen(app, f"chunk {number}")
            assert seen(app, seconds(offset / 1e6))


PROGRAM = """
import sys, time
import torch
from torch import nn
import llmwatch

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(16, 64), nn.Linear(64, 16)
    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(4))
    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x

@llmwatch.watch(operation="text_completion", model="tiny-lm")
def generate(model):
    for _ in range(5):
        model(torch.zeros(1, 16))
    time.sleep(0.3)

llmwatch.instrument(service_name="tiny", store_path=sys.argv[1], export_interval=0.1)
model = Tiny()
with llmwatch.watch_layers(model, ["blocks"], every=1, flops=False):
    for _ in range(3):
        generate(model)
    llmwatch.flush()
monitor = llmwatch.DriftMonitor("words", torch.randn(200, 8).numpy(), window=50)
monitor.wait()
for row in torch.randn(400, 8).numpy() + 5:
    monitor.add(row)
monitor.flush()
llmwatch.shutdown()
"""


@pytest.mark.skipif(not can_build(), reason="needs gcc and the package nvidia-nvml-dev")
async def test_gpu_layers_and_drift_of_a_program_are_on_the_screen(tmp_path: Path) -> None:
    """Under a fake driver: two GPUs, of which one is idle."""
    pytest.importorskip("torch")
    driver = Driver(tmp_path / "script")
    driver.add(util=87, power=350_000)
    driver.add(util=0, power=60_000)
    kept = {key: text for key, text in os.environ.items() if not key.startswith(("OTEL_", "LLMW"))}
    more = {
        "LD_LIBRARY_PATH": str(build(tmp_path / "nvml").parent),
        "FAKE_NVML_SCRIPT": str(tmp_path / "script"),
        "OMP_NUM_THREADS": "1",
    }
    kept.pop("CUDA_VISIBLE_DEVICES", None)
    program = [sys.executable, "-c", PROGRAM, str(tmp_path / "store")]
    ran = await asyncio.to_thread(
        subprocess.run, program, env=kept | more, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    async with following(tmp_path / "store") as (app, pilot):
        await until(pilot, lambda: seen(app, "GPU 1"))
        for text in ("GPU 0", "87%", "20.0 / 80.0 GiB", "350 / 700 W", "45 °C", "60 / 700 W"):
            assert seen(app, text)
        assert seen(app, "─ Layers")
        assert seen(app, "  Block ")
        assert seen(app, "▲ DRIFT words")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Detail) and seen(app, "GPU 0"))
