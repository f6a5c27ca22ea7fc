"""A device below the real PyTorch, whose allocator's books can be checked by hand: ``device.cpp``."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

SOURCE = Path(__file__).with_name("device.cpp")
MIB = 1024**2


def can_build() -> bool:
    """Whether there is all that it takes."""
    return shutil.which("g++") is not None and find_spec("torch") is not None


def build(folder: Path) -> Path:
    """Compile the device into *folder*; give its path. Takes ten seconds."""
    import torch

    here = Path(torch.__file__).parent
    target = folder / "libscripted.so"
    include = [f"-I{here}/include", f"-I{here}/include/torch/csrc/api/include"]
    link = [f"-L{here}/lib", "-ltorch_cpu", "-lc10"]
    flags = ["-std=c++20", "-w", "-O0", "-shared", "-fPIC"]
    subprocess.run(["g++", *flags, *include, SOURCE, "-o", target, *link], check=True)
    return target


def load(library: Path, uuids: list[str]) -> None:
    """Let this process's torch have the devices, as a vendor's package does it."""
    import torch

    torch.utils.rename_privateuse1_backend("scripted")
    torch.ops.load_library(str(library))
    module = ModuleType("torch.scripted")
    pid = os.getpid()

    def is_initialized() -> bool:
        """As of `torch.cuda`: never in a child of a process that had used it."""
        return os.getpid() == pid and bool(torch.accelerator.memory_stats(0))

    found = {
        "is_initialized": is_initialized,
        "device_count": lambda: len(uuids),
        "memory_stats": torch.accelerator.memory_stats,
        "get_device_properties": lambda index: SimpleNamespace(uuid=uuids[index]),
    }
    vars(module).update(found)
    torch._register_device_module("scripted", module)
