"""Look at the numbers of sampled forwards, and read what was found when nobody waits for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from llmwatch._guard import Guard
from llmwatch.measure.baseline import Baseline, Moments
from llmwatch.measure.health import Health, Readings, Units
from llmwatch.sources.torch_layers.fetch import Queue
from llmwatch.sources.torch_layers.numbers import (
    Awake,
    Before,
    first_tensor,
    measure,
    pooled,
    reading,
    rows,
)
from llmwatch.sources.torch_layers.observe import Look, Observer

if TYPE_CHECKING:
    from llmwatch.drift.monitor import DriftMonitor
    from llmwatch.measure.layers import Layer, LayerSample
    from llmwatch.sources.torch_layers.observe import Beginning

_READ = Guard("layers.numbers")


class Found(NamedTuple):
    """What one sampled forward left on the device."""

    layers: list[Layer]
    """In the order in which they were left."""
    tokens: list[int]
    values: list[Tensor]
    """For each, what `measure` gave."""
    pools: list[tuple[str, Tensor]]
    """Paths of layers, and what `pooled` gave."""


class Numbers(Observer):
    """The numbers of one model's layers.

    Args:
        monitors: Drift monitors by path of the layer whose activations they are given.
    """

    def __init__(self, monitors: Mapping[str, DriftMonitor]) -> None:
        self.monitors = dict(monitors)
        self.awake: dict[Layer, Awake] = {}
        self._readings: dict[Layer, Readings] = {}
        self._kinds: dict[Layer, tuple[str, float]] = {}
        self._pooled: tuple[tuple[str, int], ...] = ()
        """Path and number of features of the layers whose vectors lie side by side in `_moments`:
        one sum over all of them takes as long as one layer's."""
        self._moments = Moments()
        self._values: Queue[Found] = Queue(self._take)
        self._vectors: Queue[tuple[tuple[str, int], ...]] = Queue(self._take_vectors)

    def look(self, beginning: Beginning) -> NumbersLook:
        """Look at the forward that begins."""
        return NumbersLook(self, beginning)

    def kind(self, layer: Layer, after: Tensor) -> None:
        """Note of what dtype a layer's output is."""
        if layer not in self._kinds:
            name = str(after.dtype).removeprefix("torch.")
            self._kinds[layer] = name, torch.finfo(after.dtype).max

    def put(self, found: Found) -> None:
        """Take in what a forward left. Never waits for the device."""
        if found.values:
            device = found.values[0].device
            self._values.put(found, torch.stack([each.to(device) for each in found.values]))
        if found.pools:
            device = found.pools[0][1].device
            beside = torch.cat([each.to(device) for _, each in found.pools], 1)
            names = tuple((name, each.shape[1]) for name, each in found.pools)
            self._vectors.put(names, beside)

    def _take(self, found: Found, measured: Tensor) -> None:
        broken = False
        for layer, row, tokens in zip(found.layers, measured.tolist(), found.tokens, strict=True):
            values = reading(row, tokens)
            bad = values.nan > 0 or values.inf > 0
            self._readings.setdefault(layer, Readings()).add(values, first=bad and not broken)
            broken |= bad

    def _take_vectors(self, names: tuple[tuple[str, int], ...], beside: Tensor) -> None:
        vectors = beside.numpy()
        if names != self._pooled:
            self._pooled, self._moments = names, Moments()
        self._moments.add(vectors.astype(np.float64))
        if self.monitors:
            for name, part in _parts(names):
                if (monitor := self.monitors.get(name)) is not None:
                    monitor.add(vectors[:, part])

    def read(self) -> None:
        """Take up everything. Waits for the device: never on the thread of a request."""
        with _READ:
            self._values.wait()
            self._vectors.wait()

    def baseline(self) -> Baseline:
        """What the activations were so far."""
        self.read()
        moments = self._moments
        return Baseline(
            {
                name: Moments(moments.count, moments.mean[part], moments.squares[part])
                for name, part in _parts(self._pooled)
                if moments.count
            }
        )

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers whose numbers were measured, in the order of execution."""
        return tuple(self._readings)

    def health(self) -> tuple[Health, ...]:
        """The numbers of each layer."""
        self.read()
        return tuple(
            readings.health(layer.name, layer.block, order, *self._kinds[layer])
            for order, (layer, readings) in enumerate(list(self._readings.items()))
        )

    def units(self) -> tuple[Units, ...]:
        """The units of the activation functions among the watched layers."""
        return tuple(
            Units(layer.name, layer.block, float(awake.dead()), awake.units, awake.tokens)
            for layer, awake in list(self.awake.items())
        )


def _parts(pooled: tuple[tuple[str, int], ...]) -> Iterator[tuple[str, slice]]:
    at = 0
    for name, features in pooled:
        yield name, slice(at, at + features)
        at += features


class NumbersLook(Look):
    """A look at the numbers of one forward.

    Args:
        numbers: Who is told.
        beginning: What is known of the forward.
    """

    def __init__(self, numbers: Numbers, beginning: Beginning) -> None:
        self._numbers = numbers
        self._layers = beginning.layers
        blocks = any(each.is_block for each in beginning.layers)
        self._wanted = {
            number
            for number, each in enumerate(beginning.layers)
            if number and (each.is_block or not blocks)
        }
        self._pools = beginning.phase != "decode"
        self._before: dict[int, Before] = {}
        self._found = Found([], [], [], [])

    def enter(
        self, number: int, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Keep the input until the layer is left."""
        if number in self._wanted:
            given = first_tensor(args) if args else first_tensor(kwargs)
            if given is not None:
                self._before[number] = Before(given)

    def leave(
        self, number: int, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """Measure the output."""
        before = self._before.pop(number, None)
        wanted = number in self._wanted
        if not wanted and not is_activation(module):
            return
        after = first_tensor(output)
        if after is None:
            return
        layer = self._layers[number]
        with torch.no_grad():
            if is_activation(module):
                self._wake(layer, after.detach())
            if wanted:
                self._measure(layer, before, after.detach())

    def _wake(self, layer: Layer, after: Tensor) -> None:
        awake = self._numbers.awake
        if layer not in awake:
            awake[layer] = Awake(after)
        awake[layer].add(after)

    def _measure(self, layer: Layer, before: Before | None, after: Tensor) -> None:
        self._numbers.kind(layer, after)
        self._found.layers.append(layer)
        self._found.values.append(measure(None if before is None else before.still(after), after))
        self._found.tokens.append(len(rows(after)))
        if self._pools:
            self._found.pools.append((layer.name, pooled(after)))

    def end(self, sample: LayerSample | None) -> None:
        """Hand over what was found."""
        self._before.clear()
        self._numbers.put(self._found)


_SHAPED = (nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.MultiheadAttention, nn.GLU)


def is_activation(module: nn.Module) -> bool:
    """True for a function of each number by itself, like ReLU or SiLU."""
    home = type(module).__module__
    known = home in ("torch.nn.modules.activation", "transformers.activations")
    return known and not isinstance(module, _SHAPED)
