"""Which modules are meant by what."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import llmwatch
from llmwatch.errors import ConfigError
from llmwatch.sources.torch_layers.select import plan
from tests.sources.torch_layers.models import WIDTH, Block, Twice, tower


def selected(model: nn.Module, selection) -> list[str]:
    return [layer.name for layer in plan(model, selection).layers]


TOWER = ["", "embed", "blocks.0", "blocks.1", "blocks.2", "head"]
INSIDE = ["norm", "mlp", "mlp.0", "mlp.1", "mlp.2"]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("blocks", TOWER),
        (1, ["", "embed", "head"]),
        (2, TOWER),
        ("all", [*TOWER[:2], *(f"{b}{i}" for b in TOWER[2:5] for i in ["", *(f".{x}" for x in INSIDE)]), "head"]),
        ("*.mlp", ["", "blocks.0.mlp", "blocks.1.mlp", "blocks.2.mlp"]),
        ("blocks.1", ["", "blocks.1"]),
        ("LayerNorm", ["", "blocks.0.norm", "blocks.1.norm", "blocks.2.norm"]),
        (Block, ["", *TOWER[2:5]]),
        (nn.Embedding, ["", "embed"]),
        ([nn.Embedding, "head", lambda name, module: name.endswith("1.norm")], ["", "embed", "blocks.1.norm", "head"]),
    ],
)  # fmt: skip
def test_a_selection_means(selection, expected):
    assert selected(tower(), selection) == expected


def test_blocks_are_counted_and_what_is_in_them_knows_it():
    found = {layer.name: layer for layer in plan(tower(), "all").layers}
    assert found["blocks.2"][1:] == ("Block", 2, 2, True)
    assert found["blocks.2.mlp.1"][1:] == ("GELU", 4, 2, False)
    assert found["embed"][1:] == ("Embedding", 1, None, False)


class Net(nn.Module):
    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


def linears(many: int) -> list[nn.Module]:
    return [nn.Linear(WIDTH, WIDTH) for _ in range(many)]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # A CNN: stages of blocks, not the stages.
        (
            Net(stem=nn.Linear(1, 1), one=nn.Sequential(Block(), Block()), two=nn.Sequential(Block())),
            ["", "stem", "one.0", "one.1", "two"],
        ),
        # Encoder and decoder.
        (
            Net(encoder=Net(layers=nn.ModuleList([Block(), Block()]), norm=nn.LayerNorm(1)),
                decoder=Net(layers=nn.ModuleList([Block(), Block(), Block()]))),
            ["", *(f"encoder.layers.{i}" for i in (0, 1)), "encoder.norm", *(f"decoder.layers.{i}" for i in (0, 1, 2))],
        ),
        # Experts lie inside blocks.
        (
            Net(layers=nn.ModuleList([Net(experts=nn.ModuleList([Block(), Block()])) for _ in range(2)])),
            ["", "layers.0", "layers.1"],
        ),
        # Single layers in a row, where there is nothing larger.
        (nn.Sequential(*linears(3)), ["", "0", "1", "2"]),
        # Nothing is repeated: the children.
        (Net(a=nn.Linear(1, 1), b=Net(c=nn.GELU())), ["", "a", "b"]),
        (nn.Linear(1, 1), [""]),
    ],
    ids=["cnn", "encoder-decoder", "experts", "sequential", "children", "single"],
)  # fmt: skip
def test_blocks_are_found(model, expected):
    assert selected(model, "blocks") == expected


def test_a_module_with_two_names_is_one_layer():
    assert selected(Twice(), "blocks") == ["", "layers.0", "layers.1"]


def test_nothing_inside_what_is_compiled_or_scripted():
    model = tower()
    model.blocks[0].compile(backend="eager")
    model.blocks[1] = torch.compile(model.blocks[1], backend="eager")
    with pytest.warns(DeprecationWarning, match="script"):
        model.blocks[2] = torch.jit.script(model.blocks[2])
    assert selected(model, "all") == TOWER


def test_a_selection_that_means_nothing_says_what_there_is():
    with pytest.raises(ConfigError, match=r"layers='\*.attention' .*'embed'.*Linear"):
        llmwatch.watch_layers(tower(), "*.attention")
    with pytest.raises(ConfigError, match=r"layers=1.5 cannot be used: give 'blocks'"):
        llmwatch.watch_layers(tower(), 1.5)


def test_what_cannot_be_used_is_refused_where_it_is_said():
    with pytest.raises(ConfigError, match=r"watch_layers\(str\)"):
        llmwatch.watch_layers("model")
    with pytest.raises(ConfigError, match="every=0"):
        llmwatch.watch_layers(tower(), every=0)
    with pytest.raises(ConfigError, match="interval=-1"):
        llmwatch.watch_layers(tower(), interval=-1)


def test_a_model_that_changes_is_looked_at_anew(watch):
    """Other modules, another container, something compiled: the next sample is of what is there."""
    model = tower()
    ids = torch.zeros(1, 2, dtype=torch.long)
    with watch(model, "blocks") as watcher:
        model(ids)
        model.blocks[1] = nn.Sequential(Block(), nn.Identity())
        model(ids)
        model.blocks.append(Block())
        model(ids)
        seen = [[call.layer.type for call in each.calls] for each in watcher.samples]
    assert seen[0] == ["Tower", "Embedding", "Block", "Block", "Block", "Linear"]
    assert seen[1][2:5] == ["Block", "Sequential", "Block"]
    assert seen[2][2:6] == ["Block", "Sequential", "Block", "Block"]


@pytest.mark.parametrize("count", [1, 5])
def test_plans_hold_no_module(count):
    import gc
    import weakref

    gc.disable()
    try:
        model = tower(count)
        made = plan(model, "all")
        gone = weakref.ref(model)
        del model
        assert gone() is None
        assert made.tree.find(tower(count)) is None
    finally:
        gc.enable()
