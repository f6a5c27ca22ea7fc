"""One vector a text: the mean of the hidden states of its tokens."""

from __future__ import annotations

import sys
from typing import Any


def hidden_states(outputs: Any) -> Any:
    """The last hidden states in what a model returned, shape ``(texts, tokens, d)``; or None."""
    found = getattr(outputs, "last_hidden_state", None)
    if found is None and isinstance(outputs, (tuple, list)) and outputs:
        found = outputs[0]
    return found if getattr(found, "ndim", 0) == 3 else None


def mean(hidden: Any, mask: Any) -> Any:
    """Mean over the tokens that *mask* keeps; over all where there is none that fits.

    Cost: one pass over the hidden states, where they are: in a pipeline, on the CPU.
    """
    with sys.modules["torch"].no_grad():
        if mask is None or tuple(mask.shape) != tuple(hidden.shape[:2]):
            return hidden.mean(1)
        kept = mask.to(hidden.device, hidden.dtype).unsqueeze(-1)
        return (hidden * kept).sum(1) / kept.sum(1).clamp(min=1)
