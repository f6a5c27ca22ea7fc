"""A small language model whose work is worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from llmwatch.measure.work import Amount


@dataclass(frozen=True)
class Sizes:
    """What its work depends on."""

    width: int = 16
    inner: int = 40
    heads: int = 4
    kv_heads: int = 2
    vocabulary: int = 50
    blocks: int = 3

    @property
    def head(self) -> int:
        """Width of a head."""
        return self.width // self.heads


class Cache:
    """Keys and values of earlier tokens, in the manner of transformers."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def get_seq_length(self) -> int:
        """Tokens in it."""
        return next((keys.shape[2] for keys, _ in self.kept.values()), 0)

    def update(
        self, block: int, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add to it."""
        if block in self.kept:
            before = self.kept[block]
            keys = torch.cat([before[0], keys], 2)
            values = torch.cat([before[1], values], 2)
        self.kept[block] = keys, values
        return keys, values


class Attention(nn.Module):
    """Grouped-query attention."""

    def __init__(self, sizes: Sizes, block: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.block = block
        self.q_proj = nn.Linear(sizes.width, sizes.width, bias=False)
        self.kv_proj = nn.Linear(sizes.width, 2 * sizes.kv_heads * sizes.head, bias=False)
        self.o_proj = nn.Linear(sizes.width, sizes.width, bias=False)

    def forward(self, x: torch.Tensor, cache: Cache | None) -> torch.Tensor:
        """Look back."""
        sizes, (batch, length, _) = self.sizes, x.shape
        queries = self.q_proj(x).view(batch, length, sizes.heads, sizes.head).transpose(1, 2)
        both = self.kv_proj(x).view(batch, length, 2 * sizes.kv_heads, sizes.head).transpose(1, 2)
        keys, values = both.chunk(2, 1)
        if cache is not None:
            keys, values = cache.update(self.block, keys, values)
        groups = sizes.heads // sizes.kv_heads
        keys, values = keys.repeat_interleave(groups, 1), values.repeat_interleave(groups, 1)
        found = functional.scaled_dot_product_attention(
            queries, keys, values, is_causal=cache is None
        )
        return self.o_proj(found.transpose(1, 2).reshape(batch, length, -1))


class Mlp(nn.Module):
    """Gated."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.gate = nn.Linear(sizes.width, sizes.inner, bias=False)
        self.up = nn.Linear(sizes.width, sizes.inner, bias=False)
        self.act = nn.SiLU()
        self.down = nn.Linear(sizes.inner, sizes.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Think."""
        return self.down(self.act(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Attention and MLP, each beside the stream."""

    def __init__(self, sizes: Sizes, block: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(sizes.width)
        self.attention = Attention(sizes, block)
        self.mlp = Mlp(sizes)

    def forward(self, x: torch.Tensor, cache: Cache | None = None) -> torch.Tensor:
        """One step."""
        x = x + self.attention(self.norm(x), cache)
        return x + self.mlp(self.norm(x))


class LanguageModel(nn.Module):
    """The whole."""

    def __init__(self, sizes: Sizes | None = None) -> None:
        super().__init__()
        self.sizes = sizes = sizes or Sizes()
        self.embed = nn.Embedding(sizes.vocabulary, sizes.width)
        self.blocks = nn.ModuleList(Block(sizes, at) for at in range(sizes.blocks))
        self.head = nn.Linear(sizes.width, sizes.vocabulary, bias=False)

    def forward(
        self, input_ids: torch.Tensor, past_key_values: Cache | None = None
    ) -> torch.Tensor:
        """Scores for the next token after each."""
        x = self.embed(input_ids)
        for block in self.blocks:
            x = block(x, past_key_values)
        return self.head(x)


def language_model(seed: int = 0) -> LanguageModel:
    """The same one each time."""
    torch.manual_seed(seed)
    return LanguageModel().eval()


def ids(batch: int, length: int) -> torch.Tensor:
    """Some tokens."""
    return torch.arange(batch * length).reshape(batch, length) % Sizes().vocabulary


def by_hand(sizes: Sizes, batch: int, length: int, cached: int = 0) -> dict[str, Amount]:
    """FLOPs and bytes of attention, MLP and head, from their definitions; 4 bytes a number."""
    tokens, context = batch * length, cached + length

    def product(inputs: int, outputs: int) -> Amount:
        moved = tokens * inputs + inputs * outputs + tokens * outputs
        return Amount(2.0 * tokens * inputs * outputs, 4.0 * moved)

    def total(*amounts: Amount) -> Amount:
        return Amount(sum(each.flops for each in amounts), sum(each.moved for each in amounts))

    width, inner, kv = sizes.width, sizes.inner, 2 * sizes.kv_heads * sizes.head
    attention = Amount(
        # Queries times keys, and what that gives times values: two operations each.
        4.0 * batch * sizes.heads * length * context * sizes.head,
        4.0 * batch * sizes.heads * sizes.head * (2 * length + 2 * context),
    )
    found = {"head": product(width, sizes.vocabulary)}
    for block in range(sizes.blocks):
        found[f"blocks.{block}.attention"] = total(
            product(width, width), product(width, kv), attention, product(width, width)
        )
        found[f"blocks.{block}.mlp"] = total(
            product(width, inner), product(width, inner), product(inner, width)
        )
    return found
