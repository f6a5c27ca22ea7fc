"""What a model is given in one forward, as far as its work depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmwatch.measure.work import Given
from llmwatch.sources.torch_layers.describe import cached_length, tensors

FOLLOWERS = frozenset(
    (
        "attention_mask",
        "cache_position",
        "decoder_attention_mask",
        "labels",
        "position_embeddings",
        "position_ids",
        "token_type_ids",
    )
)
"""Inputs whose shapes follow from the others' and from the length of the context."""


def given_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Given | None:
    """What a model is given, as far as its work depends on it; None where that is not known.

    Args:
        args: Positional arguments of its forward.
        kwargs: The others.

    Cost: 10 µs.
    """
    named = [*((str(index), each) for index, each in enumerate(args)), *kwargs.items()]
    shapes: list[tuple[str, tuple[int, ...]]] = []
    cached = 0
    for name, value in named:
        if name in FOLLOWERS:
            continue
        if callable(getattr(value, "get_seq_length", None)):
            many = cached_length(value)
            if many is None:
                return None
            cached = many
        else:
            shapes += [(name, tuple(each.shape)) for each in tensors(value) if each.ndim]
    if not shapes:
        return None
    (name, first), *others = shapes
    batch, length = first[0], first[1] if len(first) in (2, 3) else 0
    rest = first[2:] if length else first[1:]
    one = length == 1  # attention may take another way then
    kind = (name, rest, one, tuple((name, shape[1:]) for name, shape in others))
    return Given(kind, batch, length, cached)
