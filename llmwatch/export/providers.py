"""Choose or build the three providers that telemetry goes through.

Signal by signal: the one given in the settings; else the application's global one; else one of our
own. Our own export by OTLP as soon as anything says where to, or how; with nothing configured at
all they write to the local store.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from inspect import signature
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from opentelemetry import _logs, metrics, trace

from llmwatch.config import Config
from llmwatch.export import global_providers, otlp
from llmwatch.export.bounded import Call, Drain, wait
from llmwatch.export.dropped import SIGNALS, Signal, dropped_counts, watch_queue

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource

_log = logging.getLogger("llmwatch")

_Build = Callable[["Resource", metrics.MeterProvider], Any]
"""Makes a provider of a resource and of what the SDK shall count itself with; all that can be wrong
was found before it is called."""

STORE = "llmwatch_store"
"""Our name, beside those of ``OTEL_*_EXPORTER``, for the local store."""


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
    return flush is None or flush(timeout_millis=max(1, int(timeout * 1000)))


def build(config: Config) -> Providers:
    """The providers for *config*; those that must be built are, and their threads started.

    Raises:
        ConfigError: If an exporter, protocol or endpoint that was asked for cannot be used.
    """
    names: dict[Signal, list[str]] = {}
    chosen: dict[str, Any] = {}
    for signal in SIGNALS:
        found = getattr(config, _FIELDS[signal])
        if found is None and (found := global_providers.get(signal)) is not None:
            _say_unused(config, signal)
        if found is None and _disabled():
            found = _NO_OP[signal]()
        if found is None:
            names[signal] = exporter_names(config, signal)
        chosen[_FIELDS[signal]] = found
    builders = {signal: _BUILDERS[signal](config, named) for signal, named in names.items()}
    if builders:
        resource = _resource(config)
        if "metrics" in builders:
            chosen["meter_provider"] = builders.pop("metrics")(resource, _NOBODY)
        itself = chosen["meter_provider"] if _counts_itself() else _NOBODY
        for signal, build_provider in builders.items():
            chosen[_FIELDS[signal]] = build_provider(resource, itself)
    return Providers(**chosen, owned=frozenset(names), store=_store(config, names))


def build_meter_provider(config: Config) -> metrics.MeterProvider:
    """A fresh meter provider of our own, for a forked child: inherited sums are its parent's."""
    provider = _meter_provider(config, exporter_names(config, "metrics"))(
        _resource(config), _NOBODY
    )
    return cast(metrics.MeterProvider, provider)


def exporter_names(config: Config, signal: Signal) -> list[str]:
    """Names of the exporters that our own provider of *signal* uses.

    Those of ``OTEL_{signal}_EXPORTER``; else ``otlp``, as the specification says; but only our
    local store where nothing at all is said about exporting.
    """
    text = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "")
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        return ["otlp"] if _anything_configured(config) else [STORE]
    if "none" in names:
        return []
    if config.endpoint is not None and not any(map(otlp.is_otlp, names)):
        names.append("otlp")  # the keyword wins over the environment
    return names


def _anything_configured(config: Config) -> bool:
    if config.endpoint is not None or config.protocol is not None or config.headers:
        return True
    return any(
        text.strip()
        for name, text in os.environ.items()
        if name.startswith("OTEL_EXPORTER_OTLP_")
        or name in ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")
    )


def _disabled() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _counts_itself() -> bool:
    """Whether the SDK was asked for metrics about itself; told nothing, it may make some anyway."""
    text = os.environ.get("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "")
    return text.strip().lower() == "true"


_NOBODY = metrics.NoOpMeterProvider()


def _say_unused(config: Config, signal: Signal) -> None:
    if config.endpoint is not None:
        _log.warning(
            "llmwatch sends %s through the provider that the application made global; endpoint= is "
            "not used for them",
            signal,
        )


def _store(config: Config, names: dict[Signal, list[str]]) -> Path | None:
    if not any(STORE in each for each in names.values()):
        return None
    from llmwatch.export import local_store

    return local_store.directory(config)


def _resource(config: Config) -> Resource:
    """Of this process: without its own id, a forked child's sums would pass for its parent's."""
    from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource

    attributes = dict(config.resource_attributes)
    if config.service_name is not None:
        attributes[SERVICE_NAME] = config.service_name
    resource = Resource.create(attributes)
    if SERVICE_INSTANCE_ID not in resource.attributes:  # older releases of the SDK
        resource = resource.merge(Resource({SERVICE_INSTANCE_ID: str(uuid4())}))
    return resource


def _factory(config: Config, signal: Signal, name: str) -> Callable[[], Any]:
    if name == STORE:
        from llmwatch.export import local_store

        exporters: dict[Signal, Callable[[Config], Any]] = {
            "traces": local_store.StoreSpanExporter,
            "metrics": local_store.StoreMetricExporter,
            "logs": local_store.StoreLogExporter,
        }
        return partial(exporters[signal], config)
    if (signal, name) == ("metrics", "prometheus"):
        from llmwatch.export.prometheus import PrometheusReader

        return PrometheusReader
    return otlp.factory(config, signal, name) if otlp.is_otlp(name) else otlp.named(signal, name)


def _tracer_provider(config: Config, names: list[str]) -> _Build:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    from llmwatch.export.delivery import SpanDelivery

    factories = [_factory(config, "traces", name) for name in names]

    def build_provider(resource: Resource, itself: metrics.MeterProvider) -> TracerProvider:
        ratio = config.sample_ratio
        sampler = None if ratio is None else ParentBased(TraceIdRatioBased(ratio))
        provider = TracerProvider(
            sampler=sampler,
            resource=resource,
            shutdown_on_exit=False,
            **_accepted(TracerProvider, meter_provider=itself),
        )
        for factory in factories:
            processor = BatchSpanProcessor(
                SpanDelivery(factory), **_accepted(BatchSpanProcessor, meter_provider=itself)
            )
            watch_queue(processor, "traces")
            provider.add_span_processor(processor)
        return provider

    return build_provider


def _meter_provider(config: Config, names: list[str]) -> _Build:
    from opentelemetry.sdk.metrics import MeterProvider

    factories = [(name, _factory(config, "metrics", name)) for name in names]

    def build_provider(resource: Resource, itself: metrics.MeterProvider) -> MeterProvider:
        readers = [_reader(config, name, factory) for name, factory in factories]
        return MeterProvider(readers, resource, shutdown_on_exit=False)

    return build_provider


def _reader(config: Config, name: str, factory: Callable[[], Any]) -> MetricReader:
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

    from llmwatch.export.delivery import MetricDelivery

    if name == STORE:
        exporter = MetricDelivery(factory)
    elif otlp.is_otlp(name) and (preferences := otlp.metric_preferences()) is not None:
        exporter = MetricDelivery(factory, temporality=preferences[0], aggregation=preferences[1])
    else:
        built = factory()
        if isinstance(built, MetricReader):  # one that is asked, such as Prometheus'
            return built
        exporter = MetricDelivery(
            factory,
            built,
            temporality=built._preferred_temporality,
            aggregation=built._preferred_aggregation,
        )
    interval = config.export_interval
    return PeriodicExportingMetricReader(
        exporter, export_interval_millis=None if interval is None else interval * 1000
    )


def _logger_provider(config: Config, names: list[str]) -> _Build:
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    from llmwatch.export.delivery import LogDelivery

    factories = [_factory(config, "logs", name) for name in names]

    def build_provider(resource: Resource, itself: metrics.MeterProvider) -> LoggerProvider:
        provider = LoggerProvider(
            resource, shutdown_on_exit=False, **_accepted(LoggerProvider, meter_provider=itself)
        )
        for factory in factories:
            processor = BatchLogRecordProcessor(
                LogDelivery(factory), **_accepted(BatchLogRecordProcessor, meter_provider=itself)
            )
            watch_queue(processor, "logs")
            provider.add_log_record_processor(processor)
        return provider

    return build_provider


def _accepted(kind: type, **keywords: Any) -> dict[str, Any]:
    """Those of *keywords* that this release of the SDK knows."""
    known = signature(kind).parameters
    return {name: value for name, value in keywords.items() if name in known}


_BUILDERS: dict[Signal, Callable[[Config, list[str]], _Build]] = {
    "traces": _tracer_provider,
    "metrics": _meter_provider,
    "logs": _logger_provider,
}
