"""Which GPUs are ours: what ``CUDA_VISIBLE_DEVICES`` says.

Numbers are taken in the order of the PCI bus, which is NVML's. CUDA itself puts faster models
first unless ``CUDA_DEVICE_ORDER=PCI_BUS_ID``; on machines with one model of GPU that is the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_NUMBER = re.compile(r"\+?[0-9]+")
"""As C reads one: whatever follows it does not count (``1gpu`` is 1)."""


class Part(NamedTuple):
    """One MIG device, as far as it can be named."""

    id: str
    """``MIG-…``."""
    gpu_instance: int | None = None
    compute_instance: int | None = None


class Whole(NamedTuple):
    """One GPU and its MIG devices, as far as they can be named."""

    id: str
    """``GPU-…``."""
    parts: tuple[Part, ...] = ()


def visible(setting: str | None, gpus: Sequence[Whole | None]) -> set[str]:
    """The ids of the devices that a process may use.

    A GPU that may be used stands for all its MIG devices too; a MIG device that is named stands
    for itself alone, because what its GPU does is others' work as well.

    Args:
        setting: The variable; None: it is not set, everything may be used.
        gpus: All GPUs of the machine in NVML's order; None for one that cannot be asked.
    """
    every = [each for each in gpus if each is not None]
    if setting is None:
        return {uuid for each in every for uuid in _all_of(each)}
    found: set[str] = set()
    tokens = [each.strip() for each in setting.split(",")]
    kind = _kind(tokens[0])
    seen: set[frozenset[str]] = set()
    for token in tokens:
        ids = _named(token, gpus, every) if _kind(token) == kind else set()
        if not ids:
            break  # as in CUDA: whatever follows a name that does not exist is not used either
        name = frozenset(ids)
        if name in seen:
            return set()  # as in CUDA: a device that is named twice hides all
        seen.add(name)
        found |= ids
    return found


def _kind(token: str) -> str:
    """Numbers, GPUs and MIG devices cannot be mixed; the first one says which it is."""
    return "number" if _NUMBER.match(token) else token[:4]


def _all_of(gpu: Whole) -> set[str]:
    return {gpu.id, *(part.id for part in gpu.parts)}


def _named(token: str, gpus: Sequence[Whole | None], every: Sequence[Whole]) -> set[str]:
    if (number := _NUMBER.match(token)) is not None:
        index = int(number.group())
        gpu = gpus[index] if index < len(gpus) else None
        return set() if gpu is None else _all_of(gpu)
    if len(token) > len("MIG-") and token.startswith("MIG-"):
        parts = [part.id for gpu in every for part in gpu.parts if _is(token, gpu, part)]
        return set(parts) if len(parts) == 1 else set()
    if len(token) > len("GPU-") and token.startswith("GPU-"):
        matching = [gpu for gpu in every if gpu.id.startswith(token)]  # CUDA takes a beginning
        return _all_of(matching[0]) if len(matching) == 1 else set()
    return set()


def _is(token: str, gpu: Whole, part: Part) -> bool:
    before_470 = f"MIG-{gpu.id}/{part.gpu_instance}/{part.compute_instance}"
    return part.id.startswith(token) or token == before_470


def in_order(setting: str, names: Sequence[str]) -> list[int]:
    """Which of *names* one of ROCm's variables chooses, as indices, in its order."""
    found: list[int] = []
    for token in (each.strip() for each in setting.split(",")):
        if token.isdecimal() and int(token) < len(names):
            found.append(int(token))
        elif len(token) > len("GPU-") and token in names:
            found.append(names.index(token))
        else:
            break  # whatever follows is not used either
    return found
