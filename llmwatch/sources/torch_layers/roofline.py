"""Measure the most that a device does: FLOP/s of a matrix product, bytes/s of a copy."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from time import perf_counter

import torch

from llmwatch.measure.roofline import Roof, best

REPETITIONS = 5
BUDGET = 0.15
"""Seconds for each of the two."""
COPY = 128 << 20
"""Bytes that are copied: more than most caches hold."""
SIDE = {"cpu": 1024}
OTHER_SIDE = 4096
"""Rows and columns of the matrices."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@cache
def roof_of(device: str, dtype: torch.dtype, threads: int) -> Roof | None:
    """What a device can do, measured once; None for a dtype that has no matrix product of floats.

    Args:
        device: For example ``"cpu"`` or ``"cuda:0"``.
        dtype: Of the model's weights.
        threads: Of torch, on this thread: a CPU's roof depends on them.

    Cost: about 0.3 s and 256 MB of the device's memory, once. Call it where nobody waits; other
    work on the device meanwhile makes the roof too low.
    """
    if dtype not in DTYPES:
        return None
    with torch.inference_mode():
        flops, flops_error = best(_product(device, dtype))
        bandwidth, bandwidth_error = best(_copy(device))
    name = str(dtype).removeprefix("torch.")
    return Roof(device, name, flops, bandwidth, flops_error, bandwidth_error)


def _product(device: str, dtype: torch.dtype) -> list[float]:
    side = SIDE.get(device, OTHER_SIDE)
    left = torch.ones(side, side, device=device, dtype=dtype)
    out = torch.empty_like(left)
    return [2 * side**3 / each for each in _times(device, lambda: torch.mm(left, left, out=out))]


def _copy(device: str) -> list[float]:
    source = torch.ones(COPY // 4, device=device, dtype=torch.float32)
    target = torch.empty_like(source)
    return [2 * COPY / each for each in _times(device, lambda: target.copy_(source))]


def _times(device: str, work: Callable[[], object]) -> list[float]:
    """Seconds that each repetition took, after a first one to warm up."""
    done = _waiter(device)
    work()
    done()
    times: list[float] = []
    while len(times) < REPETITIONS or (sum(times) < BUDGET and len(times) < 20 * REPETITIONS):
        began = perf_counter()
        work()
        done()
        times.append(perf_counter() - began)
        if sum(times) > 4 * BUDGET:  # a slow or busy machine: be done
            break
    return times


def _waiter(device: str) -> Callable[[], object]:
    kind = torch.device(device).type
    if kind == "cpu":
        return lambda: None
    return lambda: torch.accelerator.synchronize(torch.device(device))
