"""Time the backward pass of a sampled forward, by when the gradients of its tensors are known.

Hooks on nodes of the graph, not on modules: those would change the graph. The marks are made by
whatever thread runs the backward pass. What is recomputed in it (activation checkpointing) is a
part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any

import torch

from llmwatch._guard import Guard
from llmwatch.measure.layers import Interval, Layer, LayerSample, backward_calls
from llmwatch.sources.torch_layers.clock import CapturedError, DeviceClock, Event
from llmwatch.sources.torch_layers.describe import tensors
from llmwatch.sources.torch_layers.observe import Look

if TYPE_CHECKING:
    from llmwatch.sources.torch_layers.forward import Forward

_HOOK = Guard("layers.backward")
MOST_CALLS = 5000


class Passing:
    """The backward pass that belongs to one forward, while it comes and goes.

    Args:
        layers: The watched layers.
        clock: The device's; None: the host's.
    """

    then: Callable[[], None] | None = None
    """Called once when it is over."""

    def __init__(self, layers: tuple[Layer, ...], clock: DeviceClock | None) -> None:
        self.layers = layers
        self.started_at = 0
        self.calls: list[tuple[int, int | None]] = []
        """Number and parent of each call of the forward."""
        self.void = False
        self._clock = clock
        self._marks: dict[tuple[int, bool], int] = {}
        """When the gradient of a call's output (False) or input (True) came, as an index."""
        self._stamps: list[int | Event] = []
        self._over = False

    def came(self, call: int, ends: bool) -> None:
        """It is there. Only the first time counts: a graph may be walked twice."""
        if self._over or self.void or (call, ends) in self._marks:
            return
        if not self._marks:
            self.started_at = time_ns()
            torch.autograd.Variable._execution_engine.queue_callback(self._ended)
        self._marks[call, ends] = len(self._stamps)
        self._mark()

    def _mark(self) -> None:
        try:
            self._stamps.append(perf_counter_ns() if self._clock is None else self._clock.mark())
        except CapturedError:
            self.void = True

    def _ended(self) -> None:
        with _HOOK:
            if not self._over:
                self._over = True
                self._mark()
                if self.then is not None:
                    self.then()

    @property
    def done(self) -> bool:
        """Whether the device has come to its end; asks, and never waits."""
        stamps: list[Any] = self._stamps
        return self._clock is None or all(each.query() for each in stamps)

    def seconds(self) -> list[float]:
        """When each mark was, from the first on."""
        first: Any = self._stamps[0]
        stamps: list[Any] = self._stamps
        if self._clock is None:
            return [(each - first) / 1e9 for each in stamps]
        found = [first.elapsed_time(each) / 1e3 for each in stamps]
        self._clock.release(stamps)
        return found

    def intervals(self) -> list[Interval]:
        """From when to when it was in each call of the forward; the whole first."""
        seconds = self.seconds()

        def when(call: int, ends: bool) -> float | None:
            at = self._marks.get((call, ends))
            return None if at is None else seconds[at]

        whole = Interval(0, None, 0.0, seconds[-1])
        return [whole] + [
            Interval(number, parent, when(call, False), when(call, True))
            for call, (number, parent) in enumerate(self.calls)
            if call
        ]


def _came(passing: Passing, call: int, ends: bool, gradients: Any) -> None:
    with _HOOK:
        passing.came(call, ends)


class BackwardLook(Look):
    """Puts hooks on what goes into the layers of one forward and comes out of them."""

    on_device = False

    def __init__(self, passing: Passing) -> None:
        self._passing = passing
        self._open: list[int] = []

    def enter(
        self, number: int, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """A layer begins: its backward pass ends when the gradient of its input is known."""
        passing = self._passing
        if len(passing.calls) >= MOST_CALLS:
            passing.void = True
            return
        call = len(passing.calls)
        passing.calls.append((number, self._open[-1] if self._open else None))
        self._open.append(call)
        if call:
            _hook_first(passing, (args, kwargs), call, ends=True)

    def leave(
        self, number: int, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """A layer ends: its backward pass begins with the gradient of its output."""
        while self._open:
            call = self._open.pop()
            if self._passing.calls[call][0] == number:
                _hook_first(self._passing, output, call, ends=False)
                return


def _hook_first(passing: Passing, value: Any, call: int, *, ends: bool) -> None:
    # On the graph, not on the tensor: that is the user's, who may want to save it.
    for tensor in tensors(value):
        if tensor.grad_fn is not None:
            tensor.grad_fn.register_prehook(partial(_came, passing, call, ends))
            return


class BackwardPass:
    """A backward pass in the queue of those whose times are not known yet.

    Args:
        passing: What was seen of it.
        forward: The sampled forward that it belongs to.
    """

    def __init__(self, passing: Passing, forward: Forward) -> None:
        self._passing = passing
        self._forward = forward
        self.beginning = forward.beginning
        self.about = forward.about

    @property
    def done(self) -> bool:
        """Whether all times are known."""
        return self._passing.done

    def sample(self) -> LayerSample | None:
        """Its times, once it is done; None where they mean nothing."""
        passing = self._passing
        if passing.void:
            return None
        calls = backward_calls(passing.layers, passing.intervals())
        total = calls[0].total_time
        return self._forward.described("backward", passing.started_at, total, calls)

    def tell(self, sample: LayerSample | None) -> None:
        """Nobody looks at backward passes."""
