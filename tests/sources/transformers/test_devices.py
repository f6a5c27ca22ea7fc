"""Devices that work on after a call returned, played on the CPU: the logic, not the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.generation.utils import GenerationMixin

from llmwatch.sources.transformers import loops, outcome
from llmwatch.sources.transformers.generate import Generations
from llmwatch.sources.transformers.ticks import Ticks
from llmwatch.testing import capture
from tests.sources.transformers.cases import CASES, call, same

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(params=[False, True], ids=["cuda", "mps"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are not there when they are chosen; on the second kind they are waited for late."""
    prepare = Generations._prepare

    def prepared(self: Generations, *args: Any) -> None:
        self.on_devices.install()
        prepare(self, *args)

    def ticks(loop: Any, operation: Any, **_: Any) -> Ticks:
        return Ticks(loop, operation, at_once=False, late=request.param)

    monkeypatch.setattr(Generations, "_prepare", prepared)
    monkeypatch.setattr(loops, "Ticks", ticks)


@pytest.mark.parametrize("name", ["greedy", "ends", "sample", "beams", "assisted", "t5"])
def test_times_are_read_where_the_loop_goes_on(device, name):
    """One a step, after the loop's own wait; outputs are the same, and undo is exact."""
    case = CASES[name]
    before = vars(GenerationMixin)["_has_unfinished_sequences"]
    plain = call(case)
    with capture(sources=["transformers"], timeline=True) as seen:
        assert same(call(case), plain)
        assert vars(GenerationMixin)["_has_unfinished_sequences"] is not before
    assert vars(GenerationMixin)["_has_unfinished_sequences"] is before
    (span,) = seen.spans
    offsets = span.attributes["llmwatch.generation.timeline"]
    assert len(offsets) == span.attributes["llmwatch.generation.steps"]
    assert list(offsets) == sorted(offsets)


def test_a_loop_that_does_not_say_so_has_no_times(device):
    """A loop of the user's own need not ask whether to go on."""
    with capture(sources=["transformers"]) as seen:
        call(CASES["own loop"])
    (span,) = seen.spans
    assert span.attributes["gen_ai.usage.output_tokens"] == 12
    assert "llmwatch.generation.time_to_first_token" not in span.attributes
    assert "llmwatch.generation.inter_token_time" not in seen.metrics()


class Event:
    """Says that the device is done after it was asked some times."""

    def __init__(self, asks: float) -> None:
        self.asks = asks

    def query(self) -> bool:
        self.asks -= 1
        return self.asks <= 0


class Elsewhere:
    """A tensor on a device."""

    def __init__(self, values: Any, kind: str = "cuda") -> None:
        self.values, self.device = values, torch.device(kind)

    def to(self, place: str, *, non_blocking: bool) -> Any:
        assert place == "cpu"
        assert non_blocking
        return self.values


@pytest.mark.parametrize(("asks", "there"), [(1, True), (3, True), (float("inf"), False)])
def test_ids_are_fetched_without_waiting_for_a_busy_device(monkeypatch, asks, there):
    """What is not there within a millisecond is left out."""

    class Stream:
        def record_event(self) -> Event:
            return Event(asks)

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    ids = torch.ones(2, 3)
    found = outcome.on_host([Elsewhere(ids)])
    assert (found is not None) == there
    assert found is None or found[0] is ids


def test_other_devices_are_not_asked_at_all():
    """There the shape alone tells what it can."""
    assert outcome.on_host([Elsewhere(torch.ones(1), "xpu")]) is None
    here = torch.ones(1)
    assert outcome.on_host([here])[0] is here


@pytest.mark.parametrize(
    ("name", "tokens", "reasons"),
    [("one", (12,), None), ("greedy", None, None)],
)
def test_without_ids_the_shape_tells_of_one_sequence(monkeypatch, name, tokens, reasons):
    """Of several it does not say which ended when."""
    monkeypatch.setattr(loops, "on_host", lambda tensors: None)
    with capture(sources=["transformers"]) as seen:
        call(CASES[name])
    (span,) = seen.spans
    assert span.attributes.get("llmwatch.generation.output_tokens") == tokens
    assert span.attributes.get("gen_ai.response.finish_reasons") == reasons
    assert span.attributes["llmwatch.generation.steps"] == 12
