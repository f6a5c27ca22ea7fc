"""What sampled forwards say of a model, put together: the `Portrait` that findings are made of."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import ref

import torch

from llmwatch.errors import ConfigError
from llmwatch.measure.history import KEPT, History
from llmwatch.measure.portrait import Drift, Portrait
from llmwatch.measure.work import Works
from llmwatch.sources.torch_layers.flops import Counting
from llmwatch.sources.torch_layers.gradients import Gradients
from llmwatch.sources.torch_layers.health import Numbers
from llmwatch.sources.torch_layers.judging import Judge
from llmwatch.sources.torch_layers.observe import Observer
from llmwatch.sources.torch_layers.options import Options

if TYPE_CHECKING:
    from torch import nn

    from llmwatch.drift.monitor import DriftMonitor
    from llmwatch.measure.layers import Layer, LayerSample
    from llmwatch.measure.roofline import Roof
    from llmwatch.sources.torch_layers.observe import Beginning, Look

COUNT_EVERY = 1.0
"""Seconds at least between two forwards whose work is counted: that takes several times as long."""

MONITORS = 4
"""Blocks that get a drift monitor, from the first to the last, where none are named."""

STATM = Path("/proc/self/statm")
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Analysis(Observer):
    """What is known of one watched model.

    Args:
        model: The model.
        layers: Its watched layers.
        name: What it is called.
        options: What is looked at.
    """

    def __init__(
        self, model: nn.Module, layers: tuple[Layer, ...], name: str, options: Options
    ) -> None:
        self.name = name
        self.history = History()
        self.works = Works()
        monitors = _monitors(options.drift, layers, name)
        self.numbers = Numbers(monitors) if options.numbers or monitors else None
        self.gradients = Gradients() if options.gradients else None
        self.judge = Judge(self)
        self.taken = 0
        """Passes whose times were taken in."""
        self._model = ref(model)
        self._flops = options.flops
        self._counted_at = -COUNT_EVERY
        self._just_counted = self._compiled = False
        self._memory: dict[str, deque[int]] = {}

    # --- at sampled forwards ------------------------------------------------------------------

    @property
    def observers(self) -> tuple[Observer, ...]:
        """Who wants to be asked at the beginning of each sampled forward."""
        wanted = (self, self.numbers, self.gradients)
        return tuple(each for each in wanted if each is not None)

    def look(self, beginning: Beginning) -> Look | None:
        """Count the work of the forward that begins, if it is not known.

        Never of two sampled forwards in a row, nor of one that was asked for: one whose work is
        counted is not timed. Never of a model of which something was compiled: its work is not
        known then, as no operation in there passes by anybody.
        """
        just, self._just_counted = self._just_counted, False
        self._compiled = beginning.compiled
        if just or beginning.asked or beginning.compiled or not self._flops:
            return None
        now = perf_counter()
        if now - self._counted_at < COUNT_EVERY:
            return None
        given = beginning.given
        if given is None or not self.works.wants(given):
            return None
        self._counted_at, self._just_counted = now, True
        return Counting(self.works, beginning.layers, given)

    def sampled(self, beginning: Beginning, sample: LayerSample) -> None:
        """Take in the times of a sampled forward or backward pass."""
        self.taken += 1
        self.history.add(sample, beginning.given)
        if sample.phase not in ("decode", "backward"):
            # In decode a cache grows as it should.
            memory = _memory(sample.device)
            if memory is not None:
                self._memory.setdefault(sample.phase, deque(maxlen=KEPT)).append(memory)

    # --- for readers --------------------------------------------------------------------------

    def portrait(self, roof: Roof | None = None) -> Portrait:
        """Everything that is known. Waits for the device: never on the thread of a request.

        Args:
            roof: What the device can do, where it was measured.
        """
        numbers, gradients = self.numbers, self.gradients
        return Portrait(
            self.name,
            self.history.layers(self.works, self._parameters(), roof),
            self.history.forwards(),
            () if numbers is None else numbers.health(),
            () if numbers is None else numbers.units(),
            () if gradients is None else gradients.read(),
            roof,
            self.history.contexts(),
            {phase: tuple(readings) for phase, readings in list(self._memory.items())},
            () if numbers is None else _drift(numbers),
            self._uncounted,
        )

    @property
    def _uncounted(self) -> str:
        if self.works or not self._flops:
            return ""
        if self._compiled:
            return "something in the model is compiled"
        return "PyTorch has no formula for its products" if self.works.hopeless else ""

    def _parameters(self) -> dict[str, int]:
        """Elements of the parameters of each watched layer, without those of layers in it."""
        model = self._model()
        if model is None:
            return {}
        watched = {layer.name for layer in self.history.seen}
        found: dict[str, int] = dict.fromkeys(watched, 0)
        for name, parameter in model.named_parameters():
            owner = name
            while owner:
                owner = owner.rpartition(".")[0]
                if owner in watched:
                    found[owner] += parameter.numel()
                    break
        return found


def _monitors(drift: Any, layers: tuple[Layer, ...], name: str) -> dict[str, DriftMonitor]:
    """Monitors by layer.

    Raises:
        ConfigError: If a layer that is named is not watched, or a reference cannot be used.
    """
    if drift is None or drift is False:
        return {}
    from llmwatch.drift.monitor import DriftMonitor

    known = {each.name for each in layers}
    if isinstance(drift, Mapping):
        if unknown := [each for each in drift if each not in known]:
            raise ConfigError(
                f"drift={{{unknown[0]!r}: …}} cannot be used: no layer of that name is watched."
            )
        return {
            layer: each
            if isinstance(each, DriftMonitor)
            else DriftMonitor(f"{name}/{layer}", each, model=name)
            for layer, each in drift.items()
        }
    blocks = [each.name for each in layers if each.is_block] or [each.name for each in layers[1:]]
    last = len(blocks) - 1
    chosen = dict.fromkeys(blocks[round(last * at / (MONITORS - 1))] for at in range(MONITORS))
    reference = "first:2000" if drift is True else drift
    return {each: DriftMonitor(f"{name}/{each}", reference, model=name) for each in chosen}


def _drift(numbers: Numbers) -> tuple[Drift, ...]:
    found = []
    for order, layer in enumerate(numbers.layers):
        monitor = numbers.monitors.get(layer.name)
        if monitor is None:
            continue
        keys = monitor.status().keys
        verdict = keys[0].verdict if keys else None
        if verdict is not None:
            alarm = keys[0].alarm
            found.append(
                Drift(layer.name, layer.block, order, alarm, verdict.effect, verdict.p_value)
            )
    return tuple(found)


def _memory(device: str) -> int | None:
    """Bytes of tensors on a device; of a CPU, those of the process."""
    if device.startswith("cpu"):
        try:
            pages = int(STATM.read_text().split()[1])
        except OSError:
            return None  # not Linux
        return pages * PAGE
    module = torch.get_device_module(torch.device(device))
    allocated = getattr(module, "memory_allocated", None)
    return None if allocated is None else int(allocated(torch.device(device)))
