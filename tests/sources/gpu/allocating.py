"""A program that takes storage on PyTorch's scripted device: prints what llmwatch says at each step.

python -m tests.sources.gpu.allocating LIBRARY UUID-OF-THE-FIRST UUID-OF-THE-SECOND
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from llmwatch import session
from llmwatch.signals.observed import FRESH
from llmwatch.sources.gpu import source
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


def of_a_child():
    """What a forked child says that asks at once, when its parent has just been asked."""
    (mine,) = [
        each.__self__
        for each in session.current()._undo
        if isinstance(getattr(each, "__self__", None), source.Source)
    ]
    assert mine._reading("torch_allocated")
    end, start = os.pipe()
    if (pid := os.fork()) == 0:
        found = [each.value for each in mine._reading("torch_allocated")]
        os.write(start, json.dumps(found).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(start)
    with os.fdopen(end) as answer:
        return json.load(answer)


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
        steps["in a child"] = of_a_child()
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
