"""PyTorch's memory allocator: what this process holds of its devices, where it uses torch.

Nothing here imports torch or wakes a device up, and nothing waits for one. A process that has not
used its accelerator, or that was forked from one that had, has no numbers: those that torch would
give there are its parent's.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from llmwatch.measure.machine import Allocator


def read_allocators() -> list[Allocator]:
    """One for each device that torch could use here, if it has used any.

    Cost: 0.2 ms a device.
    """
    kind, module = _accelerator()
    if module is None or not module.is_initialized():
        return []
    found = [_read(kind, module, index) for index in range(module.device_count())]
    return [each for each in found if each is not None]


def _accelerator() -> tuple[str, Any]:
    """The kind of device (``cuda``, for AMD's too) and torch's module for it, if it has numbers."""
    torch: Any = sys.modules.get("torch")
    accelerator = getattr(torch, "accelerator", None)  # not before torch 2.6, nor while it loads
    device = None if accelerator is None else accelerator.current_accelerator()
    if device is None:
        return "", None
    module = torch.get_device_module(device)
    told = hasattr(module, "is_initialized") and hasattr(module, "memory_stats")  # mps: neither
    return device.type, module if told else None


def _read(kind: str, module: Any, index: int) -> Allocator | None:
    stats: Mapping[str, int] = module.memory_stats(index)
    if not stats:
        return None
    backend = getattr(module, "get_allocator_backend", None)
    native = backend is None or backend() == "native"  # of CUDA's own, torch knows only sizes
    reserved, stuck = _of(stats, "reserved_bytes"), _of(stats, "inactive_split_bytes")
    return Allocator(
        f"{kind}:{index}",
        _uuid(module, index),
        allocated=_of(stats, "allocated_bytes"),
        reserved=reserved,
        allocated_max=_of(stats, "allocated_bytes", "peak"),
        reserved_max=_of(stats, "reserved_bytes", "peak"),
        fragmentation=stuck / reserved if native and reserved and stuck is not None else None,
        ooms=stats.get("num_ooms") if native else None,
        retries=stats.get("num_alloc_retries") if native else None,
    )


def _of(stats: Mapping[str, int], what: str, when: str = "current") -> int | None:
    return stats.get(f"{what}.all.{when}")


def _uuid(module: Any, index: int) -> str | None:
    properties = getattr(module, "get_device_properties", None)
    uuid = None if properties is None else getattr(properties(index), "uuid", None)
    return None if uuid is None else str(uuid)
