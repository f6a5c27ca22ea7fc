"""How large a key-value cache is: shapes and types alone, nothing is read from a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES = ("past_key_values", "cache_params")
"""Where transformers hands a cache on."""

_PARTS = ("self_attention_cache", "cross_attention_cache")


def cache_in(arguments: Mapping[str, Any]) -> Any:
    """The cache among the arguments of a model; None: it has none."""
    return next((arguments[name] for name in NAMES if arguments.get(name) is not None), None)


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
