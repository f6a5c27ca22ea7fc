"""What is seen of layers in metrics and spans, and models that are loaded while that is wanted."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from torch import nn

import llmwatch
from llmwatch.measure.layers import Layer
from llmwatch.signals.layers import MOST_NAMES, Labels
from llmwatch.sources.torch_layers import registry
from llmwatch.testing import capture
from tests.sources.torch_layers.models import IDS, left_behind, tower


def points(seen, name: str) -> dict[tuple, object]:
    return {
        (each.attributes["llmwatch.layer.name"], each.attributes["llmwatch.layer.phase"]): each
        for each in seen.metrics()[name]
    }


def test_durations_and_shares_are_metrics(watch):
    """One point for each layer and phase; counts and sums are those of the samples."""
    model = tower()
    with capture() as seen, watch(model, "blocks", name="small") as watcher:
        for _ in range(5):
            model(IDS).sum().backward()
        samples = watcher.samples
        durations = points(seen, "llmwatch.layer.duration")
        shares = points(seen, "llmwatch.layer.share")
        passes = seen.metrics()["llmwatch.layer.passes"]
    block = durations["blocks.1", "forward"]
    assert dict(block.attributes) == {
        "gen_ai.request.model": "small",
        "llmwatch.layer.name": "blocks.1",
        "llmwatch.layer.type": "Block",
        "llmwatch.layer.block": 1,
        "llmwatch.layer.phase": "forward",
        "llmwatch.layer.device": "cpu",
    }
    expected = [
        call.total_time
        for sample in samples
        if sample.phase == "forward"
        for call in sample.calls
        if call.layer.name == "blocks.1"
    ]
    assert block.count == 5
    assert block.sum == pytest.approx(sum(expected))
    assert ("blocks.1", "backward") in durations
    assert ("(model)", "forward") in durations
    forward = [each.value for (_, phase), each in shares.items() if phase == "forward"]
    assert sum(forward) == pytest.approx(1)
    assert {each.attributes["llmwatch.layer.phase"]: each.value for each in passes} == {
        "forward": 5,
        "backward": 5,
    }


def test_a_model_may_be_watched_before_and_after_instrumenting(watch):
    model = tower()
    with watch(model, "blocks"):
        model(IDS)
        with capture() as seen:
            model(IDS)
            assert points(seen, "llmwatch.layer.duration")["head", "forward"].count == 1
        model(IDS)


def test_layers_of_an_operation_are_its_child_spans(watch):
    """By option; the longest ones, inside the operation's span, and the phase it says."""
    model = tower()

    @llmwatch.watch(model="small")
    def answer() -> None:
        from llmwatch.signals.context import current_operation

        current_operation().phase = "decode"
        with torch.inference_mode():
            model(IDS)

    with capture(layer_spans=2) as seen, watch(model, "blocks") as watcher:
        answer()
        (sample,) = watcher.samples
    *layers, operation = sorted(seen.spans, key=lambda span: span.name == "chat small")
    assert len(layers) == 2
    longest = sorted(sample.calls[1:], key=lambda call: call.total_time)[-2:]
    assert {span.name for span in layers} == {call.layer.name for call in longest}
    for span in layers:
        assert span.parent.span_id == operation.context.span_id
        assert span.attributes["llmwatch.layer.phase"] == "decode"
        assert operation.start_time <= span.start_time <= span.end_time <= operation.end_time
    assert sample.phase == "decode"


def test_without_the_option_there_are_no_spans(watch):
    model = tower()
    with capture() as seen, watch(model):
        llmwatch.watch(model="small")(model)(IDS)
    assert len(seen.spans) == 1


def test_a_model_with_many_layers_has_few_series():
    """Its blocks share one: numbers in names become stars."""
    layers = (Layer("", "M", 0), *(Layer(f"h.{n}.fc2", "Linear", 3, n) for n in range(MOST_NAMES)))
    labels = Labels("m", layers)
    found = {labels[each] for each in layers}
    assert [dict(each)["llmwatch.layer.name"] for each in sorted(found)] == ["(model)", "h.*.fc2"]
    assert all("llmwatch.layer.block" not in dict(each) for each in found)


# --- models that are loaded ----------------------------------------------------------------------


@pytest.fixture
def library(monkeypatch):
    """Stands where transformers does: a class that loads models, some as parts of others."""

    class PreTrainedModel(nn.Module):
        def __init__(self, *parts: nn.Module) -> None:
            super().__init__()
            self.tower, self.parts = tower(), nn.ModuleList(parts)

        def forward(self, ids):
            return self.tower(ids)

        @classmethod
        def from_pretrained(cls, name, *parts, output_loading_info=False):
            loaded = cls(*(PreTrainedModel.from_pretrained(part) for part in parts))
            return (loaded, {"missing": []}) if output_loading_info else loaded

    module = ModuleType("transformers.modeling_utils")
    module.PreTrainedModel = PreTrainedModel
    module.__spec__ = None
    for name in [each for each in sys.modules if each.partition(".")[0] == "transformers"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers.modeling_utils", module)
    return PreTrainedModel


def test_models_that_are_loaded_are_watched_and_let_go(library):
    """Each as a whole, and only with the setting; afterwards library and models are as before."""
    original = vars(library)["from_pretrained"]
    with capture(sources=["layers"], layers=True):
        model = library.from_pretrained("a", "b")
        other, info = library.from_pretrained("a", output_loading_info=True)
        assert info == {"missing": []}
        assert {each.model for each in registry.living()} == {model, other}
        assert left_behind(model) == ["._compiled_call_impl"]
    assert vars(library)["from_pretrained"] is original
    assert left_behind(model) == left_behind(other) == []
    with capture(sources=["layers"]):
        library.from_pretrained("a")
        assert registry.living() == []
    assert vars(library)["from_pretrained"] is original


def test_a_selection_that_means_nothing_in_a_loaded_model_is_our_problem(library, monkeypatch):
    """Loading succeeds; the log says that nothing is watched."""
    from llmwatch import _guard

    monkeypatch.setattr(_guard, "strict", False)
    with capture(sources=["layers"], layers="no such layer"):
        assert library.from_pretrained("a")(IDS).shape == (2, 4, 32)
        assert registry.living() == []


@pytest.mark.parametrize(
    ("given", "meant"),
    [(True, "blocks"), ("true", "blocks"), (False, None), ("all", "all"), ("2", 2), (3, 3)],
)
def test_the_setting_is_read(given, meant, monkeypatch):
    from llmwatch.config import Config

    assert Config.load(layers=given).layers == meant
    monkeypatch.setenv("LLMWATCH_LAYERS", str(given))
    assert Config.load().layers == meant
