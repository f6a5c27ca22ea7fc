"""Build providers of our own, as settings and the standard variables say.

They export by OTLP as soon as anything says where to, or how; with nothing configured at all they
write to the local store. What the SDK reads from the environment itself (limits, queues, samplers,
resource, intervals) is left to it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4
from weakref import WeakKeyDictionary

from opentelemetry import metrics

from llmwatch.config import Config
from llmwatch.errors import ConfigError
from llmwatch.export import otlp
from llmwatch.export.dropped import Signal, watch_queue

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

_log = logging.getLogger("llmwatch")

Build = Callable[["Resource", metrics.MeterProvider], Any]
"""Makes a provider of a resource and of what the SDK shall count itself with; all that can be wrong
was found before it is called."""

PROMETHEUS = "prometheus"
STORE = "llmwatch_store"
"""Our name, beside those of ``OTEL_*_EXPORTER``, for the local store."""

USUAL_QUEUE = 2048
"""Spans: the SDK's default."""

NOBODY = metrics.NoOpMeterProvider()


def prepare(config: Config, signal: Signal, names: list[str]) -> Build:
    """What builds the provider of *signal* with the exporters called *names*.

    Raises:
        ConfigError: If an exporter, protocol or endpoint that was asked for cannot be used.
    """
    return _BUILDERS[signal](config, names)


def build_meter_provider(config: Config) -> metrics.MeterProvider:
    """A fresh meter provider of our own, for a forked child: inherited sums are its parent's.

    Where no port is free for Prometheus, which its parent serves, it goes without.
    """
    names, resource = exporter_names(config, "metrics"), resource_of(config)
    try:
        provider = prepare(config, "metrics", names)(resource, NOBODY)
    except ConfigError as error:
        if PROMETHEUS not in names:
            raise
        _log.warning("llmwatch serves no metrics of this forked process: %s", error)
        names.remove(PROMETHEUS)
        provider = prepare(config, "metrics", names)(resource, NOBODY)
    return cast(metrics.MeterProvider, provider)


def exporter_names(config: Config, signal: Signal) -> list[str]:
    """Names of the exporters that our own provider of *signal* uses.

    Those of ``OTEL_{signal}_EXPORTER``; else ``otlp``, as the specification says; but only our
    local store where nothing at all is said about exporting. A port for Prometheus comes first, so
    that one in use is found before the thread of any other reader runs.
    """
    names = _pushed(config, signal)
    if signal == "metrics" and (PROMETHEUS in names or config.prometheus_port is not None):
        return [PROMETHEUS, *(name for name in names if name != PROMETHEUS)]
    return names


def _pushed(config: Config, signal: Signal) -> list[str]:
    text = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "")
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names and config.backend is not None and signal not in config.backend.signals:
        return []
    if not names:
        return ["otlp"] if _anything_configured(config) else [STORE]
    if "none" in names:
        return []
    if config.endpoint is not None and not any(map(otlp.is_otlp, names)):
        names.append("otlp")  # the keyword wins over the environment
    return names


def _anything_configured(config: Config) -> bool:
    if config.backend or config.endpoint is not None or config.protocol or config.headers:
        return True
    return any(
        text.strip()
        for name, text in os.environ.items()
        if name.startswith("OTEL_EXPORTER_OTLP_")
        or name in ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")
    )


def counting_itself(ours: metrics.MeterProvider) -> metrics.MeterProvider:
    """What the SDK counts itself with: *ours* only if asked to; else it might do so anyway."""
    text = os.environ.get("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "")
    return ours if text.strip().lower() == "true" else NOBODY


def resource_of(config: Config) -> Resource:
    """Of this process: without its own id, a forked child's sums would pass for its parent's."""
    from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource

    attributes = {**_backend_attributes(config), **config.resource_attributes}
    if config.service_name is not None:
        attributes[SERVICE_NAME] = config.service_name
    resource = Resource.create(attributes)
    if SERVICE_INSTANCE_ID not in resource.attributes:  # older releases of the SDK
        resource = resource.merge(Resource({SERVICE_INSTANCE_ID: str(uuid4())}))
    return resource


def _backend_attributes(config: Config) -> dict[str, str]:
    """Those that the backend has variables for, where the standard variables say nothing."""
    from opentelemetry.sdk.resources import OTELResourceDetector

    if config.backend is None:
        return {}
    said = OTELResourceDetector().detect().attributes
    return {key: text for key, text in config.backend.attributes.items() if key not in said}


def _factory(config: Config, signal: Signal, name: str) -> Callable[[], Any]:
    if name == STORE:
        from llmwatch.export import local_store

        exporters: dict[Signal, Callable[[Config], Any]] = {
            "traces": local_store.StoreSpanExporter,
            "metrics": local_store.StoreMetricExporter,
            "logs": local_store.StoreLogExporter,
        }
        return partial(exporters[signal], config)
    if (signal, name) == ("metrics", PROMETHEUS):
        from llmwatch.export.prometheus import serving

        return serving(config)
    if not otlp.is_otlp(name):
        return otlp.named(signal, name)
    factory = otlp.factory(config, signal, name)
    dialect = None if config.backend is None else config.backend.dialect
    return factory if dialect is None or signal != "traces" else _speaking(factory, dialect)


def _speaking(factory: Callable[[], Any], dialect: str) -> Callable[[], Any]:
    from llmwatch.export.dialects import Speaking

    return partial(Speaking, factory, dialect)


def _tracer_provider(config: Config, names: list[str]) -> Build:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    from llmwatch.export.delivery import SpanDelivery
    from llmwatch.export.ids import UniqueIds

    factories = [_factory(config, "traces", name) for name in names]

    def build_provider(resource: Resource, itself: metrics.MeterProvider) -> TracerProvider:
        ratio = config.sample_ratio
        sampler = None if ratio is None else ParentBased(TraceIdRatioBased(ratio))
        provider = TracerProvider(
            sampler=sampler,
            resource=resource,
            id_generator=UniqueIds(),
            shutdown_on_exit=False,
            **_accepted(TracerProvider, meter_provider=itself),
        )
        processors = []
        for factory in factories:
            processor = BatchSpanProcessor(
                SpanDelivery(factory),
                max_queue_size=_queue_size(config),
                **_accepted(BatchSpanProcessor, meter_provider=itself),
            )
            watch_queue(processor, "traces")
            processors.append(processor)
        for each in _sampled(config, processors):
            provider.add_span_processor(each)
        return provider

    return build_provider


def _queue_size(config: Config) -> int | None:
    """Room besides for the spans that wait for the end of their traces, and may come at once."""
    if config.keep is None or os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE", "").strip():
        return None  # as the SDK says
    from llmwatch.export.tail_sampling import MOST_SPANS

    return MOST_SPANS + USUAL_QUEUE


def _sampled(config: Config, processors: list[Any]) -> list[Any]:
    """What exports, behind what decides which traces are worth it, where that is asked for."""
    if config.keep is None and config.trace_limit is None:
        return processors
    from opentelemetry.sdk.trace import SynchronousMultiSpanProcessor

    from llmwatch.export.tail_sampling import of_ours

    together = SynchronousMultiSpanProcessor()  # type: ignore[no-untyped-call]
    for each in processors:
        together.add_span_processor(each)
    return [of_ours(together, config.keep, config.trace_limit)]


def _meter_provider(config: Config, names: list[str]) -> Build:
    from opentelemetry.sdk.metrics import MeterProvider

    factories = [(name, _factory(config, "metrics", name)) for name in names]

    def build_provider(resource: Resource, itself: metrics.MeterProvider) -> MeterProvider:
        readers = [_reader(config, name, factory) for name, factory in factories]
        if config.series_limit is not None:
            for each in readers:
                _limit_series(each, config.series_limit)
        provider = MeterProvider(readers, resource, shutdown_on_exit=False)
        _ports[provider] = [each.release for each in readers if hasattr(each, "release")]
        return provider

    return build_provider


def release(provider: Any) -> None:
    """Free at once the port at which Prometheus asks a provider of ours, if there is one.

    Closing the provider takes as long as its exporters do, and the next one may want that port.
    """
    for free in _ports.pop(provider, ()):
        free()


_ports: WeakKeyDictionary[Any, list[Callable[[], None]]] = WeakKeyDictionary()


def _limit_series(reader: MetricReader, limit: int) -> None:
    """Bound the attribute sets of each metric; releases of the SDK without limits keep none."""
    # Not by the keyword: readers of other packages, such as Prometheus', do not pass it on.
    limits = getattr(reader, "_instrument_class_cardinality_limit", None)
    if isinstance(limits, dict):
        limits.update(dict.fromkeys(limits, limit))


def _reader(config: Config, name: str, factory: Callable[[], Any]) -> MetricReader:
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

    from llmwatch.export.delivery import MetricDelivery

    if name == STORE:
        exporter = MetricDelivery(factory)
    elif otlp.is_otlp(name) and (preferences := otlp.metric_preferences(config)) is not None:
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


def _logger_provider(config: Config, names: list[str]) -> Build:
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


_BUILDERS: dict[Signal, Callable[[Config, list[str]], Build]] = {
    "traces": _tracer_provider,
    "metrics": _meter_provider,
    "logs": _logger_provider,
}
