"""The times are true: against the forward that nobody watches, torch.profiler, and own stamps."""

from __future__ import annotations

from statistics import median
from time import perf_counter

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from tests.sources.torch_layers.models import Block, Scripted, Tower

pytestmark = pytest.mark.timing

X = torch.ones(1)


def took(function) -> float:
    began = perf_counter()
    function()
    return perf_counter() - began


def test_layers_that_take_a_known_time(watch):
    """Within half a millisecond of what they noted themselves; here mostly within some µs."""
    model = Scripted(0.002, 0.005, 0.01, 0.02)
    with watch(model, "blocks") as watcher:
        for _ in range(10):
            model(X)
            for call, block in zip(watcher.samples[-1].calls[1:], model.blocks, strict=True):
                assert call.total_time == pytest.approx(block.took, abs=0.0005)


@pytest.mark.parametrize("layers", ["blocks", "all"])
def test_self_times_sum_to_the_forward_that_nobody_watches(watch, layers):
    """Within 5 % of its median, on a model of real size: 12 blocks of width 512."""
    torch.manual_seed(0)
    model = Tower(12, 512).eval()
    ids = torch.randint(0, 32, (4, 64))
    plain, summed = [], []
    with torch.inference_mode():
        for _ in range(5):
            model(ids)
        for _ in range(50):  # by turns, so that whatever the machine does, it does to both
            plain.append(took(lambda: model(ids)))
            with watch(model, layers) as watcher:
                model(ids)
            (sample,) = watcher.samples
            summed.append(sum(call.self_time for call in sample.calls))
    # Of neighbours: what is true of one minute of a busy machine is not of the next.
    ratios = [ours / theirs for ours, theirs in zip(summed, plain, strict=True)]
    assert median(ratios) == pytest.approx(1, rel=0.05)


class Named(nn.Module):
    """Says to the profiler when it runs."""

    def __init__(self, inner: nn.Module, name: str) -> None:
        super().__init__()
        self.inner, self.name = inner, name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the one inside."""
        with record_function(self.name):
            return self.inner(x)


def test_blocks_take_what_the_profiler_says(watch):
    """Medians of 50, blocks of 5 ms and more, within 5 %; both look at the same forwards."""
    torch.manual_seed(0)
    model = nn.Sequential(*(Named(Block(768), f"block {index}") for index in range(3))).eval()
    x = torch.ones(192, 768)
    with torch.inference_mode():
        model(x)
        with watch(model, "blocks") as watcher:
            with profile(activities=[ProfilerActivity.CPU]) as profiler:
                for _ in range(50):
                    model(x)
            samples = watcher.samples
    assert len(samples) == 50
    for index in range(3):
        ours = median(sample.calls[index + 1].total_time for sample in samples)
        events = [each for each in profiler.events() if each.name == f"block {index}"]
        theirs = median(each.cpu_time_total / 1e6 for each in events)
        assert theirs > 0.005
        assert ours == pytest.approx(theirs, rel=0.05)
