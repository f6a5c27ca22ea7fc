"""A fake driver below AMD's binding ``amdsmi``: builds ``amd.c``; the script is `fake_nvml`'s."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.fake_nvml import GIB

SOURCE = Path(__file__).with_name("amd.c")

MI300: dict[str, Any] = {
    "name": "AMD_Instinct_MI300X",
    "util": 40,
    "util.memory": 25,
    "memory.total": 192 * GIB,
    "memory.used": 20 * GIB,
    "power": 250,
    "power.limit": 750_000_000,
    "energy": 1_000_000,
    "temperature1.0": 45,
    "temperature1.7": 115,
    "temperature2.0": 51,
    "clock0": 2100,
    "clock0.max": 2101,
    "clock4": 1300,
    "clock4.max": 1301,
    "ecc.corrected": 3,
    "ecc.uncorrected": 0,
    "pcie.replays": 2,
    "procs": "none",
}
"""One GPU of a data centre, in AMD SMI's units: it has no fan and no sensor at its edge."""


def wrapper() -> Path | None:
    """The binding's own table of the library's functions."""
    spec = find_spec("amdsmi")
    return (
        None
        if spec is None or spec.origin is None
        else Path(spec.origin).with_name("amdsmi_wrapper.py")
    )


def can_build() -> bool:
    """Whether there is all that it takes."""
    return shutil.which("gcc") is not None and wrapper() is not None


def build(folder: Path) -> Path:
    """Compile the library into *folder*; give its path."""
    folder.mkdir(parents=True, exist_ok=True)
    found = wrapper()
    assert found is not None
    asked = set(re.findall(r"_libraries\['libamd_smi\.so'\]\.(\w+)", found.read_text()))
    here = set(re.findall(r"^int (amdsmi_\w+)\(", SOURCE.read_text(), re.MULTILINE))
    rest = folder / "rest.c"
    rest.write_text("".join(f"int {name}(void) {{ return 2; }}\n" for name in sorted(asked - here)))
    target = folder / "libamd_smi.so"
    quiet = ["-w", "-shared", "-fPIC", "-O1", "-lpthread"]
    subprocess.run(["gcc", SOURCE, rest, "-o", target, *quiet], check=True)
    return target
