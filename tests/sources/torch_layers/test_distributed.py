"""Two ranks of one run: each times its own layers, and says which rank it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed

ROOT = Path(__file__).parents[3]

PROGRAM = """
import json, sys
import torch, torch.distributed as dist
from llmwatch import watch_layers
from llmwatch.testing import capture
from tests.sources.torch_layers.models import IDS, Block, tower

rank, kind, store = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)

def wrapped():
    model = tower().train()
    if kind == "ddp":
        return torch.nn.parallel.DistributedDataParallel(model)
    if kind == "fsdp1":
        from torch.distributed.fsdp import FullyShardedDataParallel
        from torch.distributed.fsdp.wrap import ModuleWrapPolicy
        return FullyShardedDataParallel(
            model, auto_wrap_policy=ModuleWrapPolicy({Block}), device_id=torch.device("cpu")
        )
    from torch.distributed.fsdp import fully_shard
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (2,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model

with capture(sources=["layers"]) as seen:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    plain, model = wrapped(), wrapped()
    plain(IDS).sum().backward()
    with watch_layers(model, "*blocks.?", every=1, flops=False) as watcher:
        model(IDS).sum().backward()
    full = lambda grad: grad.full_tensor() if hasattr(grad, "full_tensor") else grad
    same = all(
        torch.equal(full(a.grad), full(b.grad))
        for a, b in zip(plain.parameters(), model.parameters())
    )
    points = seen.metrics()["llmwatch.layer.duration"]
    dist.barrier()
    dist.destroy_process_group()
print(json.dumps({
    "same": same,
    "phases": [each.phase for each in watcher.samples],
    "calls": [len(each.calls) for each in watcher.samples],
    "ranks": sorted({(p.attributes["llmwatch.rank"], p.attributes["llmwatch.world_size"]) for p in points}),
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without distributed")
@pytest.mark.parametrize("kind", ["ddp", "fsdp1", "fsdp2"])
def test_two_ranks(kind, tmp_path):
    """Gradients are those of an unwatched run; forward and backward are timed on both."""
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), kind, str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for rank in (0, 1)
    ]
    for rank, process in enumerate(ranks):
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, err
        told = json.loads(out.splitlines()[-1])
        assert told["same"]
        assert told["phases"] == ["forward", "backward"]
        assert told["calls"][0] == 4
        assert told["ranks"] == [[rank, 2]]
