"""A model as it is laid out now: what is watched, its wrappers, and the clocks of its devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from llmwatch.signals.layers import Labels
from llmwatch.sources.torch_layers.clock import DeviceClock, clock_of
from llmwatch.sources.torch_layers.describe import device_of, dtype_of
from llmwatch.sources.torch_layers.select import Plan, Selection, plan
from llmwatch.sources.torch_layers.swap import Shared, Slot
from llmwatch.sources.torch_layers.tape import DeviceTape, Tape

if TYPE_CHECKING:
    from torch import nn

    from llmwatch.sources.torch_layers.observe import Look

CPU = torch.device("cpu")


class Layout:
    """Made anew when the model has changed: other modules, another device, something compiled.

    Args:
        model: The model.
        selection: What is watched of it.
        name: What it is called.

    Raises:
        ConfigError: If that is nothing.
    """

    def __init__(self, model: nn.Module, selection: Selection, name: str) -> None:
        self.plan: Plan = plan(model, selection)
        self.labels = Labels(name, self.plan.layers)
        self.shared = Shared()
        modules = self.plan.modules()
        assert modules is not None  # nobody changed it meanwhile
        self.device = device_of(model, CPU)
        self.dtype = dtype_of(model)
        self.slots: tuple[Slot, ...] = tuple(
            Slot(number, self.shared, module) for number, module in enumerate(modules) if number
        )
        self._clocks = _clocks(modules, self.device)

    def modules(self, model: nn.Module) -> list[nn.Module] | None:
        """The watched modules; None if the model is not what it was. Cost: 0.3 µs a module."""
        if device_of(model, CPU) != self.device:
            return None
        self.dtype = dtype_of(model)
        return self.plan.modules()

    @property
    def ready(self) -> bool:
        """Whether a forward can be timed now."""
        return self.device.type != "meta" and all(clock.ready for clock in set(self._clocks))

    @property
    def clock(self) -> DeviceClock | None:
        """The clock of the model's device; None: the host's."""
        return self._clocks[0] if self._clocks else None

    def tape(self, looks: tuple[Look, ...], *, memory: bool) -> Tape:
        """A new tape for one forward."""
        layers, follows = self.plan.layers, self.plan.follows
        if not self._clocks:
            return Tape(layers, looks)
        return DeviceTape(layers, looks, self._clocks, follows, memory=memory)

    def take(self) -> None:
        """Take all wrappers out that are in place."""
        self.shared.tape = None
        self.slots = tuple([slot.take() for slot in self.slots])


def _clocks(modules: list[nn.Module], device: torch.device) -> tuple[DeviceClock, ...]:
    """For each module, the clock of its device; empty where the host's will do.

    A module on the CPU of a model that is elsewhere is timed by the model's device: it is the order
    of events that counts.
    """
    own = clock_of(device)
    if own is None:
        return ()
    return tuple(clock_of(device_of(each, device)) or own for each in modules)
