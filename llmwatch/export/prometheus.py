"""Serve metrics to Prometheus, and stop serving when asked to.

The exporter's own class for ``OTEL_METRICS_EXPORTER=prometheus`` starts a server that nothing can
stop, whose socket every forked child keeps open, and which answers nobody once a histogram is
exponential. A port is its process' own: a forked child takes the next free one of a range, or none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from socket import SHUT_RDWR
from threading import Lock
from typing import Any

from opentelemetry.sdk.metrics.export import ExponentialHistogram, MetricsData

from llmwatch.config import Config
from llmwatch.errors import ConfigError, MissingExtraError
from llmwatch.export.lifecycle import on_fork

try:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import REGISTRY, CollectorRegistry, Metric, start_http_server
except ModuleNotFoundError:
    raise MissingExtraError("opentelemetry-exporter-prometheus", "prometheus") from None


def serving(config: Config) -> Callable[[], PrometheusReader]:
    """What builds the reader that *config*, else the standard variables, ask for.

    With ``prometheus_port`` nothing is served but what OpenTelemetry collects. Where only
    ``OTEL_METRICS_EXPORTER`` says ``prometheus``, whatever else the program has registered with
    `prometheus_client` is served too, as the standard exporter does.

    Raises:
        ConfigError: If ``OTEL_EXPORTER_PROMETHEUS_PORT`` is no port.
    """
    build = partial(PrometheusReader, host=config.prometheus_host)
    if config.prometheus_port is not None:
        return partial(build, "prometheus_port", _range(config.prometheus_port), OneAtATime())
    setting = "OTEL_EXPORTER_PROMETHEUS_PORT"
    text = os.environ.get(setting, "").strip() or "9464"
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise ConfigError(f"{setting}={text!r} cannot be used: give a port from 1 to 65535.")
    return partial(build, setting, _range(text), REGISTRY)


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


class OneAtATime(CollectorRegistry):
    """A registry that answers two who ask at once one after the other.

    The exporter keeps what it collected in one queue: one of them would get all of it, twice, and
    the other nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._answering = Lock()

    def collect(self) -> Iterable[Metric]:
        """What every collector has now."""
        with self._answering:
            return list(super().collect())


class PrometheusReader(PrometheusMetricReader):
    """A reader with an http server, which only answers when asked.

    Args:
        setting: What the ports come from, for the message of an error.
        ports: The first one that is free is taken.
        registry: What is served there.
        host: Name or address to listen on.

    Raises:
        ConfigError: If it cannot listen there.
    """

    def __init__(self, setting: str, ports: range, registry: CollectorRegistry, host: str) -> None:
        super().__init__()
        collector: Any = self._collector
        collector._callback = self._asked
        if registry is not REGISTRY:  # older releases of the exporter cannot be given another
            REGISTRY.unregister(collector)
            registry.register(collector)
        self._leave_registry = partial(registry.unregister, collector)
        try:
            self._server: Any = _serve(setting, ports, registry, host)
        except ConfigError:
            self._leave_registry()
            raise
        self._forget = on_fork(self._leave)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Stop serving."""
        self._leave_registry()
        self.release()

    def release(self) -> None:
        """Free the port, in milliseconds; what is asked just now is still answered."""
        self._forget()
        server, self._server = self._server, None
        if server is not None:
            with suppress(OSError):  # some systems know this of connections only
                server.socket.shutdown(SHUT_RDWR)  # wakes the thread that waits for connections
            server.shutdown()
            server.server_close()

    def _asked(self) -> None:
        """Collect; but complain of nobody who asks before the provider is made, or when it ends."""
        if self._collect is not None:
            self.collect()

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        super()._receive_metrics(_without_exponential(metrics_data), timeout_millis, **kwargs)

    def _leave(self) -> None:
        """In a forked child: the port is its parent's, and the thread that serves lives there."""
        server, self._server = self._server, None
        if server is not None:
            server.server_close()


def _without_exponential(collected: MetricsData) -> MetricsData:
    """What the exporter can write; it fails for all metrics where a View asks for the others."""
    resources = []
    for resource in collected.resource_metrics:
        scopes = [
            replace(scope, metrics=[m for m in scope.metrics if not _exponential(m)])
            for scope in resource.scope_metrics
        ]
        resources.append(replace(resource, scope_metrics=scopes))
    return MetricsData(resources)


def _exponential(metric: Any) -> bool:
    return isinstance(metric.data, ExponentialHistogram)


def _serve(setting: str, ports: range, registry: CollectorRegistry, host: str) -> Any:
    for port in ports:
        try:
            started: Any = start_http_server(port=port, addr=host, registry=registry)
        except OSError as error:
            reason = error
        else:
            return started[0] if started else None  # old releases of the client keep it to them
    asked = ports.start if len(ports) == 1 else f"{ports.start}-{ports.stop - 1}"
    raise ConfigError(
        f"{setting}={asked!r} cannot be served on {host!r}: {reason}. Give a port that is free, or "
        "as prometheus_port= a range of them, such as '9464-9471'."
    ) from reason
