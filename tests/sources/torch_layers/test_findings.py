"""Findings in models that are made to have them, as reports, tables, pictures and events."""

from __future__ import annotations

import json
import re
from math import nan
from time import perf_counter
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from llmwatch.errors import ConfigError, MissingExtraError
from llmwatch.sources.torch_layers import analysis, judging, report, tables
from llmwatch.sources.torch_layers.watcher import watch_layers
from llmwatch.testing import capture
from tests.sources.torch_layers.models import Scripted, tower
from tests.sources.torch_layers.transformer import Cache, ids, language_model


@pytest.fixture(autouse=True)
def _count_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "COUNT_EVERY", 0.0)
    monkeypatch.setattr("llmwatch.sources.torch_layers.roofline.BUDGET", 0.005)
    monkeypatch.setattr("llmwatch.sources.torch_layers.roofline.COPY", 1 << 20)
    monkeypatch.setattr("llmwatch.sources.torch_layers.roofline.SIDE", {"cpu": 64})


def served(layers: object = "all", **more: object) -> report.Report:
    """A report of a model that has generated a little."""
    model = language_model()
    with torch.inference_mode(), watch_layers(model, layers, every=1, **more) as watcher:  # type: ignore[arg-type]
        for length in (5, 9, 40, 80):
            for _ in range(2):
                cache = Cache()
                model(ids(1, length), past_key_values=cache)
                for _ in range(4):
                    model(ids(1, 1), past_key_values=cache)
        return watcher.report()


# --- reports --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", ["all", "blocks"])
def test_shares_of_time_and_of_flops_add_up(layers):
    portrait = served(layers).portrait
    assert {each.phase for each in portrait.layers} == {"prefill", "decode"}
    for phase in ("prefill", "decode"):
        mine = portrait.of(phase)
        assert sum(each.share for each in mine) == pytest.approx(1, abs=1e-6)
        assert sum(each.flops_share or 0 for each in mine) == pytest.approx(1, abs=1e-6)


def test_parameters_are_counted_once():
    portrait = served().portrait
    once = {each.layer: each.parameters for each in portrait.layers}
    assert sum(once.values()) == sum(each.numel() for each in language_model().parameters())


def test_attention_and_mlps_are_told_apart_by_length_of_context():
    points = [each for each in served().portrait.contexts if each.phase == "prefill"]
    assert [each.context for each in points] == [5, 9, 40, 80]
    assert all(each.attention > 0 and each.mlp > 0 for each in points)


def test_a_report_is_plain_json():
    told = json.loads(json.dumps(served(numbers=True).to_dict()))
    assert {"kind", "layer", "value", "threshold", "evidence"} <= set(told["findings"][0])
    assert told["portrait"]["roof"]["device"] == "cpu"


@pytest.mark.timing
def test_a_layer_that_is_slower_than_its_siblings_is_found(watch):
    model = Scripted(0.001, 0.001, 0.001, 0.001, 0.01)
    with watch(model, "blocks") as watcher:
        for _ in range(16):
            model(torch.ones(1))
    found = [each for each in watcher.report().findings if each.kind == "outlier"]
    assert "blocks.4" in [each.layer for each in found]


class Idle(nn.Module):
    """Takes time for no work."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Wait."""
        began = perf_counter()
        while perf_counter() - began < 0.005:
            pass
        return x


def test_time_that_is_not_work_is_found():
    model = nn.Sequential(nn.Linear(8, 8), Idle(), nn.Linear(8, 8))
    with torch.inference_mode(), watch_layers(model, "all", every=1) as watcher:
        for _ in range(6):
            model(torch.ones(2, 8))
    found = [each for each in watcher.report().findings if each.kind == "time_beyond_bytes"]
    assert "1" in [each.layer for each in found]


def test_nothing_sampled_is_said_to_be_so(watch, tmp_path):
    with watch(tower()) as watcher:
        told = watcher.report()
    assert "nothing was sampled" in str(told)
    assert told.findings == ()
    with pytest.raises(ConfigError, match="nothing to draw"):
        told.plot(tmp_path / "empty.svg")


# --- tables and pictures --------------------------------------------------------------------------


def test_the_table_prints_well_with_rich_and_without(monkeypatch):
    told = served("blocks", numbers=True)
    with_rich = str(told)
    monkeypatch.setattr(tables, "find_spec", lambda _: None)
    without = str(told)
    for text in (with_rich, without):
        assert re.search(r"blocks\.1 +\S+ k?", text)
        assert "GFLOP/s" in text
        assert "roof of cpu in float32" in text
        assert max(map(len, text.splitlines())) < 200
    assert isinstance(told.table, str)


def test_siblings_share_a_row_in_models_of_many_layers(monkeypatch):
    monkeypatch.setattr(tables, "MOST_ROWS", 10)
    assert "blocks.*.mlp.gate (3)" in str(served())


@pytest.mark.parametrize(
    ("layers", "more"), [("all", {"numbers": True}), ("blocks", {}), ("blocks", {"flops": False})]
)
def test_pictures_are_drawn(tmp_path, layers, more):
    pytest.importorskip("matplotlib")
    served(layers, **more).plot(tmp_path / "layers.svg")
    text = "".join(ElementTree.parse(tmp_path / "layers.svg").getroot().itertext())
    assert "block 2" in text
    assert ("Roofline" in text) == (more != {"flops": False})
    assert ("Magnitude" in text) == ("numbers" in more)


def test_without_matplotlib_it_is_said_which_extra_brings_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises((MissingExtraError, ImportError), match=r"plots|matplotlib"):
        served("blocks", flops=False).plot(tmp_path / "layers.svg")


# --- signals --------------------------------------------------------------------------------------


def test_a_finding_is_told_once_when_it_appears_and_once_when_it_goes(monkeypatch):
    monkeypatch.setattr(judging, "EVERY", 0.0)
    model = language_model()
    names = []
    with capture() as seen:
        watcher = watch_layers(model, "blocks", every=1, name="small", numbers=True, flops=False)
        weight = model.blocks[1].mlp.down.weight
        usual = weight.data.clone()
        with torch.inference_mode(), watcher:
            for broken in (True, True, True, False, False, False, False):
                weight.data[0, 0] = nan if broken else usual[0, 0]
                for _ in range(70):  # as many as are kept
                    model(ids(1, 4))
                metrics = seen.metrics()
                names.append([_kind(each) for each in seen.events])
                if len(names) == 2:
                    told = next(each for each in seen.events if "nan_first" in _kind(each))
                    raised = {
                        point.attributes["llmwatch.layer.finding.kind"]: point.value
                        for point in metrics["llmwatch.layer.findings"]
                    }
    assert [each.count("nan_first raised") for each in names] == [0, 1, 1, 1, 1, 1, 1]
    assert [each.count("nan_first cleared") for each in names] == [0, 0, 0, 0, 0, 1, 1]
    assert told.attributes["gen_ai.request.model"] == "small"
    assert told.attributes["llmwatch.layer.name"] == "blocks.1"
    assert told.attributes["llmwatch.layer.block"] == 1
    assert json.loads(told.attributes["llmwatch.layer.finding.evidence"])["layers_broken"] == 2
    assert told.severity_text == "WARN"
    assert raised["nan_first"] == 1


def _kind(event: object) -> str:
    kind = event.attributes.get("llmwatch.layer.finding.kind", "")  # type: ignore[attr-defined]
    return f"{kind} {event.event_name.rpartition('.')[2]}"  # type: ignore[attr-defined]


def test_the_health_of_blocks_is_a_gauge(monkeypatch):
    monkeypatch.setattr(judging, "EVERY", 0.0)
    model = language_model()
    with capture() as seen:
        watcher = watch_layers(model, "blocks", every=1, numbers=True, flops=False)
        with torch.inference_mode(), watcher:
            model(ids(1, 9))
            metrics = seen.metrics()
    for name in ("abs_max", "range_used", "cosine", "broken"):
        points = metrics[f"llmwatch.layer.activation.{name}"]
        assert [each.attributes["llmwatch.layer.block"] for each in points] == [0, 1, 2]
