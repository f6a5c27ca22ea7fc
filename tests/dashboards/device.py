"""A program that holds memory of a device of PyTorch's, by a fake driver, until its input ends.

    python -m tests.dashboards.device PORT LIBRARY

Continuous batching does not know what to do with such a device, so it is not in `load`.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import torch

import llmwatch
from tests.fake_torch import MIB, load


def main(port: str, library: str) -> None:
    """Take, fail to take, hold."""
    load(Path(library), ["GPU-00000000-0000-4000-8000-000000000000"])
    llmwatch.instrument(prometheus_port=port)
    held = torch.UntypedStorage(MIB, device="scripted:0")
    with contextlib.suppress(torch.OutOfMemoryError):
        torch.UntypedStorage(64 * MIB, device="scripted:0")
    print("ready", flush=True)
    sys.stdin.read()
    del held


if __name__ == "__main__":
    main(*sys.argv[1:])
