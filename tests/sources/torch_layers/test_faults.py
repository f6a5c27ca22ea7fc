"""A fault in any function of ours never reaches the user: same outputs, same gradients.

Each function and method that runs inside a user's forward or backward pass is replaced, one at a
time, by one that raises; the same program must then give what it gives without llmwatch.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import llmwatch.signals.layers
from llmwatch import _guard
from llmwatch.sources.torch_layers import layout
from llmwatch.sources.torch_layers.clock import DeviceClock
from llmwatch.testing import capture
from tests.sources.torch_layers.device import Device
from tests.sources.torch_layers.models import IDS, left_behind, tower

MODULES = [
    "llmwatch.measure.layers",
    "llmwatch.signals.layers",
    *(
        f"llmwatch.sources.torch_layers.{name}"
        for name in (
            "backward", "clock", "compiled", "describe", "entry", "forward", "layout", "observe", "ranks",
            "registry", "schedule", "select", "swap", "tape", "tree", "watcher", "wrapper",
        )
    ),
]  # fmt: skip

CARRIERS = {
    # These *are* the user's call on its way through us; what they do besides is broken here.
    "_enter", "Forward.run", "Forward._run_looked_at", "_run_looked_at", "_of_class", "_unwatched",
    "LayerWatcher._give_back", "Wrappers.take", "_each", "_put_back", "Layout.take", "Layout.taken", "Forward.take",  # taking out: nothing is above it that could
    "_came", "Passing._ended", "Schedule.counts",  # each is one guard, or three operations on numbers
    # Not inside a call of the model: they raise at the user's own call of ours, as they should.
    "watch_layers", "LayerWatcher.__init__", "LayerWatcher.close", "LayerWatcher.analyse",
    "Entry.put", "Entry.take", "Layout.__init__", "plan",
    "_planned", "_walk", "_blocks", "_wanted", "_beside", "_repeats", "_layer", "_before",
    "_is_called", "_matches", "_nothing", "is_opaque", "is_compiled", "_clocks",
    "calls_compiled",  # asked when the model is watched
    "clock_of", "name_of", "device_of", "dtype_of", "first_tensor", "Labels.__init__",
    "_dimensions", "Schedule.__init__", "add", "remove", "living", "Totals.__init__",
    "LayerWatcher.report", "LayerWatcher.baseline", "LayerWatcher.observe",
    "LayerWatcher.sample_now", "LayerWatcher.totals", "LayerWatcher.forked", "_forked",
}  # fmt: skip


def functions() -> Iterator[tuple[Any, str, str]]:
    for name in MODULES:
        module = importlib.import_module(name)
        for key, value in list(vars(module).items()):
            if getattr(value, "__module__", None) != name:
                continue
            if inspect.isfunction(value):
                yield module, key, key
            elif inspect.isclass(value):
                for method, function in list(vars(value).items()):
                    plain = method[:2] != "__" or method == "__init__"
                    if inspect.isfunction(function) and plain:
                        yield value, method, f"{key}.{method}"


CASES = [pytest.param(o, n, id=label) for o, n, label in functions() if label not in CARRIERS]


def program(model: torch.nn.Module) -> list[torch.Tensor]:
    """Serve, and train."""
    with torch.inference_mode():
        seen = [model(IDS)]
    model.zero_grad()
    model(IDS).sum().backward()
    return [*seen, *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.mark.parametrize(("owner", "name"), CASES)
@pytest.mark.parametrize("device", ["cpu", "fake"])
def test_a_fault_in(owner, name, device, watch, monkeypatch):
    monkeypatch.setattr(_guard, "strict", False)
    if device == "fake":
        clock = DeviceClock("fake:0", Device())
        monkeypatch.setattr(layout, "clock_of", lambda _: clock)
    model = tower()
    plain = program(model)
    with capture(sources=["layers"], layer_spans=3) as seen, monkeypatch.context() as patch:
        watcher = watch(model, memory=True)

        def fail(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError(f"a fault in {name}")

        patch.setattr(owner, name, fail)
        found = program(model)
        seen.metrics()
    assert all(torch.equal(now, then) for now, then in zip(found, plain, strict=True))
    watcher.close()
    assert left_behind(model) == []


def test_the_functions_are_many():
    """The list above is taken from the code: it must not become empty unnoticed."""
    assert len(CASES) > 40
    assert llmwatch.signals.layers.__name__ in MODULES
