"""What is said of the numbers in a model is what they are."""

from __future__ import annotations

import copy
import pickle
from math import inf, nan

import numpy as np
import pytest
import torch
from torch import nn

from llmwatch import DriftMonitor
from llmwatch.errors import ConfigError
from llmwatch.measure.baseline import Baseline
from llmwatch.measure.health import Health
from llmwatch.sources.torch_layers.fetch import Fetch, Queue
from llmwatch.sources.torch_layers.numbers import Awake, Before, measure, pooled, reading
from llmwatch.sources.torch_layers.watcher import LayerWatcher
from tests.sources.torch_layers.models import IDS, tower
from tests.sources.torch_layers.transformer import ids, language_model

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def health(watcher: LayerWatcher) -> dict[str, Health]:
    return {each.layer: each for each in watcher.report().portrait.health}


# --- one tensor -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_reading_is_what_numpy_says(dtype):
    torch.manual_seed(0)
    before = torch.randn(2, 5, 8).to(dtype)
    after = (before + torch.randn(2, 5, 8)).to(dtype)
    found = reading(measure(before, after).tolist(), 10)
    x, y = (each.double().numpy().reshape(10, 8) for each in (before, after))
    lengths = np.linalg.norm(y, axis=1)
    cosine = (x * y).sum(1) / np.linalg.norm(x, axis=1) / lengths
    change = np.sort(np.linalg.norm(y - x, axis=1) / np.linalg.norm(x, axis=1))
    assert found.rms == pytest.approx(np.sqrt((y**2).mean()), rel=1e-4)
    assert found.typical == pytest.approx(np.sort(lengths)[4] / np.sqrt(8), rel=1e-4)
    assert found.abs_max == pytest.approx(np.abs(y).max())
    assert found.cosine == pytest.approx(cosine.mean(), abs=1e-4)
    assert found.change == pytest.approx(change[4], rel=1e-3)
    assert (found.nan, found.inf) == (0, 0)


def test_half_precision_does_not_overflow_in_measuring():
    after = torch.full((1, 4, 8), 60000.0, dtype=torch.float16)
    found = reading(measure(after, after).tolist(), 4)
    assert found.rms == pytest.approx(60000, rel=1e-3)
    assert found.cosine == pytest.approx(1, abs=1e-5)


def test_nans_and_infinities_are_counted():
    after = torch.ones(3, 4)
    after[0, 1], after[1, 2], after[2, 2] = nan, inf, -inf
    found = reading(measure(None, after).tolist(), 3)
    assert (found.nan, found.inf, found.cosine) == (1, 2, None)


def test_pictures_have_features_in_the_second_place():
    after = torch.zeros(2, 3, 4, 4)
    after[:, 1] = 2.0
    assert reading(measure(None, after).tolist(), 32).typical == pytest.approx(2 / 3**0.5)
    assert pooled(after).tolist() == [[0, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_an_input_that_was_overwritten_is_not_compared(mode):
    with mode():
        x = torch.randn(2, 4)
        kept = Before(x)
        assert kept.still(x + 1) is x
        assert kept.still(torch.ones(2, 5)) is None
        assert kept.still(x.add_(1)) is None


def test_units_are_dead_that_no_token_wakes():
    awake = Awake(torch.zeros(1, 4))
    awake.add(torch.tensor([[0.0, 1.0, 0.0, 1e-9]]))
    awake.add(torch.tensor([[0.0, 0.0, 2.0, 0.0], [0.0, 1.0, 0.0, 0.0]]))
    assert float(awake.dead()) == 0.5
    assert (awake.units, awake.tokens) == (4, 3)


# --- on the way from a device ---------------------------------------------------------------------


class Late:
    """An event that is done when it is told so."""

    done = False

    def query(self) -> bool:
        return self.done

    def synchronize(self) -> None:
        self.done = True


def test_numbers_are_taken_up_in_order_when_they_have_come_and_nobody_waits(monkeypatch):
    taken: list[int] = []
    queue: Queue[int] = Queue(lambda what, _: taken.append(what))
    events = [Late(), Late(), Late()]
    waiting = iter(events)
    plain = Fetch.__init__

    def on_its_way(self: Fetch, tensor: torch.Tensor) -> None:
        plain(self, tensor)
        self._event = next(waiting)

    monkeypatch.setattr(Fetch, "__init__", on_its_way)
    queue.put(0, torch.ones(1))
    events[1].done = True
    queue.put(1, torch.ones(1))
    assert taken == []  # the second has come, but not before the first
    events[0].done = True
    queue.put(2, torch.ones(1))
    assert taken == [0, 1]
    queue.wait()
    assert taken == [0, 1, 2]


# --- models ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_blocks_are_measured_in_the_order_in_which_they_run(watch, mode):
    model = language_model()
    inputs, outputs = [], []

    def keep(_: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        inputs.append(args[0].detach())
        outputs.append(output.detach())

    for block in model.blocks:
        block.register_forward_hook(keep)
    with mode(), watch(model, "blocks", numbers=True) as watcher:
        model(ids(2, 9))
    found = list(health(watcher).values())
    assert [each.block for each in found] == [0, 1, 2]
    for each, x, y in zip(found, inputs, outputs, strict=True):
        cosine = nn.functional.cosine_similarity(x, y, dim=-1).mean()
        assert each.cosine == pytest.approx(float(cosine), abs=1e-5)
        assert each.abs_max == pytest.approx(float(y.abs().max()))
        assert each.tokens == 18


def test_looking_at_numbers_changes_none(watch):
    model = language_model()
    before = model(ids(2, 9))
    before.sum().backward()
    gradients = [each.grad.clone() for each in model.parameters()]
    model.zero_grad()
    with watch(model, "all", numbers=True, gradients=True):
        after = model(ids(2, 9))
        after.sum().backward()
    assert torch.equal(before, after)
    assert all(map(torch.equal, gradients, [each.grad for each in model.parameters()]))


def test_the_block_in_which_nans_begin_is_found(watch):
    model = language_model()
    model.blocks[1].mlp.down.weight.data[0, 0] = nan
    with torch.inference_mode(), watch(model, "blocks", numbers=True) as watcher:
        model(ids(1, 9))
    (finding,) = [each for each in watcher.report().findings if each.kind == "nan_first"]
    assert (finding.layer, finding.block) == ("blocks.1", 1)
    assert finding.evidence["layers_broken"] == 2


def test_a_block_that_does_nothing_is_nearly_the_identity(watch):
    model = language_model()
    for block in model.blocks:
        block.mlp.down.weight.data *= 30
    model.blocks[1].mlp.down.weight.data.zero_()
    model.blocks[1].attention.o_proj.weight.data.zero_()
    with torch.inference_mode(), watch(model, "blocks", numbers=True) as watcher:
        model(ids(4, 40))
    found = [each for each in watcher.report().findings if each.kind == "near_identity"]
    assert [each.layer for each in found] == ["blocks.1"]
    assert found[0].value == pytest.approx(1, abs=1e-5)


def test_units_of_watched_activations_are_followed(watch):
    model = tower()
    for block in model.blocks:
        block.mlp[1] = nn.ReLU()
    first = model.blocks[0].mlp[0]
    first.weight.data[:16] = 0
    first.bias.data[:16] = -1.0
    with torch.inference_mode(), watch(model, ["blocks", nn.ReLU], numbers=True) as watcher:
        for _ in range(130):
            model(IDS)
    found = {each.layer: each for each in watcher.report().portrait.units}
    assert found["blocks.0.mlp.1"].dead >= 0.5
    assert found["blocks.0.mlp.1"].tokens == 130 * IDS.numel()
    kinds = {each.layer: each.kind for each in watcher.report().findings}
    assert kinds["blocks.0.mlp.1"] == "dead_units"


# --- gradients ------------------------------------------------------------------------------------


def test_gradient_norms_are_those_of_each_blocks_parameters(watch):
    model = language_model()
    with watch(model, "blocks", gradients=True) as watcher:
        model(ids(2, 9)).square().mean().backward()
        found = {each.layer: each for each in watcher.report().portrait.gradients}
    assert list(found) == ["blocks.0", "blocks.1", "blocks.2"]
    for name, each in found.items():
        squares = [p.grad.square().sum() for p in model.get_submodule(name).parameters()]
        assert each.norm == pytest.approx(float(sum(squares)) ** 0.5, rel=1e-5)


def test_no_hook_stays_on_parameters_and_copies_have_none(watch):
    model = language_model()
    with watch(model, "blocks", gradients=True) as watcher:
        model(ids(2, 9))  # a backward pass that never comes
        copy.deepcopy(model)
        pickle.dumps(model)
        with torch.no_grad():
            model(ids(2, 9))
        watcher.report()
    hooks = [each._post_accumulate_grad_hooks for each in model.parameters()]
    assert not any(hooks)


# --- drift ----------------------------------------------------------------------------------------


def test_baselines_say_which_layers_a_change_reached(watch, tmp_path):
    model = language_model()
    inputs = [torch.randint(0, 50, (2, 12)) for _ in range(20)]
    with torch.inference_mode(), watch(model, "blocks", numbers=True) as watcher:
        for each in inputs:
            model(each)
        watcher.baseline().save(tmp_path / "before.npz")
    before = Baseline.load(tmp_path / "before.npz")
    model.blocks[1].mlp.down.weight.data *= -20
    with torch.inference_mode(), watch(model, "blocks", numbers=True) as watcher:
        for each in inputs:
            model(each)
        first, second, third = before.compare(watcher.baseline())
    assert first.shift == 0.0
    assert second.shift > 0.5
    assert third.shift > 0.1


def test_without_numbers_there_is_no_baseline(watch):
    with watch(language_model()) as watcher, pytest.raises(ConfigError, match="numbers=True"):
        watcher.baseline()


def test_drift_says_where_in_the_model_inputs_begin_to_look_new(watch):
    """The monitors are given the activations of their layers, and their alarms are findings."""
    model = language_model()
    monitors = {
        name: DriftMonitor(f"test/{name}", "first:160", window=40, false_alarm=0.01)
        for name in ("blocks.0", "blocks.2")
    }
    torch.manual_seed(0)
    with torch.inference_mode(), watch(model, "blocks", drift=monitors) as watcher:
        for _ in range(10):
            model(torch.randint(0, 25, (16, 6)))
        assert len(watcher.samples) == 10
        assert all(each.wait(60) for each in monitors.values())
        for _ in range(20):
            model(torch.randint(25, 50, (16, 6)))
        (finding,) = [each for each in watcher.report().findings if each.kind == "inputs_look_new"]
    assert finding.layer == "blocks.0"
    assert finding.evidence["layers_watched"] == 2


def test_monitors_are_made_for_a_few_blocks(watch):
    with watch(language_model(), "blocks", drift="first:2000") as watcher:
        assert watcher.analysis is not None
        assert watcher.analysis.numbers is not None
        assert list(watcher.analysis.numbers.monitors) == ["blocks.0", "blocks.1", "blocks.2"]


def test_a_layer_that_is_not_watched_cannot_drift(watch):
    model = language_model()
    with pytest.raises(ConfigError, match="no layer of that name"):
        watch(model, "blocks", drift={"blocks.9": DriftMonitor("test")})
    assert "_compiled_call_impl" not in vars(model)
