"""Beside what PyTorch and its libraries do to models: compile, script, trace, export, quantise, …"""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from tests.sources.torch_layers.models import IDS, WIDTH, Block, left_behind, tower

X = torch.ones(2, WIDTH)


def names(sample) -> list[str]:
    return [call.layer.name for call in sample.calls]


@pytest.fixture(autouse=True)
def _a_fresh_compiler():
    _forget()  # other tests compile, too
    yield
    _forget()


def _forget() -> None:
    torch._dynamo.reset()
    counters.clear()


BLOCKS = ["", "embed", "blocks.0", "blocks.1", "blocks.2", "head"]


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("before", [True, False])
def test_blocks_that_are_compiled_are_timed_from_outside(watch, backend, before):
    """Each is compiled once, never again for our sake, and nothing in it is touched."""
    model = tower()
    plain = model(IDS)

    def compile_all() -> None:
        for block in model.blocks:
            block.compile(backend=backend)

    if before:
        compile_all()
    with watch(model, "all") as watcher:
        if not before:
            model(IDS)
            compile_all()
        with torch.inference_mode():
            for _ in range(3):
                assert torch.allclose(model(IDS), plain)
            compiled = counters["stats"]["unique_graphs"]
            for _ in range(3):
                model(IDS)
        assert counters["stats"]["unique_graphs"] == compiled
        assert names(watcher.samples[-1]) == BLOCKS
    assert not counters["graph_break"]
    compiled = counters["stats"]["unique_graphs"]
    with torch.inference_mode():
        model(IDS)
    assert counters["stats"]["unique_graphs"] == compiled


@pytest.mark.parametrize("before", [True, False])
def test_a_model_that_is_compiled_in_place_is_timed_as_a_whole(watch, before):
    """`model.compile()` takes our place; whoever collects metrics sees to it that we come back."""
    model = tower()
    if before:
        model.compile(backend="eager")
    with watch(model) as watcher, torch.inference_mode():
        if not before:
            model.compile(backend="eager", fullgraph=True)
            watcher.attach()
        for _ in range(3):
            model(IDS)
        assert names(watcher.samples[-1]) == [""]
        compiled = vars(model)["_compiled_call_impl"].beneath
    assert vars(model)["_compiled_call_impl"] is compiled
    assert not counters["graph_break"]


@pytest.mark.parametrize("watched", ["outside", "inside"])
def test_torch_compile_of_a_model(watch, watched):
    """The optimised module is watched as a whole; what it was made of can be watched, and compiles
    as if it were not."""
    model = tower()
    plain = model(IDS)
    if watched == "outside":
        optimised = torch.compile(model, backend="eager", fullgraph=True)
        watcher = watch(optimised)
    else:
        watcher = watch(model)
        optimised = torch.compile(model, backend="eager", fullgraph=True)
    with watcher, torch.inference_mode():
        for _ in range(3):
            assert torch.allclose(optimised(IDS), plain)
        assert counters["stats"]["unique_graphs"] == 1
        assert not counters["graph_break"]
        if watched == "outside":
            assert [names(each) for each in watcher.samples] == [[""]] * 3
    assert left_behind(model) == []


def test_a_watched_model_inside_a_compiled_function(watch):
    """No graph break, no second compilation; nothing is sampled while it is traced."""
    model = tower()
    with watch(model) as watcher:

        @torch.compile(backend="eager", fullgraph=True)
        def twice(ids):
            return model(ids) * 2

        with torch.inference_mode():
            for _ in range(3):
                assert torch.allclose(twice(IDS), model(IDS) * 2)
    assert counters["stats"]["unique_graphs"] == 1
    assert len(watcher.samples) == 3  # those outside


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_blocks_compiled_by_inductor(watch):
    """The same with code from a real compiler."""
    model = tower()
    plain = model(IDS)
    for block in model.blocks:
        block.compile()
    with watch(model) as watcher, torch.inference_mode():
        for _ in range(3):
            assert torch.allclose(model(IDS), plain, atol=1e-5)
        assert names(watcher.samples[-1]) == BLOCKS


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_script_and_trace_see_a_plain_model(watch):
    model = tower()
    plain = model(IDS)
    with watch(model) as watcher:
        traced = torch.jit.trace(model, IDS, check_trace=False)
        assert not watcher.samples
        scripted = torch.jit.script(model.blocks[0])
        with watch(model.blocks[1]):
            assert torch.jit.script(model.blocks[1])(X).shape == X.shape
        assert torch.allclose(traced(IDS), plain)
        assert torch.allclose(scripted(X), model.blocks[0](X))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_layer_is_one_layer(watch):
    """Of a model that is not scripted, which is sampled again and again."""
    model = tower()
    model.head = torch.jit.script(model.head)
    with watch(model) as watcher, torch.inference_mode():
        for _ in range(3):
            model(IDS)
        seen = [[call.layer.name for call in sample.calls] for sample in watcher.samples]
    assert len(seen) == 3
    assert all(each == seen[0] for each in seen)
    assert "head" in seen[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_and_traced_models_are_timed_as_a_whole(watch):
    for model in (torch.jit.script(Block()), torch.jit.trace(tower(), IDS)):
        given = X if "Block" in model.original_name else IDS
        plain = model(given)
        with watch(model) as watcher:
            assert torch.equal(model(given), plain)
        assert names(watcher.samples[0]) == [""]
        # … and as one layer of another
        outer = nn.Sequential(model)
        with watch(outer) as watcher:
            assert torch.equal(outer(given), plain)
        assert names(watcher.samples[0]) == ["", "0"]


@pytest.mark.parametrize("strict", [True, False])
def test_export_sees_a_plain_model(watch, strict):
    model = tower()
    plain = torch.export.export(model, (IDS,), strict=strict)
    with watch(model) as watcher:
        watched = torch.export.export(model, (IDS,), strict=strict)
        assert str(watched.graph) == str(plain.graph)
        assert not watcher.samples
    assert torch.allclose(watched.module()(IDS), model(IDS))


def test_a_symbolic_trace_sees_a_plain_model(watch):
    model = tower()
    plain = torch.fx.symbolic_trace(model)
    with watch(model):
        watched = torch.fx.symbolic_trace(model)
    assert str(watched.graph) == str(plain.graph)


def test_dynamic_quantisation(watch):
    model = tower()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    with torch.inference_mode():
        plain = quantised(IDS)
        with watch(quantised) as watcher:
            assert torch.equal(quantised(IDS), plain)
    assert "blocks.0.mlp.0" in names(watcher.samples[0])


def test_forward_mode_functions_and_vmap(watch):
    """`torch.func` calls the model through `functional_call`, over several inputs at once."""
    model = tower()
    batch = torch.stack([IDS, IDS.roll(1)])
    plain = torch.vmap(model)(batch)
    parameters = dict(model.named_parameters())
    with watch(model) as watcher:
        assert torch.allclose(torch.vmap(model)(batch), plain)
        called = torch.func.functional_call(model, parameters, (IDS,))
        assert torch.allclose(called, plain[0])
    assert watcher.samples


def test_a_model_without_weights_is_not_timed(watch):
    """On the meta device nothing takes time."""
    with torch.device("meta"):
        model = tower()
    with watch(model) as watcher:
        assert model(IDS.to("meta")).shape == (2, 4, 32)
    assert not watcher.samples


def test_a_model_that_moves_keeps_its_layers(watch):
    model = tower()
    with watch(model, "blocks") as watcher:
        model(IDS)
        model.double()
        model(IDS)
    assert [each.dtype for each in watcher.samples] == ["float32", "float64"]
    assert names(watcher.samples[1]) == BLOCKS


# --- functions that are compiled, and call layers -----------------------------------------------


class Method(Block):
    """Its `forward` is compiled, and calls layers."""

    def __init__(self) -> None:
        super().__init__()
        self.compiled = torch.compile(super().forward, backend="eager", fullgraph=True)

    def forward(self, x):
        return self.compiled(x)


def of_class() -> nn.Module:
    class Compiled(Block):
        forward = torch.compile(Block.forward, backend="eager", fullgraph=True)

    return nn.Sequential(Compiled(), Compiled())


def of_model() -> nn.Module:
    model = nn.Sequential(Block(), Block())
    model.forward = torch.compile(model.forward, backend="eager", fullgraph=True)
    return model


def settle(watcher, forwards: int = 3) -> None:
    """Let some forwards pass that are not sampled."""
    watcher.schedule._left = forwards


@pytest.mark.parametrize("layers", ["blocks", "all"])
@pytest.mark.parametrize(
    ("make", "seen"),
    [
        (of_class, ["", "0", "1"]),
        (lambda: nn.Sequential(Method(), Method()), ["", "0", "1"]),
        (of_model, [""]),
    ],
    ids=["class", "method", "model"],
)
def test_nothing_that_a_compiled_function_calls_is_touched(watch, layers, make, seen):
    """Not one compilation more, no graph break; what calls it is timed."""
    model = make()
    with torch.inference_mode(), watch(model, layers) as watcher:
        settle(watcher)
        plain = model(X)
        compiled = counters["stats"]["unique_graphs"]
        for _ in range(5):
            assert torch.equal(model(X), plain)
        assert counters["stats"]["unique_graphs"] == compiled
        assert names(watcher.samples[-1]) == seen
    assert not counters["graph_break"]


def test_a_forward_that_is_compiled_later_is_left_alone(watch):
    model = nn.Sequential(Block(), Block())
    with torch.inference_mode(), watch(model, "all") as watcher:
        model(X)
        assert len(names(watcher.samples[-1])) > 3
        model.forward = torch.compile(model.forward, backend="eager", fullgraph=True)
        settle(watcher)
        for _ in range(4):
            model(X)
        assert names(watcher.samples[-1]) == [""]
    assert counters["stats"]["unique_graphs"] == 1


def test_what_a_hidden_function_compiles_is_met_without_our_wrappers(watch):
    """Nobody can know of it before: its forwards are not told of, and then the model is a whole."""

    @torch.compile(backend="eager", fullgraph=True)
    def hidden(block, x):
        return x + block.mlp(x)

    class Hiding(Block):
        def forward(self, x):
            return hidden(self, x)

    model = nn.Sequential(Hiding(), Hiding())
    with torch.inference_mode(), watch(model, "all") as watcher:
        settle(watcher)
        plain = model(X)
        for _ in range(12):
            assert torch.equal(model(X), plain)
        assert [names(each) for each in watcher.samples] == [[""]] * len(watcher.samples)
        assert len(watcher.samples) > 5
    assert not counters["graph_break"]


def test_blocks_that_are_compiled_while_they_are_sampled_keep_being_layers(watch):
    """A forward in which something is compiled is not told of; the next ones are."""
    model = tower()
    for block in model.blocks:
        block.compile(backend="eager", fullgraph=True)
    with torch.inference_mode(), watch(model, "all") as watcher:
        for _ in range(3):
            model(IDS)
    assert [names(each) for each in watcher.samples] == [BLOCKS] * 2
