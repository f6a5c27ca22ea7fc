"""What is known of a model's layers at one moment: what findings, tables and pictures are made of.

Pure data. Times and FLOPs of a layer are its own: those of selected layers inside it are theirs, so
that the layers of one phase add up to the forward.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llmwatch.measure.health import Gradient, Health, Units
from llmwatch.measure.roofline import Place, Roof

Role = Literal["attention", "mlp", "block", "other"]

_ATTENTION = re.compile(r"attention|attn", re.IGNORECASE)
_MLP = re.compile(r"mlp|feed_?forward|ffn|moe|experts", re.IGNORECASE)


def role(name: str, kind: str) -> Role:
    """What a layer is for, by the last part of its path and its class.

    Args:
        name: Path, as in `named_modules`.
        kind: Name of its class.
    """
    last = name.rpartition(".")[2]
    if last.isdigit():
        return "block"
    for word in (kind, last):
        if re.search(r"norm|dropout|rotary", word, re.IGNORECASE):
            return "other"
        if _ATTENTION.search(word):
            return "attention"
        if _MLP.search(word):
            return "mlp"
    return "other"


def short(model: str) -> str:
    """The name of a model for a title: of a path on this machine the last part."""
    return model.rstrip("/").rpartition("/")[2] if model.startswith(("/", ".")) else model


def part_of_block(name: str) -> Role:
    """Whether a layer is, or is in, the attention or the MLP of its block, by its path."""
    roles = (role(part, "") for part in name.split("."))
    return next((each for each in roles if each in ("attention", "mlp")), "other")


def pattern(name: str) -> str:
    """The path of a layer with a star for each number: equal for siblings in the same place."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


@dataclass(frozen=True)
class LayerFacts:
    """One layer in one phase."""

    layer: str
    """Path; empty for what the model does outside all selected layers."""
    type: str
    block: int | None
    role: Role
    phase: str
    order: int
    seconds: float
    """Of its own, for one forward: the median of those sampled."""
    share: float
    """Of the forward's time."""
    calls: float
    parameters: int = 0
    """Elements, of its own."""
    flops: float | None = None
    """Of its own, for one forward."""
    flops_share: float | None = None
    bytes_share: float | None = None
    """Of the bytes of the operands and results of all operations, norms and sums too."""
    moved: float | None = None
    """Bytes of the operands and results of its products, for one forward."""
    rate: float | None = None
    """FLOP/s achieved, over the forwards whose work is known."""
    place: Place | None = None


@dataclass(frozen=True)
class ForwardFacts:
    """All sampled forwards of one phase."""

    phase: str
    count: int
    seconds: float
    """Of one forward: the median."""
    tokens: float
    """Of one forward: the median."""
    device_busy: float | None = None
    """Time that the host took to issue the work over the time the device took for it, where the
    two have clocks of their own. At 1 the device waits for the host."""


@dataclass(frozen=True)
class ContextPoint:
    """Where the time went at one length of context."""

    phase: str
    context: int
    """Tokens that attention looks at."""
    attention: float
    """Seconds in attention layers, for one forward."""
    mlp: float


@dataclass(frozen=True)
class Drift:
    """What a drift monitor says of one layer's activations."""

    layer: str
    block: int | None
    order: int
    alarm: bool
    effect: float
    p_value: float


@dataclass(frozen=True)
class Portrait:
    """Everything that is known of one watched model."""

    model: str
    layers: tuple[LayerFacts, ...] = ()
    forwards: tuple[ForwardFacts, ...] = ()
    health: tuple[Health, ...] = ()
    units: tuple[Units, ...] = ()
    gradients: tuple[Gradient, ...] = ()
    roof: Roof | None = None
    contexts: tuple[ContextPoint, ...] = ()
    memory: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Bytes allocated on the device when sampled forwards of each phase began, oldest first."""
    drift: tuple[Drift, ...] = ()
    uncounted: str = ""
    """Why nothing is known of FLOPs, where they were asked for."""

    def of(self, phase: str) -> tuple[LayerFacts, ...]:
        """The layers in one phase, in the order of execution."""
        return tuple(each for each in self.layers if each.phase == phase)
