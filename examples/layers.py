"""Time the layers of a model that serves and trains.

    python examples/layers.py

Needs PyTorch. Prints where the time goes, forward and backward.
"""

from __future__ import annotations

import torch
from torch import nn

import llmwatch


def main() -> None:
    """Serve, then train, and say which layers took the time."""
    blocks = [nn.TransformerEncoderLayer(64, 4, 256, batch_first=True) for _ in range(4)]
    model = nn.Sequential(nn.Embedding(100, 64), nn.Sequential(*blocks), nn.Linear(64, 100))
    ids = torch.randint(0, 100, (2, 32))
    with llmwatch.watch_layers(model, every=1, flops=False) as watcher:
        with torch.inference_mode():
            for _ in range(10):
                model(ids)
        for _ in range(10):
            model(ids).sum().backward()
    for row in watcher.totals():
        name = row.layer.name or "(model)"
        print(f"{row.phase:9}{name:9}{row.layer.type:26}{row.share:6.1%}{row.calls:4} calls")


if __name__ == "__main__":
    main()
