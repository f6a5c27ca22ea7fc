"""Find the rank that the others wait for: each times its own layers, and says which rank it is.

    python examples/layers_ranks.py

Needs PyTorch. Two processes train together on this machine. In metrics and spans of layers each has
`llmwatch.rank` and `llmwatch.world_size`, so a dashboard can compare them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import sleep

import torch
import torch.distributed as dist
from torch import multiprocessing, nn

import llmwatch

RANKS = 2


class Block(nn.Module):
    """A step of the model, which on one rank takes longer than it should."""

    def __init__(self, pause: float) -> None:
        super().__init__()
        self.inner = nn.Linear(32, 32)
        self.pause = pause

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One step."""
        sleep(self.pause)
        return x + self.inner(x)


def train(rank: int, store: str) -> None:
    """A few steps on one rank."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS)
    late = 0.02 if rank == 1 else 0.0
    model = nn.Sequential(nn.Sequential(*(Block(late if each == 2 else 0.0) for each in range(4))))
    parallel = nn.parallel.DistributedDataParallel(model)
    with llmwatch.watch_layers(model, every=1, flops=False, name="example") as watcher:
        for _ in range(5):
            parallel(torch.randn(4, 32)).sum().backward()
    rows = [row for row in watcher.totals() if row.layer.is_block and row.phase == "forward"]
    longest = max(rows, key=lambda row: row.total_time)
    seconds = sum(row.total_time for row in rows) / rows[0].passes
    name = f"blocks.{longest.layer.block}"
    dist.barrier()
    print(f"rank {rank} of {RANKS}: {seconds * 1e3:.1f} ms in its blocks; {name} takes longest")
    dist.destroy_process_group()


def main() -> None:
    """Start the ranks, and wait for them."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(train, (str(Path(folder) / "store"),), nprocs=RANKS)


if __name__ == "__main__":
    main()
