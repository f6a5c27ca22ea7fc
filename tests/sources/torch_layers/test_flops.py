"""The work of layers is that which PyTorch's own counter finds, and that worked out by hand."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from llmwatch.measure.work import Given
from llmwatch.sources.torch_layers import analysis
from llmwatch.sources.torch_layers.flops import UNKNOWN, Counter
from llmwatch.sources.torch_layers.given import inputs_of
from llmwatch.sources.torch_layers.watcher import watch_layers
from tests.sources.torch_layers.models import IDS, WIDTH, tower
from tests.sources.torch_layers.transformer import Cache, by_hand, ids, language_model

MODES = [torch.enable_grad, torch.no_grad, torch.inference_mode]
OF_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda q, k, v, *_, out_shape=None, **__: sdpa_flop_count(q, k, v)
    )
}
"""PyTorch has no formula for attention as CPUs do it: it would count nothing."""


@pytest.fixture(autouse=True)
def _count_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "COUNT_EVERY", 0.0)


def pictures() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2), nn.Flatten(),
        nn.Linear(4 * 8 * 8, 5),
    ).eval()  # fmt: skip


MODELS: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
    "tower": (tower, IDS),
    "language model": (language_model, ids(2, 9)),
    "pictures": (pictures, torch.ones(2, 3, 16, 16)),
    "encoder": (
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2, enable_nested_tensor=False
        ),
        torch.ones(2, 7, 16),
    ),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MODELS)
def test_a_forward_has_the_flops_of_the_official_counter_and_its_usual_output(name, mode):
    make, given = MODELS[name]
    model = make()
    with mode():
        torch.manual_seed(1)
        plain = model(given)
        torch.manual_seed(1)
        with Counter() as counter:
            counted = model(given)
        torch.manual_seed(1)
        with FlopCounterMode(display=False, custom_mapping=OF_CPU) as official:
            model(given)
    assert counter.flops == official.get_total_flops() > 0
    if name == "encoder":  # under any dispatch mode `nn.MultiheadAttention` rounds in another way
        torch.testing.assert_close(plain, counted)
    else:
        assert torch.equal(plain, counted)


@pytest.mark.parametrize(
    ("batch", "length", "cached"), [(1, 1, 0), (2, 9, 0), (2, 4, 5), (1, 1, 12)]
)
def test_each_layer_has_the_work_worked_out_by_hand(batch, length, cached):
    model = language_model()
    cache = Cache() if cached else None
    with torch.inference_mode():
        if cached:
            model(ids(batch, cached), cache)
        with watch_layers(model, ["*.attention", "*.mlp", "head"], every=1) as watcher:
            model(ids(batch, length), cache)
    assert watcher.analysis is not None
    found = watcher.analysis.works.get(inputs_of((ids(batch, length), Grown(cached)), {}).given)
    expected = by_hand(model.sizes, batch, length, cached)
    assert found is not None
    assert {name: amount[:2] for name, amount in found.items() if amount.flops} == {
        name: amount[:2] for name, amount in expected.items()
    }


class Grown:
    """A cache of a known length."""

    def __init__(self, length: int) -> None:
        self.length = length

    def get_seq_length(self) -> int:
        return self.length


@pytest.mark.parametrize("layers", ["all", "blocks", 1])
def test_what_layers_do_themselves_adds_up_to_the_whole(layers):
    model = language_model()
    with torch.inference_mode(), Counter() as counter:
        model(ids(2, 9))
    with torch.inference_mode(), watch_layers(model, layers, every=1) as watcher:
        model(ids(2, 9))
    assert watcher.analysis is not None
    found = watcher.analysis.works.get(inputs_of((ids(2, 9),), {}).given)
    assert found is not None
    assert sum(each.flops for each in found.values()) == counter.flops
    assert sum(each.moved for each in found.values()) == counter.moved


def test_a_forward_whose_work_is_counted_is_not_timed_and_the_next_one_is():
    model = language_model()
    with torch.inference_mode(), watch_layers(model, every=1) as watcher:
        model(ids(1, 5))
        assert len(watcher.samples) == 0
        model(ids(1, 5))
        model(ids(1, 6))
        assert len(watcher.samples) == 1
        model(ids(1, 6))
        assert len(watcher.samples) == 2


def test_a_forward_that_was_asked_for_is_timed_and_a_later_one_counted():
    """The one prefill among the steps of a generation would else be known by its work alone."""
    model = tower()
    with watch_layers(model, every=1) as watcher, torch.inference_mode():
        watcher.sample_now()
        for _ in range(3):
            model(IDS)
        assert len(watcher.samples) == 2
        assert watcher.analysis.works


def test_without_flops_every_sampled_forward_is_timed(watch):
    model = language_model()
    with torch.inference_mode(), watch(model) as watcher:
        for length in range(1, 8):
            model(ids(1, length))
        assert len(watcher.samples) == 7


def test_after_a_handful_of_counts_none_is_needed_any_more():
    model = language_model()
    counted = 0
    with torch.inference_mode(), watch_layers(model, every=1) as watcher:
        for round_ in range(4):
            for batch in (1, 2, 3):
                for length in (9, 30, 41, 64):
                    before = len(watcher.samples)
                    model(ids(batch, length))
                    counted += round_ > 1 and len(watcher.samples) == before
    assert watcher.analysis is not None
    assert counted == 0
    for batch, length in ((1, 12), (2, 33), (3, 60)):
        found = watcher.analysis.works.get(inputs_of((ids(batch, length),), {}).given)
        assert found is not None
        assert sum(each.flops for each in found.values()) == pytest.approx(
            sum(each.flops for each in by_hand(model.sizes, batch, length).values()), rel=1e-6
        )


def test_counts_are_of_one_thread():
    """A server runs other forwards meanwhile."""
    model = language_model()
    with torch.inference_mode(), Counter() as alone:
        model(ids(1, 5))
    with torch.inference_mode(), Counter() as counter:
        other = Thread(target=lambda: model(ids(4, 30)))
        other.start()
        model(ids(1, 5))
        other.join()
    assert counter.flops == alone.flops


def test_a_forward_that_fails_leaves_no_count_behind():
    model = language_model()

    def fail(*_: Any) -> None:
        raise ValueError("no")

    handle = model.blocks[1].mlp.register_forward_pre_hook(fail)
    with torch.inference_mode(), watch_layers(model, every=1) as watcher:
        with pytest.raises(ValueError, match="no"):
            model(ids(1, 5))
        assert watcher.analysis is not None
        assert not watcher.analysis.works
        handle.remove()
        assert torch.equal(model(ids(1, 5)), model(ids(1, 5)))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", ["tower", "language model", "pictures"])
def test_the_backward_pass_has_the_flops_of_the_official_counter(name, frozen):
    """They are foreseen from the forward: what needs no gradient takes none."""
    make, given = MODELS[name]
    model = make()
    if frozen:
        for parameter in list(model.parameters())[:-2]:
            parameter.requires_grad_(False)
    with Counter() as counter:
        output = model(given)
    with FlopCounterMode(display=False, custom_mapping=OF_CPU) as official:
        output.sum().backward()
    # PyTorch has no formula for the backward pass of attention on CPUs, but for that of others.
    attention = 0
    if name == "language model" and not frozen:
        sizes = model.sizes
        shape = (2, sizes.heads, 9, sizes.head)
        attention = sizes.blocks * sdpa_backward_flop_count(shape, shape, shape, shape)
    assert counter.backward == official.get_total_flops() + attention > 0


@pytest.mark.parametrize("reentrant", [True, False])
def test_the_backward_pass_of_checkpointed_layers_is_not_known(reentrant):
    """It does the forward again."""
    block = tower().blocks[0]
    x = torch.ones(2, WIDTH, requires_grad=True)
    with Counter() as counter:
        checkpoint(block, x, use_reentrant=reentrant)
    assert counter.flops > 0
    assert counter.backward is None


def test_a_backward_pass_in_the_report_has_its_own_work():
    """That of layers whose time is not known by itself counts where their time does."""
    model = language_model().train()
    with watch_layers(model, "all", every=1) as watcher:
        for _ in range(4):
            model(ids(2, 9)).sum().backward()
    found = watcher.report().portrait
    forward = sum(each.flops for each in found.of("forward"))
    backward = sum(each.flops for each in found.of("backward"))
    assert 1.9 * forward < backward < 2.3 * forward
    assert all(each.place is None and each.moved in (0, None) for each in found.of("backward"))


@pytest.mark.parametrize("what", ["model", "module", "block"])
def test_the_work_of_what_is_compiled_is_not_known(what, compiled):
    """Unknown, and not zero; and it is not looked for again and again."""
    model = compiled(what)
    with torch.inference_mode():
        model(IDS)  # compiles it: such a forward is not told of
    with torch.inference_mode(), watch_layers(model, every=1) as watcher:
        for _ in range(4):
            model(IDS)
        assert len(watcher.samples) == 4
    report = watcher.report()
    found = report.portrait.layers
    assert found
    assert "FLOPs are not known: something in the model is compiled" in str(report)
    assert all(each.flops is each.flops_share is each.rate is None for each in found)


def test_where_nothing_can_be_counted_nothing_is_known():
    """And each forward after the first two is timed."""
    model = nn.Sequential(nn.ReLU(), nn.ReLU())
    with torch.inference_mode(), watch_layers(model, every=1) as watcher:
        for _ in range(6):
            model(torch.ones(2, 3))
        assert len(watcher.samples) == 5
    assert all(each.flops is None for each in watcher.report().portrait.layers)


def test_the_work_of_a_model_with_quantised_layers_is_not_known(quantised):
    """The products that can be counted are not all there are."""
    with torch.inference_mode(), watch_layers(quantised, every=1) as watcher:
        for _ in range(4):
            quantised(ids(2, 9))
        assert len(watcher.samples) == 3
    report = watcher.report()
    assert all(each.flops is None for each in report.portrait.layers)
    assert "FLOPs are not known: PyTorch has no formula" in str(report)


@pytest.mark.parametrize(
    ("name", "unknown"),
    [
        ("linear_dynamic", True), ("_int_mm", True), ("_weight_int4pack_mm", True), ("gemv_4bit", True),
        ("conv2d_relu", True), ("_flash_attn_forward", True), ("mkldnn_convolution", True),
        ("upsample_linear1d", False), ("upsample_bilinear2d", False), ("upsample_trilinear3d", False),
        ("_convert_weight_to_int4pack", False), ("native_layer_norm", False), ("silu", False),
        ("comm", False),
    ],
)  # fmt: skip
def test_operations_without_formula_are_known_by_name(name, unknown):
    assert bool(UNKNOWN.search(name)) == unknown


@pytest.fixture
def quantised() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch moves this elsewhere, as it has for years
        return torch.ao.quantization.quantize_dynamic(language_model(), {nn.Linear})


@pytest.fixture
def compiled() -> Callable[[str], nn.Module]:
    def make(what: str) -> nn.Module:
        model = tower()
        if what == "model":
            return torch.compile(model, backend="aot_eager")
        for module in [model] if what == "module" else model.blocks:
            module.compile(backend="aot_eager")
        return model

    return make


def test_gradients_are_the_same_where_work_is_counted():
    model = language_model()
    model(ids(2, 5)).sum().backward()
    expected = [each.grad.clone() for each in model.parameters()]
    model.zero_grad()
    with Counter():
        output = model(ids(2, 5))
    output.sum().backward()
    assert all(map(torch.equal, expected, [each.grad for each in model.parameters()]))


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((ids(2, 9),), {}, (2, 9, 0)),
        ((), {"input_ids": ids(2, 1), "past_key_values": Grown(7)}, (2, 1, 7)),
        ((torch.ones(3, 4, 8),), {"attention_mask": torch.ones(3, 90)}, (3, 4, 0)),
        ((torch.ones(5, 3, 16, 16),), {}, (5, 0, 0)),
    ],
)
def test_what_a_model_is_given(args, kwargs, expected):
    found = inputs_of(args, kwargs).given
    assert isinstance(found, Given)
    assert found[1:] == expected


def test_what_is_no_tensor_is_not_known():
    assert inputs_of(("text",), {"flag": True}).given is None


def test_masks_and_positions_follow_from_the_rest():
    """A mask grows with each decode step: each step would be of another kind."""
    one, other = (
        inputs_of((), {"input_ids": ids(1, 1), "attention_mask": torch.ones(1, many)}).given
        for many in (8, 9)
    )
    assert one == other
