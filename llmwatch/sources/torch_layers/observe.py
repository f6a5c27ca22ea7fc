"""Who else looks at a sampled forward: inputs and outputs of its layers, or its operations.

An `Observer` is asked at the beginning of each sampled forward. What it then does is guarded, and
its time is taken out of the layers' times; what it does must not wait for the device, nor hold on
to tensors.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from llmwatch.measure.layers import Layer, LayerSample
    from llmwatch.measure.work import Given
    from llmwatch.sources.torch_layers.given import Inputs


class Beginning(NamedTuple):
    """What is known of a forward before it runs."""

    layers: tuple[Layer, ...]
    """The watched layers; the numbers that a `Look` is given are indices of it. 0: the model."""
    phase: str
    device: str
    inputs: Inputs
    """What the model is given."""
    grad: bool
    """Whether it is recorded for a backward pass."""
    asked: bool = False
    """Whether somebody asked for this one: it is to be timed."""
    compiled: bool = False
    """Whether something in the model was compiled: nobody sees what runs in there."""

    @property
    def given(self) -> Given | None:
        """What its work depends on; None where that is not known."""
        given = self.inputs.given
        if given is None or not self.grad:
            return given
        return given._replace(kind=("grad", given.kind))


class Look:
    """One observer's look at one sampled forward. Override what you need."""

    around: AbstractContextManager[Any] | None = None
    """What the whole forward runs in, for example a `FlopCounterMode`. With it the forward is not
    timed: what it does takes time inside the layers."""

    on_device = True
    """False: it gives no work to the device, so that the device's clock need not be asked."""

    def enter(
        self, number: int, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """A layer is about to run."""

    def leave(
        self, number: int, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """It has run, and raised nothing."""

    def end(self, sample: LayerSample | None) -> None:
        """The forward is over, and its times are known: later, on any thread, or never.

        Args:
            sample: Its times; None where it failed or was not timed.
        """


class Observer:
    """Somebody who may want to look at sampled forwards. Override what you need."""

    def look(self, beginning: Beginning) -> Look | None:
        """Say whether to look at the forward that begins; None: not at this one."""
        return None

    def sampled(self, beginning: Beginning, sample: LayerSample) -> None:
        """Take in the times of a sampled pass, whether or not it was looked at; on any thread."""
