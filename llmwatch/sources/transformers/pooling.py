"""One vector a text, of the hidden states of its tokens."""

from __future__ import annotations

import sys
from typing import Any


def hidden_states(outputs: Any) -> Any:
    """The last hidden states in what a model returned, shape ``(texts, tokens, d)``; or None."""
    found = getattr(outputs, "last_hidden_state", None)
    if found is None and isinstance(outputs, (tuple, list)) and outputs:
        found = outputs[0]
    return found if getattr(found, "ndim", 0) == 3 else None


def pooled(hidden: Any, mask: Any, how: str) -> Any:
    """One vector a text, shape ``(texts, d)``, of its hidden states.

    Args:
        hidden: Shape ``(texts, tokens, d)``.
        mask: Which tokens are no padding, on either side; None, or of another shape: all.
        how: ``"mean"`` of those, or the ``"first"`` or ``"last"`` of them.

    Cost: one pass over the hidden states, where they are: in a pipeline, on the CPU.
    """
    with sys.modules["torch"].no_grad():
        if mask is None or tuple(mask.shape) != tuple(hidden.shape[:2]):
            return hidden.mean(1) if how == "mean" else hidden[:, 0 if how == "first" else -1]
        if how == "mean":
            kept = mask.to(hidden.device, hidden.dtype).unsqueeze(-1)
            return (hidden * kept).sum(1) / kept.sum(1).clamp(min=1)
        kept = mask.to(hidden.device).int()
        at = kept.argmax(1) if how == "first" else kept.shape[1] - 1 - kept.flip(1).argmax(1)
        return hidden[range(len(hidden)), at]
