"""Serve metrics to Prometheus, and stop serving when asked to.

The exporter's own class for ``OTEL_METRICS_EXPORTER=prometheus`` starts a server that nothing can
stop. A forked child cannot serve on its parent's port: it reports no metrics this way.
"""

from __future__ import annotations

import os
from typing import Any

from llmwatch.errors import ConfigError, MissingExtraError

try:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import start_http_server
except ModuleNotFoundError:
    raise MissingExtraError("opentelemetry-exporter-prometheus", "prometheus") from None


class PrometheusReader(PrometheusMetricReader):
    """A reader with an http server on ``OTEL_EXPORTER_PROMETHEUS_HOST`` and ``_PORT``.

    Raises:
        ConfigError: If it cannot listen there.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pid = os.getpid()
        try:
            self._server: Any = _serve()
        except ConfigError:
            super().shutdown()
            raise

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Stop serving; in a forked child only its hold on the port is given up."""
        super().shutdown(timeout_millis, **kwargs)
        if self._server is not None:
            if self._pid == os.getpid():  # the thread to be stopped lives in the parent
                self._server.shutdown()
            self._server.server_close()


def _serve() -> Any:
    host = os.environ.get("OTEL_EXPORTER_PROMETHEUS_HOST", "localhost")
    port = os.environ.get("OTEL_EXPORTER_PROMETHEUS_PORT", "9464")
    try:
        started: Any = start_http_server(port=int(port), addr=host)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"OTEL_EXPORTER_PROMETHEUS_PORT={port!r} cannot be served on {host!r}: {error}. "
            "Give a free port, or set OTEL_METRICS_EXPORTER=otlp."
        ) from error
    return started[0] if started else None  # old releases of the client keep it to themselves
