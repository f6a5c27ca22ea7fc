"""What is looked at in sampled forwards beside times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Options:
    """What is looked at beside times."""

    flops: bool = True
    numbers: bool = False
    gradients: bool = False
    drift: Any = None
    """Drift monitors by the path of the layer whose activations they are given; or what a monitor
    takes as its reference, for one at each of a few blocks."""
