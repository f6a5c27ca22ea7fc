"""A watched model is what it was: for its user, for PyTorch, for whoever else touches it."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import inspect
import io
import pickle
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import wrapt
from torch import nn
from torch.utils.checkpoint import checkpoint

from llmwatch.sources.torch_layers import copies, registry
from tests.sources.torch_layers.models import (
    IDS,
    WIDTH,
    Block,
    Calling,
    Failing,
    Recursive,
    Tower,
    Twice,
    left_behind,
    tower,
)

X = torch.ones(2, WIDTH)


def names(sample) -> list[str]:
    return [call.layer.name for call in sample.calls]


@pytest.mark.parametrize("layers", ["blocks", "all"])
def test_outputs_gradients_and_state_are_the_same(watch, layers):
    plain, watched = tower(), tower()
    plain(IDS).sum().backward()
    with watch(watched, layers) as watcher:
        for _ in range(2):
            watched.zero_grad()
            out = watched(IDS)
            out.sum().backward()
    assert len(watcher.samples) == 4  # forward and backward, twice
    assert torch.equal(out, plain(IDS))
    for name, parameter in plain.named_parameters():
        assert torch.equal(watched.get_parameter(name).grad, parameter.grad)
    assert list(watched.state_dict()) == list(plain.state_dict())


def test_undo_is_exact(watch):
    """Every dict of every module is what it was; so are class, hooks and signature."""
    model = tower()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    face = inspect.signature(model.forward), inspect.signature(model), type(model), model.forward
    for _ in range(3):
        with watch(model):
            assert (
                inspect.signature(model.forward),
                inspect.signature(model),
                type(model),
                model.forward,
            ) == face
            model(IDS)
        model(IDS)
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == before


def test_between_two_forwards_only_the_entry_is_there(watch):
    model = tower()
    with watch(model):
        model(IDS)
        assert left_behind(model) == ["._compiled_call_impl"]
    assert left_behind(model) == []


def test_watching_again_ends_the_earlier_watching(watch):
    model = tower()
    first, second = watch(model), watch(model)
    model(IDS)
    assert (len(first.samples), len(second.samples)) == (0, 1)
    first.close()
    model(IDS)
    assert len(second.samples) == 2
    second.close()
    assert left_behind(model) == []


# --- copies --------------------------------------------------------------------------------------


def nothing(model: nn.Module) -> None:
    """What `Calling` calls."""


def copied(model: nn.Module, how: str) -> nn.Module:
    if how == "deepcopy":
        return copy.deepcopy(model)
    if how == "copy":
        return copy.copy(model)
    if how == "pickle":
        return pickle.loads(pickle.dumps(model))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS = ["deepcopy", "copy", "pickle", "torch.save"]


@pytest.mark.parametrize("how", WAYS)
def test_copies_are_plain_models(watch, how):
    """They do the same, and are not watched."""
    model = tower()
    with watch(model) as watcher:
        twin = copied(model, how)
        assert left_behind(twin) == []
        assert torch.equal(twin(IDS), model(IDS))
        assert len(watcher.samples) == 1


@pytest.mark.parametrize("how", WAYS)
def test_copies_made_while_a_forward_is_sampled_are_plain_models(watch, how):
    """They call their own layers, not the original's."""
    made = []

    def between(model: nn.Module) -> None:
        model.between = nothing
        made.append(copied(model, how))

    model = Calling(between)
    with watch(model) as watcher:
        out = model(X)
        (twin,) = made
        assert torch.equal(twin(X), out)
        assert len(watcher.samples) == 1
        assert left_behind(twin) == []
    if how != "copy":  # a shallow copy has the original's blocks
        with torch.no_grad():
            for parameter in twin.blocks.parameters():
                parameter.zero_()
        assert torch.equal(twin(X), X)
        assert torch.equal(model(X), out)


@pytest.mark.parametrize("how", WAYS)
def test_copies_of_a_layer_made_while_it_is_sampled_are_plain(watch, how):
    """Nothing of ours lies in them, and nothing in the place of ours."""
    made = []

    def between(model: nn.Module) -> None:
        model.between = nothing
        made.append(copied(model.blocks[1], how))

    model = Calling(between)
    with watch(model):
        model(X)
    (twin,) = made
    assert vars(twin).keys() == vars(model.blocks[1]).keys()
    assert torch.equal(twin(X), model.blocks[1](X))


@pytest.mark.parametrize("inference", [False, True])
def test_a_model_goes_when_its_last_user_does(watch, inference):
    """No cycle, whoever keeps the watcher: memory of a device is free at once."""
    gc.collect()
    gc.disable()
    try:
        model = tower()
        watcher = watch(model)
        with torch.inference_mode(inference):
            model(IDS)
        gone = weakref.ref(model), weakref.ref(model.blocks[0])
        del model
        assert [each() for each in gone] == [None, None]
        assert watcher.model is None
        assert len(watcher.samples) == 1
    finally:
        gc.enable()


@pytest.mark.parametrize(("every", "held"), [(1, True), (None, False)])
def test_a_layer_that_is_replaced_goes(watch, every, held):
    """At once where forwards are sampled now and then; at the next one where each of them is."""
    gc.collect()
    gc.disable()
    try:
        model = tower()
        with watch(model, every=every) as watcher, torch.inference_mode():
            watcher.sample_now()
            model(IDS)
            gone = weakref.ref(model.blocks[1])
            model.blocks[1] = Block()
            assert (gone() is not None) == held
            watcher.sample_now()
            model(IDS)
            assert gone() is None
            assert len(watcher.samples) == 2
    finally:
        gc.enable()


def test_a_layer_that_is_sampled_looks_the_same(watch):
    """To whoever asks for its signature, its name, or what it is a method of."""
    seen = []

    def look(model: nn.Module) -> None:
        forward = model.blocks[1].forward
        seen.append((inspect.signature(forward), forward.__name__, forward.__self__))

    model = Calling(look)
    model(X)
    with watch(model) as watcher, torch.inference_mode():
        model(X)
        assert names(watcher.samples[0]).count("blocks.1") == 1
    assert seen[0] == seen[1]


def test_replicas_for_data_parallelism_are_not_watched(watch):
    """Whenever they are made; afterwards PyTorch is what it was."""
    made = []
    model = Calling(
        lambda model: made.extend(
            each._replicate_for_data_parallel() for each in (model, *model.blocks)
        )
    )
    original = nn.Module._replicate_for_data_parallel
    with watch(model) as watcher:
        made.append(model._replicate_for_data_parallel())
        model(X)
        assert len(watcher.samples) == 1
        for replica in made:
            assert "_compiled_call_impl" not in vars(replica)
            assert "forward" not in vars(replica)
    copies.undo()
    assert nn.Module._replicate_for_data_parallel is original


# --- endings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_exceptions_pass_and_leave_nothing_behind(watch, kind):
    """A forward that failed has no times; the next one has."""
    error = kind("no")
    model = Failing(error)
    with watch(model) as watcher:
        with pytest.raises(kind) as raised:
            model(X)
        assert raised.value is error
        assert left_behind(model) == ["._compiled_call_impl"]
        assert watcher.samples == ()
        model.error = None
        model(X)
        assert len(watcher.samples) == 1


def interrupted(model: nn.Module, at: int) -> bool:
    """Call it, and interrupt it on the so-many-th line of ours; False: it ran before that."""
    lines, ran = 0, []

    def trace(frame, event, _):
        nonlocal lines
        if "llmwatch" not in frame.f_globals.get("__name__", "") or ran:
            return None
        if event == "line" and not ran:
            lines += 1
            if lines == at:
                raise KeyboardInterrupt
        return trace

    model.between = ran.append
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        model(X)
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return not ran


def test_an_interrupt_before_the_layers_run_leaves_nothing_behind(watch):
    """Wherever in our lines it comes."""
    model, at, more = Calling(nothing), 0, True
    while more:
        at += 1
        with watch(model, "blocks") as watcher:
            more = interrupted(model, at)
            held = registry.turn.locked()
            assert (at, held, left_behind(model)) == (at, False, ["._compiled_call_impl"])
            assert more or len(watcher.samples) == 1
    assert at > 100


def test_closing_in_the_middle_of_a_forward_leaves_nothing_behind(watch):
    model = Calling(lambda _: watcher.close())
    watcher = watch(model)
    model(X)
    assert left_behind(model) == []
    model.between = lambda _: None
    seen = len(watcher.samples)
    model(X)
    assert len(watcher.samples) == seen


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("before", [0, 2])
def test_whoever_replaces_forward_meanwhile_keeps_his(watch, before, inference):
    """What is put over our wrapper stays, and works on; the wrapper beneath it is one no more."""

    def replace(model: nn.Module) -> None:
        beneath = model.blocks[1].forward
        model.blocks[1].forward = lambda x: beneath(x) + 1

    model = Calling(nothing)
    with watch(model) as watcher, torch.inference_mode(inference):
        for _ in range(before):
            model(X)
        model.between = replace
        first = model(X)
        model.between = nothing
        mine = model.blocks[1].forward
        assert torch.equal(model(X), first)
        usual, *others = (names(sample) for sample in watcher.samples)
        assert others == [usual] * (before + 1)
    assert model.blocks[1].forward is mine
    assert torch.equal(model(X), first)


def test_a_forward_that_comes_as_another_attribute_goes_stays(watch):
    """Between two sampled forwards, so that what is held of the module has the same size."""
    model = tower()
    model.blocks[1].note = 1
    with watch(model) as watcher, torch.inference_mode():
        plain = model(IDS)
        original = model.blocks[1].forward
        del model.blocks[1].note
        model.blocks[1].forward = mine = lambda x: original(x) + 1
        other = model(IDS)
        assert not torch.equal(other, plain)
        assert torch.equal(model(IDS), other)
        assert vars(model.blocks[1])["forward"] is mine
        assert names(watcher.samples[2]) == names(watcher.samples[0])


def test_a_class_that_is_patched_later_runs_what_it_was_patched_with(watch, monkeypatch):
    """As libraries of faster layers do to models that are loaded."""
    model = tower()
    with watch(model) as watcher, torch.inference_mode():
        plain = model(IDS)
        original = Block.forward
        monkeypatch.setattr(Block, "forward", lambda self, x: original(self, x) + 1)
        other = model(IDS)
        assert not torch.equal(other, plain)
        monkeypatch.undo()
        assert torch.equal(model(IDS), plain)
        usual, *others = (names(sample) for sample in watcher.samples)
    assert others == [usual] * 2


def test_a_proxy_over_our_wrapper_stays(watch):
    """It equals what it is put over, and is another thing all the same."""
    proxies = []

    def replace(model: nn.Module) -> None:
        block = model.blocks[1]
        block.forward = wrapt.FunctionWrapper(
            block.forward, lambda wrapped, _, args, kwargs: wrapped(*args, **kwargs) + 1
        )
        proxies.append(block.forward)
        model.between = nothing

    model = Calling(replace)
    with watch(model):
        model(X)
        assert vars(model.blocks[1])["forward"] is proxies[0]
        assert len(proxies) == 1


def test_modules_that_equal_everything_are_told_apart(watch):
    class Equal(Block):
        __hash__ = nn.Module.__hash__

        def __eq__(self, other: object) -> bool:
            return True

    model = nn.Sequential(Equal(), Equal())
    with watch(model) as watcher:
        model(X)
        model[0] = Equal()
        model(X)
    assert names(watcher.samples[1]) == names(watcher.samples[0])


def test_hooks_come_and_go_meanwhile(watch):
    """Hooks of the user run, in their order, watched or not."""
    model, ran = tower(), []
    with watch(model):
        handles = [
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
            for name, module in model.named_modules()
        ]
        model(IDS)
        watched, ran[:] = list(ran), []
        handles.pop().remove()
        model(IDS)
    assert ran == [name for name in watched if name != "head"]


def test_another_wrapper_in_the_modules_dict_is_put_back(watch):
    """Accelerate and others put theirs there."""
    model = tower()
    block = model.blocks[0]
    original = block.forward
    theirs = vars(block)["forward"] = lambda x: original(x) * 2
    plain = model(IDS)
    with watch(model) as watcher:
        assert torch.equal(model(IDS), plain)
        assert vars(block)["forward"] is theirs
        assert "blocks.0" in names(watcher.samples[0])
    assert vars(block)["forward"] is theirs


# --- ways to run ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_modes_are_the_same(watch, mode):
    model = tower()
    with mode():
        plain = model(IDS)
        with watch(model) as watcher:
            out = model(IDS)
    assert (out.requires_grad, out.is_inference()) == (plain.requires_grad, plain.is_inference())
    assert torch.equal(out, plain)
    assert len(watcher.samples) == 1


def test_a_layer_called_twice_has_two_calls(watch):
    model = Twice()
    with watch(model, "blocks") as watcher:
        model(X)
    assert names(watcher.samples[0]) == ["", "layers.0", "layers.1", "layers.0"]


def test_recursion_is_one_forward(watch):
    model = Recursive()
    with watch(model) as watcher:
        model(X)
    (sample,) = watcher.samples
    assert names(sample) == ["", *["step"] * 4]


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing(watch, reentrant):
    """What is recomputed in the backward pass is no second forward, and gradients are the same."""

    class Checkpointed(Tower):
        def forward(self, ids):
            x = self.embed(ids)
            for block in self.blocks:
                x = checkpoint(block, x, use_reentrant=reentrant)
            return self.head(x)

    torch.manual_seed(0)
    model = Checkpointed().train()
    plain = tower().train()
    plain(IDS).sum().backward()
    with watch(model, "blocks") as watcher:
        model(IDS).sum().backward()
    for name, parameter in plain.named_parameters():
        assert torch.equal(model.get_parameter(name).grad, parameter.grad)
    forward, backward = watcher.samples
    assert names(forward) == ["", "embed", "blocks.0", "blocks.1", "blocks.2", "head"]
    assert backward.phase == "backward"
    if not reentrant:
        assert names(backward)[:4] == ["", "head", "blocks.2", "blocks.1"]


def test_backward_twice_is_timed_once(watch):
    model = tower()
    with watch(model) as watcher:
        loss = model(IDS).sum()
        loss.backward(retain_graph=True)
        loss.backward()
    assert [each.phase for each in watcher.samples] == ["forward", "backward"]


def test_threads_get_their_results_and_one_is_sampled(watch):
    """Eight threads at one model: each gets what it would alone, and times are of one thread."""
    model = tower()
    with torch.inference_mode():
        inputs = [IDS.roll(shift) for shift in range(8)]
        plain = [model(each) for each in inputs]
        with watch(model) as watcher, ThreadPoolExecutor(8) as pool:

            def work(index: int) -> bool:
                with torch.inference_mode():
                    return torch.equal(model(inputs[index % 8]), plain[index % 8])

            assert all(pool.map(work, range(400)))
        expected = ["", *(name for name, m in model.named_modules() if name and name != "blocks")]
        for sample in watcher.samples:
            assert names(sample) == expected
    assert left_behind(model) == []


def test_threads_take_turns(watch):
    """What was put together for one thread's forward is not taken for another's."""
    model = tower()
    with watch(model) as watcher, ThreadPoolExecutor(1) as pool, torch.inference_mode():
        for _ in range(2):
            model(IDS)
            assert torch.equal(pool.submit(model, IDS).result(), model(IDS))
        usual, *others = (names(sample) for sample in watcher.samples)
    assert len(usual) > 2
    assert others == [usual] * 5


@pytest.mark.parametrize("waits", [True, False])
def test_threads_that_a_forward_hands_its_context_to_are_not_measured(watch, waits):
    """Their layers lie beside each other, or go on when the forward is over."""
    pool, go = ThreadPoolExecutor(1), threading.Event()

    class Late(Block):
        def forward(self, x):
            go.wait(10)
            return super().forward(x)

    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.here, self.there = Block(), Late()

        def forward(self, x):
            self.future = pool.submit(contextvars.copy_context().run, self.there, x)
            if waits:
                go.set()
                return self.here(x) + self.future.result()
            return self.here(x)

    model = Parallel()
    with pool, watch(model, ["here", "there"]) as watcher:
        model(X)
        go.set()
        assert torch.equal(model.future.result(), model.there(X))
        (sample,) = watcher.samples
    assert names(sample) == ["", "here"]


@pytest.mark.parametrize("numbers", [False, True])
def test_a_wrapper_that_somebody_kept_adds_nothing_later(watch, numbers):
    """What it wraps goes on to work."""

    class Keeping(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block()

        def forward(self, x):
            self.kept = [self.block.forward]
            return self.block(x)

    model = Keeping()
    with watch(model, "all", numbers=numbers) as watcher:
        model(X)
        assert torch.equal(model.kept[0](X), model.block(X))
        (sample,) = watcher.samples
    assert names(sample).count("block") == 1
    total = sum(call.self_time for call in sample.calls)
    assert total == pytest.approx(sample.calls[0].total_time)


def test_a_forward_that_works_later_is_not_timed(watch):
    """What gives back a generator or a coroutine has done nothing yet."""

    class Steps(Tower):
        def forward(self, ids):
            yield self.embed(ids)

    class Awaited(Tower):
        async def forward(self, ids):
            await asyncio.sleep(0)
            return self.embed(ids)

    async def both(model: nn.Module) -> list[torch.Tensor]:
        return await asyncio.gather(model(IDS), model(IDS))

    steps, awaited = Steps(), Awaited()
    with watch(steps) as first, watch(awaited) as second:
        assert torch.equal(next(steps(IDS)), steps.embed(IDS))
        for each in asyncio.run(both(awaited)):
            assert torch.equal(each, awaited.embed(IDS))
    assert (first.samples, second.samples) == ((), ())


def test_watching_and_closing_under_load_loses_no_result(watch):
    model, stop, wrong = tower(), threading.Event(), []
    with torch.inference_mode():
        plain = model(IDS)

    def work() -> None:
        with torch.inference_mode():
            while not stop.is_set():
                if not torch.equal(model(IDS), plain):
                    wrong.append(1)

    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work) for _ in range(3)]
        for _ in range(40):
            with watch(model):
                threading.Event().wait(0.002)
        stop.set()
        for each in workers:
            each.result()
    assert wrong == []
    assert left_behind(model) == []


def test_a_fork_in_the_middle_of_a_forward_leaves_the_child_a_plain_model(watch):
    """The child of another thread's fork finds no wrapper and no lock that is held."""
    model = Calling(lambda _: registry._forked())
    with watch(model):
        model(X)
        model.between = lambda _: None
    assert left_behind(model) == []


def test_two_watched_models_inside_each_other(watch):
    """One is sampled at a time: the outer one, and the inner when it is called alone."""
    model = tower()
    with watch(model, "blocks") as outer, watch(model.blocks[0]) as inner:
        model(IDS)
        assert (len(outer.samples), len(inner.samples)) == (1, 0)
        assert "blocks.0" in names(outer.samples[0])
        model.blocks[0](X)
        assert len(inner.samples) == 1
    assert left_behind(model) == []


class ByMode:
    """A `forward` that is chosen by what the module is when it is looked up."""

    def __get__(self, module, kind=None):
        if module is None:
            return self
        return torch.neg if module.training else torch.abs


class Choosing(nn.Module):
    forward = ByMode()


def test_a_forward_that_is_chosen_anew_each_time_is(watch):
    model = nn.Sequential(Choosing(), Choosing())
    with watch(model, "all"), torch.inference_mode():
        assert torch.equal(model(X), X)
        model.eval()
        assert torch.equal(model(-X), X)
        model[1].train()
        assert torch.equal(model(X), -X)


def test_a_model_that_had_a_forward_of_its_own_goes_with_its_last_reference(watch):
    """As `unittest.mock` leaves it for a while; what is kept for the next forward holds it not."""
    model = tower()
    watcher, gone = watch(model, "all"), weakref.ref(model)
    gc.collect()
    gc.disable()
    try:
        with torch.inference_mode():
            model.blocks[0].forward = lambda x, model=model: x
            model(IDS)
            del model.blocks[0].forward
        del model
        assert gone() is None
    finally:
        gc.enable()
    watcher.close()


def test_a_layer_can_be_exported_in_the_middle_of_a_forward(watch):
    found = []

    def export(model: nn.Module) -> None:
        found.append(torch.export.export(model.blocks[1], (X,)).module()(X))

    model = Calling(export)
    with watch(model, "blocks"), torch.inference_mode():
        model(X)
    assert torch.allclose(found[0], model.blocks[1](X))


def test_a_model_whose_class_says_by_itself_what_is_copied_is_copied(watch):
    model = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()))
    expected = model(X)
    with watch(model, "all"):
        copied = copy.deepcopy(model)
        assert torch.equal(copied(X), expected)
    assert left_behind(copied) == []


def test_a_layer_of_pytorchs_own_that_is_given_a_child_is_watched_with_it(watch):
    """As adapters do it."""
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU())
    with watch(model, "all") as watcher, torch.inference_mode():
        model(X)
        linear = model[0]
        linear.adapter = nn.Linear(WIDTH, WIDTH)
        linear.forward = lambda x: nn.Linear.forward(linear, x) + linear.adapter(x)
        model(X)
        before, after = watcher.samples
        assert [*names(before)[:2], "0.adapter", *names(before)[2:]] == names(after)
