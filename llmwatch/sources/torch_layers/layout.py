"""A model as it is laid out now: what is watched, its wrappers, and the clocks of its devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from llmwatch.signals.layers import Labels
from llmwatch.sources.torch_layers.clock import DeviceClock, clock_of
from llmwatch.sources.torch_layers.describe import Anchor, device_of, dtype_of, name_of_dtype
from llmwatch.sources.torch_layers.select import Plan, Selection, plan
from llmwatch.sources.torch_layers.swap import Wrappers
from llmwatch.sources.torch_layers.tape import DeviceTape, Tape

if TYPE_CHECKING:
    from torch import nn

    from llmwatch.sources.torch_layers.entry import Kept
    from llmwatch.sources.torch_layers.observe import Look
    from llmwatch.sources.torch_layers.tree import Found

CPU = torch.device("cpu")


class Layout:
    """Made anew when the model has changed: other modules, another device, something compiled.

    Args:
        model: The model.
        selection: What is watched of it; None: only the whole.
        name: What it is called.

    Raises:
        ConfigError: If that is nothing.
    """

    def __init__(self, model: nn.Module, selection: Selection | None, name: str) -> None:
        self.selection = selection
        self.plan: Plan = plan(model, selection)
        self.labels = Labels(name, self.plan.layers)
        self.device = device_of(model, CPU)
        self.where = str(self.device)
        self.dtype = dtype_of(model)
        self._first, self._floating = Anchor(model), Anchor(model, floating=True)
        self._wrappers: Wrappers | None = None
        self._tape: Tape | None = None
        found = self.plan.tree.find(model)
        assert found is not None  # nobody changed it meanwhile
        self._clocks = _clocks([model, *found.modules], self.device)

    def find(self, model: nn.Module, kept: Kept) -> Found | None:
        """The watched modules; None if the model is not what it was."""
        first, tree = self._first.tensor(), self.plan.tree
        device = device_of(model, CPU) if first is None else first.device
        if device != self.device:
            return None
        if first is None or not first.is_floating_point():
            first = self._floating.tensor()
        self.dtype = dtype_of(model) if first is None else name_of_dtype(first.dtype)
        found = kept.found
        if found is not None and found.tree is tree and found.same(model) and found.lasting:
            return found
        return tree.find(model)

    @property
    def ready(self) -> bool:
        """Whether a forward can be timed now."""
        if not self._clocks:
            return bool(self.device.type != "meta")
        return all(clock.ready for clock in set(self._clocks))

    @property
    def clock(self) -> DeviceClock | None:
        """The clock of the model's device; None: the host's."""
        return self._clocks[0] if self._clocks else None

    def tape(self, found: Found, looks: tuple[Look, ...], *, memory: bool) -> Tape:
        """A new tape for one forward."""
        layers, follows = self.plan.layers, self.plan.follows
        if not self._clocks:
            return Tape(layers, looks, found.marks)
        return DeviceTape(layers, looks, found.marks, self._clocks, follows, memory=memory)

    def put(self, tape: Tape, found: Found) -> Wrappers:
        """Put wrappers in place for one forward."""
        wrappers = found.wrappers
        if wrappers is None or not wrappers.suit(tape):
            wrappers = Wrappers(tape, found)
            found.wrappers = wrappers if wrappers.lasting else None
        self._wrappers, self._tape = wrappers, tape
        if not wrappers.put():
            found.doubt()
        return wrappers

    def take(self) -> None:
        """Take all wrappers out that are in place: in the middle of a forward, on any thread."""
        wrappers = self._wrappers
        if wrappers is not None:
            wrappers.take()

    def compiling(self) -> bool:
        """Take all out before the compiler sees them; False if that was done, or none are there."""
        wrappers, tape = self._wrappers, self._tape
        if wrappers is None or tape is None or tape.void or len(self.plan.layers) == 1:
            return False
        wrappers.take()
        tape.void = True
        return True

    def taken(self) -> None:
        """None are in place any more: let go of the modules."""
        self._wrappers = self._tape = None


def _clocks(modules: Sequence[nn.Module], device: torch.device) -> tuple[DeviceClock, ...]:
    """For each module, the clock of its device; empty where the host's will do.

    A module on the CPU of a model that is elsewhere is timed by the model's device: it is the order
    of events that counts.
    """
    own = clock_of(device)
    if own is None:
        return ()
    return tuple(clock_of(device_of(each, device)) or own for each in modules)
