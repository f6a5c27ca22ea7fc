"""Small models of every kind that has traps of its own."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import nn

WIDTH = 16


class Block(nn.Module):
    """A residual block with layers in it."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One step."""
        return x + self.mlp(self.norm(x))


class Tower(nn.Module):
    """Blocks in a list, with something before and after them, as language models have."""

    def __init__(self, blocks: int = 3, width: int = WIDTH) -> None:
        super().__init__()
        self.embed = nn.Embedding(32, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.head = nn.Linear(width, 32)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """All of them."""
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


IDS = torch.arange(8).reshape(2, 4)


def tower(blocks: int = 3) -> Tower:
    """The same one each time."""
    torch.manual_seed(0)
    return Tower(blocks).eval()


class Twice(nn.Module):
    """One layer that is called twice, and has two names."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Block(), Block()])
        self.again = self.layers[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """There and back."""
        return self.again(self.layers[1](self.layers[0](x)))


class Recursive(nn.Module):
    """A layer that calls itself."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor, depth: int = 3) -> torch.Tensor:
        """Again and again."""
        x = self.step(x)
        return self(x, depth - 1) if depth else x


class Failing(nn.Module):
    """Raises in its second block."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error = error
        self.blocks = nn.ModuleList([Block(), Raiser(self), Raiser(self)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Until it fails."""
        for block in self.blocks:
            x = block(x)
        return x


class Raiser(nn.Module):
    """Raises what its owner says, if anything."""

    def __init__(self, owner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.owner = [owner]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Fail, or pass on."""
        error = self.owner[0].error
        if error is not None:
            raise error
        return self.inner(x)


class Scripted(nn.Module):
    """Layers that take a known time, and note by themselves when they began and ended."""

    def __init__(self, *seconds: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Sleeper(each) for each in seconds)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One after the other."""
        for block in self.blocks:
            x = block(x)
        return x


class Sleeper(nn.Module):
    """Works for a known time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.inner = nn.Identity()
        self.seconds = seconds
        self.took = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Work: waiting would let others have the processor."""
        began = perf_counter()
        while perf_counter() - began < self.seconds:
            pass
        x = self.inner(x)
        self.took = perf_counter() - began
        return x


class Calling(nn.Module):
    """Calls a function in the middle of its forward."""

    def __init__(self, between: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.between = between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """First block, function, second block."""
        x = self.blocks[0](x)
        self.between(self)
        return self.blocks[1](x)


def left_behind(model: nn.Module) -> list[str]:
    """Everything of ours in a model."""
    return [
        f"{name}.{key}"
        for name, module in model.named_modules()
        for key in ("forward", "_compiled_call_impl")
        if type(vars(module).get(key)).__module__.startswith("llmwatch")
    ]
