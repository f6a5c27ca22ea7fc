"""A fake driver below the real binding: builds ``nvml.c``, and writes what it shall say."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path
from time import monotonic
from typing import Any

SOURCE = Path(__file__).with_name("nvml.c")
GIB = 1024**3

H100: dict[str, Any] = {
    "name": "NVIDIA_H100_80GB_HBM3",
    "util": 40,
    "util.memory": 25,
    "encoder": 0,
    "decoder": 7,
    "memory.total": 80 * GIB,
    "memory.reserved": GIB // 2,
    "memory.used": 20 * GIB,
    "power": 250_000,
    "power.limit": 700_000,
    "energy": 5_000_000,
    "temperature": 45,
    "temperature.limit0": 95,
    "temperature.limit1": 92,
    "temperature.limit2": 105,
    "temperature.limit3": 87,
    "clock.sm": 1755,
    "clock.memory": 2619,
    "clock.max.sm": 1980,
    "clock.max.memory": 2620,
    "pstate": 0,
    "throttle": 0,
    "ecc.corrected": 3,
    "ecc.uncorrected": 0,
    "pcie.replays": 2,
    "field82": 51,
    "field138": 1000,
    "field139": 2000,
    "field197": 4096,
    "field198": 8192,
    "procs": "none",
}
"""One GPU of a data centre, which has no fan, in NVML's units."""


def header() -> Path | None:
    """The folder of ``nvml.h``, as the package ``nvidia-nvml-dev`` brings it."""
    found = Path(sysconfig.get_path("purelib")).glob("nvidia/*/include/nvml.h")
    return next((path.parent for path in found), None)


def can_build() -> bool:
    """Whether there is all that it takes."""
    return shutil.which("gcc") is not None and header() is not None


def build(folder: Path, *flags: str) -> Path:
    """Compile the library into *folder*; give its path."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "libnvidia-ml.so.1"
    quiet = ["-w", "-shared", "-fPIC", "-O1", f"-I{header()}", "-lpthread"]
    subprocess.run(["gcc", SOURCE, "-o", target, *quiet, *flags], check=True)
    return target


class Driver:
    """The script of a fake driver; what is set here holds at once, in every process that uses it.

    Args:
        path: Where the script is; ``FAKE_NVML_SCRIPT`` names it to the library.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[tuple[float, str, str], Any] = {}
        self.set("-", driver="550.54.15", count=0)
        self.start()

    def start(self) -> None:
        """Let time 0 of the script be now."""
        self.set("-", epoch=f"{monotonic():.6f}")

    def add(self, kind: dict[str, Any] = H100, **values: Any) -> str:
        """Add a GPU; give its UUID."""
        index = int(self._lines[0.0, "-", "count"])
        uuid = f"GPU-{index:08x}-0000-4000-8000-000000000000"
        self.set(str(index), **{**kind, "uuid": uuid, **values})
        self.set("-", count=index + 1)
        return uuid

    def add_part(self, gpu: int, part: int, **values: Any) -> str:
        """Add a MIG device to a GPU; give its UUID."""
        uuid = f"MIG-{gpu:08x}-0000-4000-8000-{part:012x}"
        self.set(str(gpu), mig__mode=1, mig__max=7)
        instances = {"mig.gpu_instance": part + 7, "mig.compute_instance": 0}
        self.set(f"{gpu}/{part}", **{"uuid": uuid, **instances, **values})
        return uuid

    def set(self, device: str, at: float = 0.0, **values: Any) -> None:
        """Say what keys are, from a time on; ``__`` is read as ``.``; None takes a key away."""
        for key, value in values.items():
            entry = at, device, key.replace("__", ".")
            self._lines.pop(entry, None)
            if value is not None:
                self._lines[entry] = value
        draft = self.path.with_suffix(".draft")
        draft.write_text(
            "".join(
                f"{at} {device} {key} {str(value).replace(' ', '_')}\n"
                for (at, device, key), value in self._lines.items()
            )
        )
        draft.replace(self.path)
