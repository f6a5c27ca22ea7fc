"""Choose the three providers that telemetry goes through, and flush and close them in time.

Signal by signal: the one given in the settings; else the application's global one; else one of our
own, which `builders` builds.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from opentelemetry import _logs, metrics, trace

from llmwatch._guard import Foreign
from llmwatch.config import Config
from llmwatch.export import builders, global_providers
from llmwatch.export.bounded import Call, Drain, wait
from llmwatch.export.dropped import SIGNALS, Signal, dropped_counts

_log = logging.getLogger("llmwatch")
_FOREIGN = Foreign()


@dataclass(frozen=True)
class Providers:
    """The three providers in force, and which of them llmwatch built."""

    tracer_provider: trace.TracerProvider
    meter_provider: metrics.MeterProvider
    logger_provider: _logs.LoggerProvider
    owned: frozenset[Signal] = frozenset()
    store: Path | None = None
    """Directory of the local store, if one of them writes there."""
    retired: tuple[Any, ...] = ()
    """Providers of ours that were replaced; what was in flight then still ends in them."""
    _drains: defaultdict[int, Drain] = field(
        default_factory=lambda: defaultdict(Drain), repr=False, compare=False
    )

    def of(self, signal: Signal) -> Any:
        """The provider of one signal."""
        return getattr(self, _FIELDS[signal])

    def having(self, signal: Signal, provider: Any, **changes: Any) -> Providers:
        """These providers with another one for *signal*, and other changes."""
        return replace(self, **{_FIELDS[signal]: provider}, **changes)

    def flush(self, timeout: float) -> bool:
        """Hand over what is queued, within *timeout* seconds, whatever the exporters do.

        Returns:
            True if all was handed over in time and no exporter of ours failed. What becomes of it
            behind providers that llmwatch did not build cannot be known.
        """
        deadline, lost = monotonic() + timeout, dropped_counts()
        calls = [
            self._drains[id(provider)].start(partial(_flush, provider, timeout))
            for provider in (*map(self.of, SIGNALS), *self.retired)
        ]
        done = wait([call for call in calls if call is not None], deadline)
        return done and None not in calls and dropped_counts() == lost

    def shutdown(self, timeout: float) -> bool:
        """Flush and close those that llmwatch built, within *timeout* seconds; True as above."""
        deadline, lost = monotonic() + timeout, dropped_counts()
        ours = (*map(self.of, sorted(self.owned)), *self.retired)
        for provider in ours:
            builders.release(provider)
        calls = [Call(provider.shutdown) for provider in ours if hasattr(provider, "shutdown")]
        for call in calls:
            call.start()
        return wait(calls, deadline) and dropped_counts() == lost


_FIELDS = {
    "traces": "tracer_provider",
    "metrics": "meter_provider",
    "logs": "logger_provider",
}
_NO_OP: dict[Signal, Callable[[], Any]] = {
    "traces": trace.NoOpTracerProvider,
    "metrics": metrics.NoOpMeterProvider,
    "logs": _logs.NoOpLoggerProvider,
}


def _flush(provider: Any, timeout: float) -> object:
    flush = getattr(provider, "force_flush", None)  # the API's own providers have none
    if flush is None:
        return True
    with _FOREIGN:  # the SDK's meter provider raises where it could not do it in time
        return flush(timeout_millis=max(1, int(timeout * 1000)))
    return False


def build(config: Config) -> Providers:
    """The providers for *config*; those that must be built are, and their threads started.

    Raises:
        ConfigError: If an exporter, protocol or endpoint that was asked for cannot be used.
    """
    names: dict[Signal, list[str]] = {}
    chosen: dict[str, Any] = {}
    for signal in SIGNALS:
        found = getattr(config, _FIELDS[signal])
        if found is not None:
            say_unused(config, signal, "was given", tuple(ABOUT))
        elif (found := global_providers.get(signal)) is not None:
            say_unused(config, signal, GLOBAL, (*DESTINATION, *ABOUT))
        if found is None and _disabled():
            found = _NO_OP[signal]()
        if found is None:
            names[signal] = builders.exporter_names(config, signal)
        chosen[_FIELDS[signal]] = found
    ready = {signal: builders.prepare(config, signal, names[signal]) for signal in names}
    if ready:
        resource = builders.resource_of(config)
        if "metrics" in ready:
            chosen["meter_provider"] = ready.pop("metrics")(resource, builders.NOBODY)
        itself = builders.counting_itself(chosen["meter_provider"])
        for signal, build_provider in ready.items():
            chosen[_FIELDS[signal]] = build_provider(resource, itself)
    return Providers(**chosen, owned=frozenset(names), store=_store(config, names))


def _disabled() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


GLOBAL = "the application made global"
DESTINATION = ("backend", "endpoint")
ABOUT: dict[str, Signal] = {
    "sample_ratio": "traces",
    "keep": "traces",
    "trace_limit": "traces",
    "prometheus_port": "metrics",
    "series_limit": "metrics",
    "export_interval": "metrics",
}
"""Settings about one signal that only a provider of ours follows."""


def say_unused(config: Config, signal: Signal, whose: str, settings: tuple[str, ...]) -> None:
    """Warn of settings that are not followed, since *signal* goes through another's provider."""
    for setting in settings:
        if ABOUT.get(setting, signal) == signal and getattr(config, setting) is not None:
            _log.warning(
                "llmwatch sends %s through the provider that %s; %s= is not used for them",
                signal,
                whose,
                setting,
            )


def _store(config: Config, names: dict[Signal, list[str]]) -> Path | None:
    if not any(builders.STORE in each for each in names.values()):
        return None
    from llmwatch.export import local_store

    return local_store.directory(config)
