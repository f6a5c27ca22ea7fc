"""Exporters by name: OTLP over http or grpc, and whatever is installed under a standard name.

What only the environment says (timeouts, certificates, compression, ``OTEL_EXPORTER_OTLP_*``
endpoints and headers) is left to the exporters, which read it themselves: only what `Config` sets
is passed on. Headers hold keys: they go from the `Config` to the exporter and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, NamedTuple, cast

from llmwatch.config import Config, Protocol
from llmwatch.errors import ConfigError
from llmwatch.export.dropped import Signal
from llmwatch.export.lifecycle import sending

_HTTP = "opentelemetry.exporter.otlp.proto.http"
_GRPC = "opentelemetry.exporter.otlp.proto.grpc"
_CLASSES: Mapping[tuple[Signal, Protocol], tuple[str, str]] = {
    ("traces", "http/protobuf"): (f"{_HTTP}.trace_exporter", "OTLPSpanExporter"),
    ("metrics", "http/protobuf"): (f"{_HTTP}.metric_exporter", "OTLPMetricExporter"),
    ("logs", "http/protobuf"): (f"{_HTTP}._log_exporter", "OTLPLogExporter"),
    ("traces", "grpc"): (f"{_GRPC}.trace_exporter", "OTLPSpanExporter"),
    ("metrics", "grpc"): (f"{_GRPC}.metric_exporter", "OTLPMetricExporter"),
    ("logs", "grpc"): (f"{_GRPC}._log_exporter", "OTLPLogExporter"),
}
_BY_NAME: Mapping[str, Protocol | None] = {
    "otlp": None,
    "otlp_proto_http": "http/protobuf",
    "otlp_proto_grpc": "grpc",
}


def is_otlp(name: str) -> bool:
    """True if *name*, as found in ``OTEL_*_EXPORTER``, means OTLP."""
    return name in _BY_NAME


def factory(config: Config, signal: Signal, name: str) -> Callable[[], Any]:
    """What builds the OTLP exporter of *signal*; nothing is imported before it is called.

    Args:
        config: Its endpoint, headers and protocol win over the environment.
        signal: What is exported.
        name: One of the names for which `is_otlp` is true.

    Raises:
        ConfigError: If the protocol is unknown, or the endpoint has no scheme but needs one.
    """
    protocol = _BY_NAME[name] or _protocol(config, signal)
    module, class_name = _CLASSES[signal, protocol]
    arguments = _arguments(config, signal, protocol)

    def build() -> Any:
        import_module("netrc")  # requests does so when it sends: a fork must not meet that
        exporter = getattr(import_module(module), class_name)(**arguments)
        exporter.export = _unforkable(exporter.export)
        return exporter

    return build


def _unforkable(export: Callable[..., Any]) -> Callable[..., Any]:
    def held(*args: Any, **kwargs: Any) -> Any:
        with sending:
            return export(*args, **kwargs)

    return held


def named(signal: Signal, name: str) -> Callable[[], Any]:
    """The class, or other factory, that is installed as exporter *name* for *signal*.

    Raises:
        ConfigError: If there is none.
    """
    group = entry_points(group=f"opentelemetry_{signal}_exporter")
    for each in group:
        if each.name == name:
            return cast(Callable[[], Any], each.load())
    known = sorted({each.name for each in group} | {"none"})
    raise ConfigError(
        f"OTEL_{signal.upper()}_EXPORTER={name!r} cannot be used: no such exporter is installed. "
        f"There are: {', '.join(known)}."
    )


def metric_preferences(config: Config) -> tuple[Any, Any] | None:
    """Temporality and aggregation of OTLP metric exporters: the environment's, else the backend's.

    None where the installed exporters keep them to themselves: then one must be built to ask it.
    """
    try:
        shared = import_module("opentelemetry.exporter.otlp.common._aggregation")
        return shared._get_temporality(_temporality(config)), shared._get_aggregation(None)
    except (ImportError, AttributeError):
        return None


class Destination(NamedTuple):
    """Where one signal goes by OTLP."""

    protocol: Protocol
    url: str
    headers: Mapping[str, str]
    """They hold keys: for sending, and for keeping them out of what is shown."""


def destination(config: Config, signal: Signal, name: str = "otlp") -> Destination:
    """Where *signal* goes, as settings and variables say; see `factory`."""
    from opentelemetry.util.re import parse_env_headers

    protocol = _BY_NAME[name] or _protocol(config, signal)
    arguments = _arguments(config, signal, protocol)
    headers = arguments.get("headers") or parse_env_headers(_said(signal, "HEADERS"), liberal=True)
    return Destination(protocol, arguments.get("endpoint") or _url(signal, protocol), headers)


def _url(signal: Signal, protocol: Protocol) -> str:
    """What the exporter takes where it is given none."""
    if protocol == "grpc":
        return _said(signal, "ENDPOINT") or "http://localhost:4317"
    if own := os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip():
        return own
    return f"{(_said(signal, 'ENDPOINT') or 'http://localhost:4318').rstrip('/')}/v1/{signal}"


def _temporality(config: Config) -> dict[type, Any] | None:
    """The temporality that the backend wants, where no variable says another."""
    said = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "").strip()
    if said or config.backend is None or not config.backend.delta:
        return None
    from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
    from opentelemetry.sdk.metrics.export import AggregationTemporality

    return dict.fromkeys((Counter, Histogram, ObservableCounter), AggregationTemporality.DELTA)


def _protocol(config: Config, signal: Signal) -> Protocol:
    if config.protocol is not None:
        return config.protocol
    for variable in (
        f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ):
        if text := os.environ.get(variable, "").strip():
            if (signal, text) not in _CLASSES:
                raise ConfigError(
                    f"{variable}={text!r} cannot be used: give 'http/protobuf' or 'grpc'."
                )
            return cast(Protocol, text)
    return "http/protobuf"


def _arguments(config: Config, signal: Signal, protocol: Protocol) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if (endpoint := _base(config, signal)) is not None:
        arguments["endpoint"] = _endpoint(endpoint, signal, protocol)
    if headers := _headers(config, signal):
        # grpc metadata must be lower case, and http headers may be
        arguments["headers"] = {key.lower(): text for key, text in headers.items()}
    if signal == "metrics" and (temporality := _temporality(config)) is not None:
        arguments["preferred_temporality"] = temporality
    return arguments


def _base(config: Config, signal: Signal) -> str | None:
    """The keyword; None where a variable says it; else the backend's."""
    if config.endpoint is not None or config.backend is None or _said(signal, "ENDPOINT"):
        return config.endpoint
    return config.backend.endpoint


def _headers(config: Config, signal: Signal) -> Mapping[str, str]:
    """The keyword's, over the variable's, over the backend's; the exporter reads the variable."""
    if config.backend is None:
        return config.headers or {}
    from opentelemetry.util.re import parse_env_headers

    said = parse_env_headers(_said(signal, "HEADERS"), liberal=True)
    given = {key.lower(): text for key, text in (config.headers or {}).items()}
    return {**config.backend.headers.get(signal, {}), **said, **given}


def _said(signal: Signal, what: str) -> str:
    """What the variable for *signal*, else the one for all signals, says."""
    names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}", f"OTEL_EXPORTER_OTLP_{what}")
    return next((text for name in names if (text := os.environ.get(name, "").strip())), "")


def _endpoint(endpoint: str, signal: Signal, protocol: Protocol) -> str:
    if protocol == "grpc":
        return endpoint
    if "://" not in endpoint:
        raise ConfigError(
            f"endpoint={endpoint!r} cannot be used with http/protobuf: give a URL that starts with "
            "http:// or https://, or protocol='grpc'."
        )
    return f"{endpoint}/v1/{signal}"
