"""Health of the numbers in one forward: a few reductions for each layer, and no synchronisation.

What is measured stays on the device, in the order of the work that made it. Somebody who is allowed
to wait reads it later, when an event recorded behind it says that it is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from llmwatch.measure.health import Reading

FIELDS = 7
"""Numbers that `measure` gives, in the order of `Reading`."""

PLAIN = (Tensor, torch.nn.Parameter)
"""Reductions of other kinds of tensor may talk to other processes, or run who knows where."""

SILENT = 1e-3
"""A unit that stays below this share of its layer's root mean square is silent."""


def first_tensor(values: Any) -> Tensor | None:
    """The tensor that is handed on: the value itself, or the first of a tuple, list or mapping."""
    if isinstance(values, (tuple, list)):
        values = values[0] if values else None
    elif isinstance(values, Mapping):
        values = next(iter(values.values()), None)
    return values if usable(values) else None


def usable(value: Any) -> bool:
    """True for a plain tensor of floats that holds something."""
    return (
        type(value) in PLAIN
        and value.is_floating_point()
        and value.ndim > 0
        and value.numel() > 0
        and value.layout is torch.strided
        and not value.is_meta
    )


def rows(value: Tensor) -> Tensor:
    """One row a token, or a pixel of a picture: shape ``(tokens, features)``."""
    flat = value.movedim(1, -1) if value.ndim > 3 else value
    return flat.reshape(-1, flat.shape[-1])


def length(values: Tensor, dim: int | None = None) -> Tensor:
    """Euclidean length, as float32; float64 is not narrowed before it is added up."""
    wide = torch.float64 if values.dtype is torch.float64 else torch.float32
    return torch.linalg.vector_norm(values, dim=dim, dtype=wide).float()


def measure(before: Tensor | None, after: Tensor) -> Tensor:
    """The numbers of a `Reading`, as a tensor on the device.

    Args:
        before: The layer's input, if it is of the same shape and was not overwritten.
        after: Its output.

    Cost: 7 passes over the output and 5 over the input; about 20 kernels on a GPU.
    """
    found = rows(after)
    tokens, features = found.shape
    lengths = length(found, -1)
    values = [
        torch.linalg.vector_norm(lengths) / sqrt(tokens * features),
        lengths.median() / sqrt(features),
        torch.linalg.vector_norm(found, float("inf")).float(),
        found.isnan().sum().float(),
        found.isinf().sum().float(),
    ]
    if before is None:
        unknown = torch.full((), float("nan"), device=found.device)
        return torch.stack([*values, unknown, unknown])
    given, got = rows(before).float(), found.float()
    change = torch.linalg.vector_norm(got - given, dim=-1)
    given_lengths = torch.linalg.vector_norm(given, dim=-1)
    least = torch.finfo(torch.float32).tiny
    cosine = (given * got).sum(-1) / (given_lengths * lengths).clamp_min(least)
    return torch.stack([*values, cosine.mean(), (change / given_lengths.clamp_min(least)).median()])


def reading(values: list[float], tokens: int) -> Reading:
    """What `measure` gave, once it is on the host."""
    rms, typical, top, nan, inf, cosine, change = values
    known = cosine == cosine and change == change  # noqa: PLR0124 - NaN: not known
    return Reading(
        rms,
        typical,
        top,
        round(nan),
        round(inf),
        tokens,
        cosine if known else None,
        change if known else None,
    )


class Before:
    """A layer's input, and how to tell whether the layer overwrote it."""

    __slots__ = ("_version", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self._version = None if tensor.is_inference() else tensor._version

    def still(self, after: Tensor) -> Tensor | None:
        """The input, if it can be compared with *after*."""
        tensor = self.tensor
        if tensor.shape != after.shape or tensor.device != after.device:
            return None
        if tensor.data_ptr() == after.data_ptr():
            return None
        if self._version is not None and tensor._version != self._version:
            return None
        return tensor


class Awake:
    """Which units of an activation any token has woken so far; kept on the device.

    Args:
        after: The activation's output, the first time.
    """

    def __init__(self, after: Tensor) -> None:
        self._units = torch.zeros(rows(after).shape[1], dtype=torch.bool, device=after.device)
        self.tokens = 0

    def add(self, after: Tensor) -> None:
        """Take in the activation's output."""
        found = rows(after)
        if found.shape[1] != len(self._units) or found.device != self._units.device:
            return
        rms = length(found) / sqrt(found.numel())
        # Not in place: it may have been made in inference mode.
        self._units = self._units | (found.abs() > SILENT * rms).any(0)
        self.tokens += len(found)

    @property
    def units(self) -> int:
        """How many there are."""
        return len(self._units)

    def dead(self) -> Tensor:
        """Share that were silent in every token, on the device."""
        return 1 - self._units.float().mean()


def pooled(after: Tensor) -> Tensor:
    """One vector for each item of a batch: the mean over its tokens, of unit vectors.

    A token with massive values would else be all that the mean shows.
    """
    flat = after.movedim(1, -1) if after.ndim > 3 else after
    units = torch.nn.functional.normalize(flat.float(), dim=-1)
    return units.reshape(len(units), -1, units.shape[-1]).mean(1) if flat.ndim > 1 else units[None]
