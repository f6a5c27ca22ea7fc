"""GPUs as a source: read when metrics are collected, and by nobody in between.

A collection asks for each metric by itself; one reading answers them all. What reads is imported
with the first one, so that `instrument` does not wait for it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from llmwatch.errors import ConfigError
from llmwatch.semconv_hardware import GPU_METRICS, PEAK_METRICS, TORCH_METRICS
from llmwatch.signals.observed import Observation, Reading
from llmwatch.sources.gpu.patience import Patience

if TYPE_CHECKING:
    from llmwatch.measure.machine import Gpu
    from llmwatch.signals.operation import Signals
    from llmwatch.sources.gpu.attribution import Attribution
    from llmwatch.sources.gpu.probe import Probe

_log = logging.getLogger("llmwatch")


class Source:
    """The GPUs of one session.

    Args:
        signals: Where what is read goes.
    """

    def __init__(self, signals: Signals) -> None:
        self._probe: Probe | None = None
        self._told = False
        self._reading = Reading(self._read)
        self._patience = Patience(self._read_all)
        self._attribution: Attribution | None = None
        self._signals = signals

    @property
    def probe(self) -> Probe:
        """What reads; made when first asked for."""
        if self._probe is None:
            from llmwatch.sources.gpu.every import Every
            from llmwatch.sources.gpu.observations import Observations

            self._probe, self._observations = Every(), Observations()
        return self._probe

    def require(self) -> None:
        """See that there is a GPU.

        Raises:
            ConfigError: If there is none.
        """
        from llmwatch.sources.gpu.probe import NoGpuError

        try:
            self.probe.read()
        except NoGpuError as missing:
            self._close()
            raise ConfigError(
                f"sources='gpu' cannot be used: {missing}. Leave 'gpu' out, or see that the driver "
                "and its libnvidia-ml.so.1 can be found here (in a container: give it the GPUs)."
            ) from None

    def start(self) -> None:
        """Observe the GPUs, and poll them where that is wanted."""
        signals, config = self._signals, self._signals.config
        signals.at_close(self._close)
        metrics = GPU_METRICS | TORCH_METRICS
        if config.gpu_poll_interval is not None:
            metrics |= PEAK_METRICS
        for key, metric in metrics.items():
            signals.observe(metric, partial(self._reading, key))
        if config.gpu_poll_interval is not None:
            from llmwatch.sources.gpu.attribution import Attribution

            interval, price = config.gpu_poll_interval, config.gpu_price
            self._attribution = Attribution(signals, self.probe, interval, price)

    def undo(self) -> None:
        """End the poller, if there is one; what is observed ends with the last collection."""
        if self._attribution is not None:
            self._attribution.undo()

    def _close(self) -> None:
        if self._probe is not None:
            self._probe.close()

    def _read_all(self) -> Sequence[Gpu]:
        return self.probe.read()

    def _read(self) -> dict[str, list[Observation]]:
        from llmwatch.sources.gpu.allocator import read_allocators
        from llmwatch.sources.gpu.observations import of_allocators, of_peaks

        gpus, allocators = self._gpus(), read_allocators()
        found = self._observations.of(gpus) | of_allocators(allocators, gpus)
        if self._attribution is not None:
            found |= of_peaks(self._attribution.peaks.take())
        return found

    def _gpus(self) -> Sequence[Gpu]:
        from llmwatch.sources.gpu.probe import NoGpuError

        try:
            return self._patience()
        except NoGpuError as missing:
            if not self._told:
                self._told = True
                _log.debug("llmwatch watches no GPU: %s", missing)
            return ()


def install(signals: Signals) -> Source:
    """Watch the GPUs that this process may use.

    Raises:
        ConfigError: If they were asked for by name and there are none, or if there is a price
            and nothing to be paid.
    """
    config = signals.config
    if config.gpu_price is not None and config.gpu_poll_interval is None:
        raise ConfigError(
            f"gpu_price={config.gpu_price!r} cannot be used: give gpu_poll_interval too, for "
            "example 1.0, so that the GPUs are watched while operations run."
        )
    source = Source(signals)
    if "gpu" in (signals.config.sources or ()):
        source.require()
    source.start()
    return source
