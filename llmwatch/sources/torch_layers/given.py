"""What a model is given in one forward, as far as its work depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, count
from typing import Any, NamedTuple

import torch

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

MOST_SHAPES = 8

Shape = tuple[int, ...]


class Input(NamedTuple):
    """One argument that is a tensor or has some in it."""

    name: str
    """Its keyword, or its place."""
    shapes: tuple[Shape, ...]
    alone: bool
    """Whether it is a tensor itself."""
    floating: bool


class Inputs(NamedTuple):
    """What a forward is given: sizes, noted at its beginning; what they mean can wait."""

    tensors: list[Input]
    cached: int | None
    """Tokens that a cache holds already; None: not known."""

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of the tensors among the arguments, the first few."""
        return tuple(each.shapes[0] for each in self.tensors if each.alone)[:MOST_SHAPES]

    @property
    def tokens(self) -> int | None:
        """How many tokens: all positions of the ids, or of the embeddings."""
        named = {each.name: each for each in self.tensors if each.alone}
        ids = named.get("input_ids") or named.get("0")
        if ids is not None and not ids.floating:
            shape = ids.shapes[0]
            return torch.Size(shape).numel() if len(shape) in (1, 2) else None
        embeds = named.get("inputs_embeds") or ids
        if embeds is None or not embeds.floating or len(embeds.shapes[0]) != 3:
            return None
        batch, length, _ = embeds.shapes[0]
        return batch * length

    @property
    def given(self) -> Given | None:
        """What the work depends on; None where that is not known."""
        shapes = [
            (each.name, shape)
            for each in self.tensors
            if each.name not in FOLLOWERS
            for shape in each.shapes
            if shape
        ]
        if not shapes or self.cached is None:
            return None
        (name, first), *others = shapes
        batch, length = first[0], first[1] if len(first) in (2, 3) else 0
        rest = first[2:] if length else first[1:]
        one = length == 1  # attention may take another way then
        kind = (name, rest, one, tuple((name, shape[1:]) for name, shape in others))
        return Given(kind, batch, length, self.cached)


def inputs_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Inputs:
    """Note what a model is given.

    Args:
        args: Positional arguments of its forward.
        kwargs: The others.

    Cost: 1 µs an argument.
    """
    found: list[Input] = []
    cached: int | None = 0
    for name, value in chain(zip(map(str, count()), args, strict=False), kwargs.items()):
        if isinstance(value, torch.Tensor):
            found.append(Input(name, (tuple(value.shape),), True, value.is_floating_point()))
        elif value is None or isinstance(value, (bool, int, float, str)):
            continue
        elif callable(getattr(value, "get_seq_length", None)):
            cached = cached_length(value)
        elif shapes := tuple(tuple(each.shape) for each in tensors(value)):
            found.append(Input(name, shapes, False, False))
    return Inputs(found, cached)
