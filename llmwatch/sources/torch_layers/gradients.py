"""Norms of the gradients of each layer's parameters, in the backward pass of a sampled forward.

Each parameter gets a hook that takes itself away once its gradient is there. Under
`DistributedDataParallel` that is this rank's own gradient, before it is averaged.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from llmwatch._guard import Guard
from llmwatch.measure.health import KEPT, Gradient
from llmwatch.sources.torch_layers.fetch import Queue
from llmwatch.sources.torch_layers.numbers import PLAIN, length
from llmwatch.sources.torch_layers.observe import Look, Observer

if TYPE_CHECKING:
    from llmwatch.measure.layers import Layer
    from llmwatch.sources.torch_layers.observe import Beginning

_HOOK = Guard("layers.gradients")


class Gradients(Observer):
    """Gradient norms of one model's layers, by the path of the layer."""

    def __init__(self) -> None:
        self._step: _Step | None = None
        self._norms: dict[Layer, deque[float]] = {}
        self._queue: Queue[list[Layer]] = Queue(self._take)

    def look(self, beginning: Beginning) -> Look | None:
        """Look at the forward that begins, and at the backward pass that follows it."""
        self.finish()
        if not beginning.grad:
            return None
        self._step = step = _Step(beginning.layers)
        return step

    def finish(self) -> None:
        """Take away what hooks are left, and send on its way what they have found."""
        step, self._step = self._step, None
        if step is not None:
            step.undo()
            if step.squares:
                self._queue.put(*step.norms())

    def _take(self, layers: list[Layer], norms: Tensor) -> None:
        for layer, norm in zip(layers, norms.tolist(), strict=True):
            self._norms.setdefault(layer, deque(maxlen=KEPT)).append(norm)

    def read(self) -> tuple[Gradient, ...]:
        """The norms so far. Waits for the device: never on the thread of a request."""
        self.finish()
        self._queue.wait()
        return tuple(
            Gradient(layer.name, layer.block, median(norms), len(norms))
            for layer, norms in sorted(self._norms.items(), key=lambda each: each[0].block or 0)
        )


class _Step(Look):
    def __init__(self, layers: tuple[Layer, ...]) -> None:
        self._layers = layers
        blocks = any(each.is_block for each in layers)
        self._wanted = {
            number for number, each in enumerate(layers) if number and (each.is_block or not blocks)
        }
        self._handles: list[Any] = []
        self.squares: dict[int, list[Tensor]] = {}

    def enter(
        self, number: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if number not in self._wanted:
            return
        self._wanted.discard(number)  # a layer that is called twice has its parameters once
        for parameter in module.parameters():
            if parameter.requires_grad and type(parameter) in PLAIN and parameter.is_leaf:
                hook = _Hook(self, number)
                hook.handle = parameter.register_post_accumulate_grad_hook(hook)
                self._handles.append(hook.handle)

    def undo(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def norms(self) -> tuple[list[Layer], Tensor]:
        numbers = sorted(self.squares)
        device = self.squares[numbers[0]][0].device
        sums = [torch.stack(self.squares[each]).sum().to(device) for each in numbers]
        return [self._layers[each] for each in numbers], torch.stack(sums).sqrt()


class _Hook:
    """A parameter's: notes the square of its gradient's norm, once."""

    handle: Any

    def __init__(self, step: _Step, number: int) -> None:
        self._step = step
        self._number = number

    def __call__(self, parameter: Tensor) -> None:
        with _HOOK:
            self.handle.remove()
            gradient = parameter.grad
            if gradient is None or type(gradient) not in PLAIN or gradient.is_sparse:
                return
            with torch.no_grad():
                norm = length(gradient)
                self._step.squares.setdefault(self._number, []).append(norm.square())
