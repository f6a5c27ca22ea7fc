"""A program that takes storage on PyTorch's scripted device: prints what llmwatch says at each step.

python -m tests.sources.gpu.allocating LIBRARY UUID-OF-THE-FIRST UUID-OF-THE-SECOND
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from llmwatch.signals.observed import FRESH
from llmwatch.testing import capture
from tests.fake_torch import MIB, load


def told(seen):
    """The points of PyTorch's metrics now: by metric, then by device."""
    time.sleep(FRESH)
    return {
        name.removeprefix("llmwatch.torch.memory."): {
            point.attributes["llmwatch.torch.device"]: [point.value, dict(point.attributes)]
            for point in points
        }
        for name, points in seen.metrics().items()
        if name.startswith("llmwatch.torch.")
    }


def main(library, *uuids):
    steps = {}
    with capture(sources=["gpu"]) as seen:
        steps["not loaded"] = told(seen)
        assert "torch" not in sys.modules
        import torch

        load(Path(library), list(uuids))
        steps["not used"] = told(seen)

        def take(size, index=0):
            return torch.UntypedStorage(size, device=f"scripted:{index}")

        held = [take(MIB), take(MIB // 2)]
        other = take(1000, 1)
        steps["used"] = told(seen)
        del held[0]
        steps["given back"] = told(seen)
        try:
            take(64 * MIB)
        except torch.OutOfMemoryError:
            steps["out of memory"] = told(seen)
        torch.accelerator.reset_peak_memory_stats(0)
        steps["reset"] = told(seen)
        del held, other
    print(json.dumps(steps))


if __name__ == "__main__":
    main(*sys.argv[1:])
