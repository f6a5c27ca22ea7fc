"""How large a key-value cache is: shapes and types alone, nothing is read from a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NAMES = ("cache", "past_key_values", "cache_params")
"""Where transformers hands a cache on: the first from 5.24 on."""

_PARTS = ("self_attention_cache", "cross_attention_cache")


def cache_in(argument: Callable[[str], Any]) -> Any:
    """The cache among the arguments of a model, which are had by name; None: it has none."""
    return next((held for name in NAMES if (held := argument(name)) is not None), None)


def size_of(cache: Any) -> int | None:
    """Bytes of all tensors that a cache holds; None where it keeps none that we know of."""
    parts = [getattr(cache, name) for name in _PARTS if hasattr(cache, name)]
    if parts:
        return sum(size_of(part) or 0 for part in parts) or None
    layers = getattr(cache, "layers", None)
    if not isinstance(layers, list):
        return None
    return sum(_bytes(value) for layer in layers for value in vars(layer).values()) or None


def _bytes(value: Any) -> int:
    if hasattr(value, "element_size") and hasattr(value, "numel"):
        return int(value.numel() * value.element_size())
    return 0
