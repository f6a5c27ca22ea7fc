"""Models as their libraries make, load, wrap and spread them: tiny, with random weights."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from inspect import signature
from typing import Any

import pytest
import torch
from torch import nn

from llmwatch.sources.torch_layers import registry
from llmwatch.sources.torch_layers.describe import phase_of
from llmwatch.testing import capture
from tests.sources.torch_layers.models import left_behind

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="needs transformers")

BLOCKS = 3


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=BLOCKS,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


IDS = torch.arange(4, 16).reshape(2, 6)


def answer(model: Any, tokens: int = 5, **more: Any) -> Any:
    return model.generate(
        IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=tokens, do_sample=False, **more
    )


def blocks_of(sample: Any) -> list[int | None]:
    return [call.layer.block for call in sample.calls if call.layer.is_block]


# --- generation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("watched", [True, False], ids=["in a session", "alone"])
def test_generation_has_one_prefill_and_a_step_for_each_further_token(watch, watched):
    """With the same answer; tokens are those of the prompt, then one a sequence."""
    model = llama()
    plain = answer(model)
    with watch(model, "blocks") as watcher:
        if watched:
            with capture(sources=["transformers", "layers"]) as seen:
                found = answer(model)
                points = seen.metrics()["llmwatch.layer.duration"]
            counts = Counter()
            for each in points:
                if each.attributes.get("llmwatch.layer.block") == 1:
                    counts[each.attributes["llmwatch.layer.phase"]] += each.count
            assert counts == {"prefill": 1, "decode": 4}
        else:
            found = answer(model)
    assert torch.equal(found, plain)
    assert [each.phase for each in watcher.samples] == ["prefill"] + ["decode"] * 4
    assert [each.tokens for each in watcher.samples] == [12, 2, 2, 2, 2]
    assert all(blocks_of(each) == [0, 1, 2] for each in watcher.samples)
    assert watcher.passes == {"prefill": 1, "decode": 4}


def test_layers_of_a_generation_are_spans_of_it(watch):
    model = llama()
    with capture(sources=["transformers", "layers"], layer_spans=2) as seen, watch(model, "blocks"):
        answer(model, 3)
    (operation,) = [span for span in seen.spans if "gen_ai.operation.name" in span.attributes]
    layers = [span for span in seen.spans if "llmwatch.layer.self_time" in span.attributes]
    assert len(layers) == 3 * 2
    for span in layers:
        assert span.parent.span_id == operation.context.span_id
        assert operation.start_time <= span.start_time <= span.end_time <= operation.end_time


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_a_cache_that_counts_on_the_device_is_not_asked(kind, monkeypatch):
    """To read its count would be to wait: the phase is not known, then."""
    from transformers import DynamicCache, StaticCache

    model = llama()
    cache: Any = (
        DynamicCache(config=model.config)
        if kind == "dynamic"
        else StaticCache(config=model.config, max_cache_len=16)
    )
    for name in ("past_key_values", "cache"):
        assert phase_of({name: cache}) == "prefill"
    assert phase_of({"cache": {}}) == "forward"
    with torch.inference_mode():
        name = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
        model(IDS, **{name: cache})
    with monkeypatch.context() as patch:
        for method in ("__bool__", "__int__", "item", "tolist", "__gt__"):
            patch.setattr(torch.Tensor, method, _waits)
        assert phase_of({"past_key_values": cache}) == (
            "decode" if kind == "dynamic" else "forward"
        )


def _waits(*_: Any) -> Any:
    raise AssertionError("somebody waited for the device")


def test_generation_with_a_static_cache_keeps_its_phases_in_a_session(watch):
    """There the operation says them."""
    model = llama()
    with capture(sources=["transformers", "layers"]), watch(model, "blocks") as watcher:
        answer(model, 3, cache_implementation="static", disable_compile=True)
    assert [each.phase for each in watcher.samples] == ["prefill", "decode", "decode"]


# --- other kinds of models -----------------------------------------------------------------------


def vit() -> tuple[Any, Any]:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=BLOCKS,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
    )
    return ViTModel(config).eval(), torch.ones(2, 3, 32, 32)


def resnet() -> tuple[Any, Any]:
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[16, 32], depths=[2, 2], layer_type="basic"
    )
    return ResNetModel(config).eval(), torch.ones(2, 3, 32, 32)


@pytest.mark.parametrize("make", [vit, resnet])
@pytest.mark.parametrize("layers", ["blocks", "all"])
def test_models_of_pictures(watch, make, layers):
    """Same outputs and gradients; forward and backward are timed, and no time is lost."""
    torch.manual_seed(0)
    model, pictures = make()
    expected = model(pictures).last_hidden_state
    expected.sum().backward()
    gradients = [each.grad.clone() for each in model.parameters() if each.grad is not None]
    model.zero_grad()
    with watch(model, layers, flops=True, numbers=True) as watcher:
        model(pictures)  # counted, not timed
        output = model(pictures).last_hidden_state
        output.sum().backward()
    assert torch.equal(output, expected)
    found = [each.grad for each in model.parameters() if each.grad is not None]
    assert all(map(torch.equal, found, gradients))
    forward, *others = [each for each in watcher.samples if each.phase == "forward"]
    assert not others
    assert any(call.layer.is_block for call in forward.calls)
    own = sum(call.self_time for call in forward.calls)
    assert own == pytest.approx(forward.total_time, rel=1e-6)
    assert "backward" in watcher.passes
    facts = watcher.report().portrait.layers
    assert sum(each.flops or 0 for each in facts if each.phase == "forward") > 0
    assert left_behind(model) == []


# --- wrapped and spread --------------------------------------------------------------------------


@pytest.mark.skipif(find_spec("peft") is None, reason="needs peft")
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_model_with_adapters_trains_as_it_did(watch):
    """Blocks are found in the model inside; adapters are layers of their own."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(llama(), config)

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model(input_ids=IDS, labels=IDS).loss.backward()
        return [each.grad.clone() for each in model.parameters() if each.grad is not None]

    plain = gradients()
    with watch(model, "all", gradients=True) as watcher:
        assert all(map(torch.equal, gradients(), plain))
        watcher.resolve()
        text = answer(model, 3)
    assert text.shape == (2, 9)
    forward = watcher.samples[0]
    assert {call.layer.block for call in forward.calls} == {None, 0, 1, 2}
    assert any("lora_A" in call.layer.name for call in forward.calls)
    assert watcher.passes["backward"] == 1
    assert left_behind(model) == []


@pytest.mark.skipif(find_spec("accelerate") is None, reason="needs accelerate")
@pytest.mark.parametrize("first", ["hooks", "watcher"])
def test_a_model_that_accelerate_offloads(watch, first):
    """Its hooks lie where our wrappers go: they run as before, and are what is left."""
    from accelerate import cpu_offload
    from accelerate.hooks import remove_hook_from_submodules

    model = llama()
    plain = answer(model)

    def offload() -> None:
        cpu_offload(model, execution_device=torch.device("cpu"))

    if first == "hooks":
        offload()
    with watch(model, "all") as watcher:
        if first == "watcher":
            offload()
        theirs = [vars(each).get("forward") for each in model.modules()]
        assert torch.equal(answer(model), plain)
        assert blocks_of(watcher.samples[-1]) == [0, 1, 2]
        names = {call.layer.name for call in watcher.samples[-1].calls}
        assert "model.layers.1.self_attn.q_proj" in names
    assert left_behind(model) == []
    assert torch.equal(answer(model), plain)
    assert all(
        vars(each).get("forward") is then
        for each, then in zip(model.modules(), theirs, strict=True)
    )
    remove_hook_from_submodules(model)
    assert torch.equal(answer(model), plain)


@pytest.mark.skipif(find_spec("accelerate") is None, reason="needs accelerate")
@pytest.mark.parametrize("layers", ["blocks", "all"])
def test_a_model_that_accelerate_dispatches(watch, layers, tmp_path):
    """Parts in memory and parts on disk: the time to bring those counts for the layer, here some
    blocks; each has its device between calls and during them."""
    from accelerate import dispatch_model

    model = llama()
    plain = answer(model)
    places = dict.fromkeys(("model.embed_tokens", "model.rotary_emb", "model.norm"), "cpu")
    places |= {"lm_head": "cpu", "model.layers.0": "cpu"}
    places |= {"model.layers.1": "disk", "model.layers.2": "disk"}
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())  # not tied
    dispatch_model(model, places, main_device="cpu", offload_dir=tmp_path, force_hooks=True)
    theirs = [vars(each).get("forward") for each in model.modules()]
    assert any(each.is_meta for each in model.model.layers[1].parameters())
    with watch(model, layers) as watcher:
        assert torch.equal(answer(model), plain)
    assert {each.device for each in watcher.samples} == {"cpu"}
    assert all(blocks_of(each) == [0, 1, 2] for each in watcher.samples)
    assert left_behind(model) == []
    assert [vars(each).get("forward") for each in model.modules()] == theirs
    assert all(each.is_meta for each in model.model.layers[1].parameters())


@pytest.mark.skipif(find_spec("accelerate") is None, reason="needs accelerate")
def test_a_hook_that_is_added_during_the_watching(watch):
    from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module

    class Counts(ModelHook):
        calls = 0

        def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return args, kwargs

    model, hook = llama(), Counts()
    block = model.model.layers[1]
    with torch.inference_mode(), watch(model, "blocks") as watcher:
        model(IDS)
        add_hook_to_module(block, hook)
        model(IDS)
        model(IDS)
        remove_hook_from_module(block)
        model(IDS)
    assert hook.calls == 2
    assert [blocks_of(each) for each in watcher.samples] == [[0, 1, 2]] * 4
    assert left_behind(model) == []


# --- loaded --------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["class", "auto"])
def test_a_model_that_is_loaded_is_watched_until_the_session_ends(by, tmp_path):
    """It is called what it was loaded as."""
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    llama().save_pretrained(tmp_path)
    loads = LlamaForCausalLM if by == "class" else AutoModelForCausalLM
    with capture(sources=["transformers", "layers"], layers="blocks") as seen:
        model = loads.from_pretrained(tmp_path).eval()
        (watcher,) = registry.living()
        watcher.schedule.asked = True
        answer(model, 3)
        points = seen.metrics()["llmwatch.layer.duration"]
        assert {each.attributes["gen_ai.request.model"] for each in points} == {str(tmp_path)}
        assert "prefill" in {each.attributes["llmwatch.layer.phase"] for each in points}
    assert registry.living() == []
    assert left_behind(model) == []
