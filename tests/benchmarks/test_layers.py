"""What watching layers costs: a forward that is not sampled, a sampled one, and both at the default
rate.

The model is small, so that the shares are the highest there can be: 24 blocks of width 64, some 300
modules. Forwards take turns, and a row compares the model with itself: what differs there is noise.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter

import pytest
import torch
from torch import nn

from llmwatch.sources.torch_layers.watcher import INTERVAL, watch_layers
from tests.benchmarks.table import seconds

WIDTH, BLOCKS, TOKENS = 64, 24, 64


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for name in ("q", "k", "v", "o"):
            self.add_module(name, nn.Linear(WIDTH, WIDTH, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            each(x).unflatten(-1, (4, -1)).transpose(1, 2) for each in (self.q, self.k, self.v)
        )
        out = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(out.transpose(1, 2).flatten(-2))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.gate = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(WIDTH, 4 * WIDTH)
        self.act, self.down = nn.SiLU(), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.act(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.attention = nn.RMSNorm(WIDTH), Attention()
        self.second, self.mlp = nn.RMSNorm(WIDTH), Mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.first(x))
        return x + self.mlp(self.second(x))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(128, WIDTH)
        self.layers = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.head = nn.Linear(WIDTH, 128)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def rounds(request) -> int:
    return 10 if request.config.getoption("--quick") else 300


def ratios(one, other, rounds: int, between=lambda: None) -> tuple[float, float]:
    """Median time of one, and median ratio of neighbouring turns of the other to it."""
    times, found = [], []
    for turn in range(rounds):
        pair = (one, other) if turn % 2 else (other, one)
        took = {}
        for function in pair:
            between()
            began = perf_counter()
            function()
            took[function] = perf_counter() - began
        times.append(took[one])
        found.append(took[other] / took[one])
    return median(times), median(found)


def twins() -> tuple[Model, Model]:
    """A model and its like."""
    torch.manual_seed(0)
    plain, watched = Model().eval(), Model().eval()
    watched.load_state_dict(plain.state_dict())
    return plain, watched


def paired(rounds: int, **options: bool) -> tuple[float, float]:
    """What sampling the blocks costs with these options."""
    plain, watched = twins()
    ids = torch.arange(TOKENS).reshape(1, -1)
    with torch.inference_mode(), watch_layers(watched, every=1, **options) as watcher:
        for model in (plain, watched) * 5:
            model(ids)
        return ratios(lambda: plain(ids), lambda: watched(ids), rounds, watcher.resolve)


def test_a_forward_that_is_not_sampled(overhead, rounds):
    """Of a module that does nothing, so that nothing hides it."""
    plain, watched = nn.Identity(), nn.Identity()
    x = torch.ones(1)
    with watch_layers(watched, every=10**9, flops=False):
        times = []
        for module in (plain, watched):
            best = float("inf")
            for _ in range(rounds):
                began = perf_counter()
                for _ in range(200):
                    module(x)
                best = min(best, (perf_counter() - began) / 200)
            times.append(best)
    bare, ours = times
    overhead(
        "Inside",
        "layers: a forward that is not sampled",
        seconds(ours - bare),
        f"a call of a module: {seconds(bare)}",
        (ours - bare) * 1e6,
        3,
        unit=" µs",
    )


@pytest.mark.parametrize(
    ("layers", "interval", "most"),
    [
        (None, 0, 1.02),
        ("blocks", 0, 1.03),
        ("all", 0, 1.10),
        ("blocks", 1e-9, 1.05),
        ("all", 1e-9, 1.16),
    ],
    ids=["A/A", "blocks", "all", "blocks, now and then", "all, now and then"],
)
def test_a_sampled_forward(overhead, rounds, layers, interval, most):
    """Each forward of the watched model is sampled. What is summed up afterwards is no part of a
    forward: it is done between the turns, and has a row of its own.

    With an interval, wrappers are made anew for each: at the default rate nothing is kept."""
    plain, watched = twins()
    ids = torch.arange(TOKENS).reshape(1, -1)
    watcher = (
        None
        if layers is None
        else watch_layers(watched, layers, every=1, interval=interval, flops=False)
    )
    sums = []

    def sum_up() -> None:
        if watcher is not None and watcher._pending:
            began = perf_counter()
            watcher.resolve()
            sums.append(perf_counter() - began)

    with torch.inference_mode():
        for model in (plain, watched) * 5:
            model(ids)
        took, ratio = ratios(lambda: plain(ids), lambda: watched(ids), rounds, sum_up)
    if watcher is not None:
        watcher.close()
    what = "layers: a model and its twin (A/A)" if layers is None else f"layers: sampled, {layers}"
    what += ", now and then" * bool(interval)
    overhead("Inside", what, seconds(took * ratio), f"not watched: {seconds(took)}", ratio, most)
    if layers is not None and not interval:
        overhead(
            "Inside",
            f"layers: summing up a sampled forward on another thread, {layers}",
            seconds(median(sums)),
            f"a forward: {seconds(took)}",
            median(sums) / took,
            0.25,
        )
    if layers == "blocks" and interval:
        # One forward a second carries the cost of sampling, all others that of the entry; what is
        # summed up takes that time from somebody.
        share = 1 + ((ratio - 1) * took + median(sums)) / INTERVAL + 1.5e-6 / took
        overhead(
            "Inside",
            "layers: blocks at the default rate, computed",
            seconds(took * share),
            f"not watched: {seconds(took)}",
            share,
            1.005,
        )


def test_numbers(overhead, rounds):
    """The health of what 24 blocks put out, on sampled forwards; at most one a second."""
    took, ratio = paired(rounds, numbers=True, flops=False)
    what = "layers: sampled, blocks, with the health of their numbers"
    overhead("Inside", what, seconds(took * ratio), f"not watched: {seconds(took)}", ratio, 2.5)


def test_known_work(overhead, rounds, monkeypatch):
    """Of forwards whose work is known; what remains is to see that it is."""
    from llmwatch.sources.torch_layers import analysis

    monkeypatch.setattr(analysis, "COUNT_EVERY", 0.0)
    took, ratio = paired(rounds, flops=True)
    what = "layers: sampled, blocks, with their work, which is known"
    overhead("Inside", what, seconds(took * ratio), f"not watched: {seconds(took)}", ratio, 1.05)


def test_counting(overhead, rounds):
    """Done for a handful of forwards, at most one a second."""
    from llmwatch.sources.torch_layers.flops import Counter

    plain, _ = twins()
    ids = torch.arange(TOKENS).reshape(1, -1)

    def count() -> None:
        with Counter():
            plain(ids)

    with torch.inference_mode():
        count()
        took, ratio = ratios(lambda: plain(ids), count, max(rounds // 10, 3))
    what = "layers: a forward whose work is counted, once for each shape"
    overhead("Inside", what, seconds(took * ratio), f"not watched: {seconds(took)}", ratio, 20)


@pytest.mark.parametrize("gradients", [False, True], ids=["times", "gradients"])
def test_training(overhead, rounds, gradients):
    """Forward and backward pass of each step are sampled."""
    plain, watched = twins()
    ids = torch.arange(TOKENS).reshape(1, -1)

    def step(model: nn.Module) -> None:
        model(ids).sum().backward()

    with watch_layers(watched, every=1, flops=False, gradients=gradients) as watcher:
        for model in (plain, watched) * 5:
            step(model)
        took, ratio = ratios(
            lambda: step(plain), lambda: step(watched), max(rounds // 3, 5), watcher.resolve
        )
    what = "layers: a sampled training step, blocks" + (", with gradient norms" * gradients)
    most = 2.0 if gradients else 1.25
    overhead("Inside", what, seconds(took * ratio), f"not watched: {seconds(took)}", ratio, most)


def test_memory_stays_over_many_sampled_forwards(overhead, request):
    """A million of them, each of a model of one layer; what the process holds more afterwards."""
    import tracemalloc

    many = 2_000 if request.config.getoption("--quick") else 1_000_000
    model = nn.Sequential(nn.Identity())
    x = torch.ones(1)
    with torch.inference_mode(), watch_layers(model, every=1, flops=False) as watcher:

        def run(forwards: int) -> None:
            for _ in range(forwards // 100):
                for _ in range(100):
                    model(x)
                watcher.resolve()  # the thread that does so would fall behind

        run(1000)
        tracemalloc.start(1)
        before = tracemalloc.get_traced_memory()[0]
        run(min(many, 5_000))  # ten times as slow while it is traced
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        held = _resident()
        run(many)
        assert watcher.given_up == 0
        grown = max(grown, _resident() - held)
    overhead(
        "Inside",
        f"layers: memory after {many:,} sampled forwards",
        f"{grown / 1024:.0f} KiB",
        "after 1,000",
        grown / 1024,
        1024,
        unit=" KiB",
    )


def _resident() -> int:
    import resource
    from pathlib import Path

    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
