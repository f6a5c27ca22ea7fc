"""The GPUs of every vendor together; a further one joins here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmwatch.measure.machine import Gpu
from llmwatch.sources.gpu.amd import Amd
from llmwatch.sources.gpu.nvidia import Nvidia
from llmwatch.sources.gpu.probe import NoGpuError, Probe


class Every:
    """All GPUs that this process may use (see `probe.Probe`)."""

    def __init__(self) -> None:
        self._probes: tuple[Probe, ...] = (Nvidia(), Amd())

    def read(self) -> Sequence[Gpu]:
        """See `probe.Probe.read`."""
        return self._of_each(lambda probe: probe.read())

    def glance(self) -> Sequence[Gpu]:
        """See `probe.Probe.glance`."""
        return self._of_each(lambda probe: probe.glance())

    def close(self) -> None:
        """See `probe.Probe.close`."""
        for probe in self._probes:
            probe.close()

    def _of_each(self, look: Callable[[Probe], Sequence[Gpu]]) -> list[Gpu]:
        found: list[Gpu] = []
        missing = []
        for probe in self._probes:
            try:
                found += look(probe)
            except NoGpuError as error:
                missing.append(str(error))
        if len(missing) == len(self._probes):
            raise NoGpuError("; ".join(missing))
        return found
