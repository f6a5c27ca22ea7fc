"""What llmwatch asks of a vendor's library: the seam at which another vendor joins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from llmwatch.measure.machine import Gpu


class NoGpuError(Exception):
    """There is no such library, driver or device here; the message says what and why."""


class Probe(Protocol):
    """One vendor's GPUs: those that this process may use.

    May be used from any thread; opens itself when first asked, and again after a fork.
    """

    def read(self) -> Sequence[Gpu]:
        """Everything that can be read now; a device that is lost at the moment is left out.

        Raises:
            NoGpuError: If there is nothing to read.
        """

    def glance(self) -> Sequence[Gpu]:
        """The same devices with only energy, power, utilisation, memory and own share: cheaper.

        Raises:
            NoGpuError: If there is nothing to read.
        """

    def close(self) -> None:
        """Let go of the library; being asked again opens it again."""
