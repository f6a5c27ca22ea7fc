"""Print what the tokens of a model in this process cost: joules per token, and dollars.

    python examples/gpu.py

Where there is no NVIDIA GPU it says so, and shows the same on a simulated one, if it is run in a
checkout that has gcc and the package nvidia-nvml-dev (both are for the project's tests).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import llmwatch
from llmwatch.testing import capture

TOKENS = 40


@llmwatch.watch(operation="text_completion", model="tiny-lm")
def generate(tokens: int) -> None:
    """Stands for a model: it takes 10 ms a token."""
    time.sleep(0.01 * tokens)
    llmwatch.current().usage(output_tokens=tokens)


def main() -> None:
    """Generate three times, and read what it cost."""
    try:
        watched = capture(sources=["gpu"], gpu_poll_interval=0.05, gpu_price=2.49)
        with watched as seen:
            time.sleep(0.1)  # the first poll
            for factor in (1, 2, 4):
                generate(factor * TOKENS)
            llmwatch.flush()
    except llmwatch.ConfigError as error:
        print(error)
        simulate()
        return
    for span in seen.spans:
        said = span.attributes or {}
        tokens = said["gen_ai.usage.output_tokens"]
        joules, per_token = said["llmwatch.gpu.energy.used"], said["llmwatch.gpu.energy.per_token"]
        cost = said["llmwatch.gpu.cost.usd"]
        print(f"{tokens:4} tokens {joules:7.1f} J {per_token:5.2f} J per token {cost:.7f} USD")


def simulate() -> None:
    """Start again on a fake driver that counts 250 W."""
    checkout = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(checkout))
    try:
        from tests.fake_nvml import Driver, build, can_build
    except ImportError:
        return
    if "FAKE_NVML_SCRIPT" in os.environ or not can_build():
        return
    folder = Path(tempfile.mkdtemp(prefix="fake-nvml-"))
    driver = Driver(folder / "script")
    driver.add(energy="0+250000t")
    print("So this is a simulated one that draws 250 W:", flush=True)
    os.environ["FAKE_NVML_SCRIPT"] = str(folder / "script")
    os.environ["LD_LIBRARY_PATH"] = str(build(folder).parent)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves


if __name__ == "__main__":
    main()
