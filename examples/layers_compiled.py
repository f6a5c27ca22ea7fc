"""Time the blocks of a compiled model: compile them one by one, and each is timed from outside.

    python examples/layers_compiled.py

Needs PyTorch. A model that is compiled as a whole is one layer: what lies inside a compiled region
is never touched, for that would have it compiled again.
"""

from __future__ import annotations

import torch
from torch import nn
from torch._dynamo.utils import counters

import llmwatch


class Block(nn.Module):
    """A step of the model."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One step."""
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Model(nn.Module):
    """Four of them."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One after the other."""
        for block in self.blocks:
            x = block(x)
        return x


def main() -> None:
    """Compile the blocks, serve, and say which took the time."""
    model, x = Model().eval(), torch.randn(8, 64)
    for block in model.blocks:
        block.compile(backend="aot_eager")  # leave the backend out where there is a C++ compiler
    with torch.inference_mode():
        model(x)
        compiled = counters["stats"]["unique_graphs"]
        with llmwatch.watch_layers(model, "all", every=1, flops=False) as watcher:
            for _ in range(20):
                model(x)
    for row in watcher.totals():
        kind = f"{row.layer.type} (compiled)" if row.layer.is_block else row.layer.type
        print(f"{row.layer.name or '(model)':12}{kind:20}{row.share:6.1%}{row.calls:4} calls")
    if counters["stats"]["unique_graphs"] == compiled:
        print("nothing was compiled again")


if __name__ == "__main__":
    main()
