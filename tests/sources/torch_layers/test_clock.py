"""Times of accelerators: the real clock, over a device that does what the test says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from llmwatch import _guard
from llmwatch.sources.torch_layers import clock, layout
from llmwatch.sources.torch_layers.clock import DeviceClock
from llmwatch.sources.torch_layers.watcher import MOST_PENDING
from tests.sources.torch_layers.device import Device
from tests.sources.torch_layers.models import IDS, WIDTH, left_behind

X = torch.ones(2, WIDTH)


class Kernel(nn.Module):
    """Gives the device work of a known length, and allocates there."""

    def __init__(self, device: Device, milliseconds: float, allocates: int = 0) -> None:
        super().__init__()
        self.inner = nn.Identity()
        self.given = [device, milliseconds, allocates]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Let time go by on the device."""
        device, milliseconds, allocates = self.given
        device.now += milliseconds
        if device.allocated is not None:
            device.allocated += allocates
        return self.inner(x)


class Model(nn.Module):
    """Blocks in a row, with work of the model's own before them."""

    def __init__(self, device: Device, *blocks: Kernel) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.given = [device]
        self.between = lambda: None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All of it."""
        self.given[0].now += 1.0
        x = self.blocks(x)
        self.between()
        return x


@pytest.fixture
def device(monkeypatch) -> Iterator[Device]:
    """Every model of the test is on it."""
    made = Device()
    its_clock = DeviceClock("fake:0", made)
    monkeypatch.setattr(layout, "clock_of", lambda _: its_clock)
    yield made
    assert all(not event.pending for event in its_clock._spare)


def model(device: Device, *milliseconds: float) -> Model:
    return Model(device, *(Kernel(device, each) for each in milliseconds))


def times(sample) -> dict[str, float]:
    return {call.layer.name: round(call.self_time * 1e3, 6) for call in sample.calls}


def test_times_are_the_devices(watch, device):
    net = model(device, 5, 7, 11)
    with watch(net, "blocks") as watcher:
        net(X)
    (sample,) = watcher.samples
    assert times(sample) == {"": 1, "blocks.0": 5, "blocks.1": 7, "blocks.2": 11}
    assert sample.total_time == pytest.approx(0.024)
    assert all(call.host_time < 0.01 for call in sample.calls)


def test_blocks_in_a_row_share_marks(watch, device):
    """N blocks of one container need N + 1 marks, and the model two."""
    net = model(device, *[1] * 10)
    with watch(net, "blocks"):
        net(X)
    assert device.recorded == 11 + 2


def test_nothing_is_known_before_the_device_is_done(watch, device):
    """And nobody waits for it."""
    net = model(device, 5, 7)
    device.done = lambda event: False
    with watch(net, "blocks") as watcher:
        for _ in range(3):
            net(X)
        assert watcher.samples == ()
        # The first forward is done; of the second, all but its last mark.
        known = device.events[: 2 * 5 - 1]
        device.done = lambda event: any(event is each for each in known)
        assert len(watcher.samples) == 1
        device.done = lambda event: True
        assert [times(each)["blocks.1"] for each in watcher.samples] == [7, 7, 7]


def test_marks_that_are_done_out_of_order_are_waited_for_in_order(watch, device):
    net = model(device, 5, 7)
    with watch(net, "blocks") as watcher:
        device.done = lambda event: event is device.events[-1]
        net(X)
        assert watcher.samples == ()
        device.done = lambda event: event is not device.events[2]
        assert watcher.samples == ()
        device.done = lambda event: True
        assert len(watcher.samples) == 1


def test_what_is_never_done_is_given_up_and_never_used_again(watch, device):
    """The oldest goes; memory is bounded; what is done later is known later."""
    net = model(device, 5)
    device.done = lambda event: False
    with watch(net, "blocks") as watcher:
        for _ in range(MOST_PENDING + 5):
            net(X)
        assert watcher.given_up == 5
        device.done = lambda event: True
        assert len(watcher.samples) == MOST_PENDING
        net(X)


def test_events_are_used_again(watch, device):
    net = model(device, 5, 7)
    with watch(net, "blocks") as watcher:
        for _ in range(100):
            net(X)
            assert watcher.samples
        assert len(watcher.samples) == 64
    assert device.made == 5


@pytest.mark.parametrize("what", ["record", "query", "elapsed_time"])
def test_a_device_that_fails_is_not_the_users_problem(watch, device, what, monkeypatch):
    """No times, then; the model goes on, and so does the watching once the device works."""
    monkeypatch.setattr(_guard, "strict", False)
    net = model(device, 5, 7)
    with watch(net, "blocks") as watcher:
        device.fails = lambda doing, event: doing == what
        for _ in range(3):
            assert torch.equal(net(X), X)
        assert watcher.samples == ()
        device.fails = lambda doing, event: False
        net(X)
        assert len(watcher.samples) == 1
    assert left_behind(net) == []
    assert sum(_guard.error_counts().values()) > 0


def test_one_mark_that_fails_spoils_its_forward_alone(watch, device, monkeypatch):
    monkeypatch.setattr(_guard, "strict", False)
    net = model(device, 5, 7)
    with watch(net, "blocks") as watcher:
        device.fails = lambda what, event: what == "record" and device.recorded == 2
        net(X)
        device.fails = lambda what, event: False
        net(X)
        assert len(watcher.samples) == 1


def test_nothing_is_recorded_into_a_graph(watch, device):
    """Neither when the whole forward is captured, nor when a part of it is."""
    net = model(device, 5, 7)
    with watch(net, "blocks") as watcher:
        device.is_capturing = True
        net(X)
        assert device.recorded == 0
        device.is_capturing = False
        net.blocks[0].inner.register_forward_hook(lambda *_: setattr(device, "is_capturing", True))
        net(X)
        device.is_capturing = False
        assert watcher.samples == ()
        assert not _guard.error_counts()


def test_memory_is_what_layers_left_allocated(watch, device):
    device.allocated = 1000
    net = Model(device, Kernel(device, 1, 64), Kernel(device, 1, -24))
    with watch(net, "blocks", memory=True) as watcher:
        net(X)
    assert [call.memory for call in watcher.samples[0].calls] == [40, 64, -24]


def test_a_model_on_two_devices_is_timed_by_each(watch, monkeypatch):
    """Stamps of one device say nothing on another; each layer is timed by its own."""
    first, second = Device(), Device()
    one, other = torch.device("cuda:0"), torch.device("cuda:1")
    clocks = {one: DeviceClock("cuda:0", first), other: DeviceClock("cuda:1", second)}
    net = Model(first, Kernel(first, 5), Kernel(second, 7))
    on_the_other = net.blocks[1]
    monkeypatch.setattr(layout, "device_of", lambda m, _: other if m is on_the_other else one)
    monkeypatch.setattr(layout, "clock_of", clocks.__getitem__)
    second.now = 1e6
    with watch(net, "blocks") as watcher:
        net(X)
    (sample,) = watcher.samples
    assert times(sample)["blocks.0"] == 5
    assert times(sample)["blocks.1"] == 7


def test_backward_passes_are_timed_by_the_device(watch, device):
    """The graph's nodes take the device's time."""

    class Cost(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, milliseconds):
            ctx.milliseconds = milliseconds
            return x * 1

        @staticmethod
        def backward(ctx, gradient):
            device.now += ctx.milliseconds
            return gradient, None

    class Block(nn.Module):
        def __init__(self, milliseconds):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(WIDTH))
            self.inner = nn.Identity()
            self.milliseconds = milliseconds

        def forward(self, x):
            return Cost.apply(x * self.weight, self.milliseconds)

    net = nn.Sequential(nn.Embedding(32, WIDTH), nn.Sequential(Block(3), Block(5), Block(8)))
    with watch(net, "blocks") as watcher:
        out = net(IDS)
        assert len(watcher.samples) == 1
        device.done = lambda event: False
        out.sum().backward()
        assert [each.phase for each in watcher.samples] == ["forward"]
        device.done = lambda event: True
    backward = watcher.samples[1]
    found = times(backward)
    assert (found["1.0"], found["1.1"], found["1.2"]) == (3, 5, 8)
    assert backward.total_time == pytest.approx(0.016)


# --- on a real device ----------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_times_on_a_gpu_are_those_of_its_events(watch):
    """Without waiting: known once the GPU is done, and within 5 % of events round the blocks."""
    net = nn.Sequential(*(nn.Linear(4096, 4096) for _ in range(8))).cuda().half()
    x = torch.randn(4096, 4096, device="cuda", dtype=torch.half)
    with torch.inference_mode():
        for _ in range(5):
            net(x)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        net(x)
        end.record()
        torch.cuda.synchronize()
        alone = begin.elapsed_time(end) / 1e3
        with watch(net, "blocks", memory=True) as watcher:
            for _ in range(20):
                net(x)
            torch.cuda.synchronize()
            found = sorted(each.total_time for each in watcher.samples)
    assert found[len(found) // 2] == pytest.approx(alone, rel=0.05)
    assert all(call.memory is not None for call in watcher.samples[0].calls)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_cuda_graph_is_captured_as_if_nobody_watched(watch):
    net = nn.Sequential(*(nn.Linear(64, 64) for _ in range(4))).cuda()
    x = torch.randn(8, 64, device="cuda")
    with torch.inference_mode(), watch(net, "blocks") as watcher:
        net(x)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        seen = len(watcher.samples)
        with torch.cuda.graph(graph):
            out = net(x)
        graph.replay()
        torch.cuda.synchronize()
        assert len(watcher.samples) == seen
        assert torch.allclose(out, net(x))


def test_the_real_device_is_asked_through_public_names():
    """What `TorchDevice` uses exists, and is documented, in this release."""
    assert callable(torch.Event)
    for name in ("record", "query", "elapsed_time"):
        assert callable(getattr(torch.Event, name))
    assert callable(torch.get_device_module)
    for device in (torch.cuda, torch.xpu):
        assert callable(device.is_current_stream_capturing)
        assert callable(device.memory_allocated)
    assert clock.clock_of(torch.device("cpu")) is None
