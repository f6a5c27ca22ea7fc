"""Settings: a keyword of `instrument` over ``LLMWATCH_*`` over ``OTEL_*`` over the default.

Validated once, here, at the call that was wrong. What the standard ``OTEL_*`` variables say about
exporters, resources, samplers and limits is left to the OpenTelemetry SDK, which reads them itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypedDict, cast
from urllib.parse import urlsplit

from llmwatch.backends import Backend, resolve
from llmwatch.errors import ConfigError
from llmwatch.keep import SECONDS, Keep
from llmwatch.keep import parse as parse_rules

Protocol = Literal["http/protobuf", "grpc"]
Pooling = Literal["mean", "first", "last"]
Semconv = Literal["1.41", "genai-0.1", "dup"]


class CaptureContent(Enum):
    """Where prompts, answers and tool arguments go. The names are OpenTelemetry's."""

    NO_CONTENT = "no_content"
    SPAN_ONLY = "span_only"
    EVENT_ONLY = "event_only"
    SPAN_AND_EVENT = "span_and_event"

    @property
    def on_spans(self) -> bool:
        """True if content goes on spans."""
        return self in (CaptureContent.SPAN_ONLY, CaptureContent.SPAN_AND_EVENT)

    @property
    def on_events(self) -> bool:
        """True if content goes on events."""
        return self in (CaptureContent.EVENT_ONLY, CaptureContent.SPAN_AND_EVENT)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every setting of `instrument`, validated and frozen.

    Built by `Config.load`; each field is a keyword of `instrument` and, where it is not an object,
    the environment variable ``LLMWATCH_`` + its name in capitals.
    """

    service_name: str | None = None
    """``service.name`` of the resource; else ``OTEL_SERVICE_NAME``."""
    backend: Backend | None = None
    """Name of a backend whose endpoint, headers, signals and temporality are known, for example
    ``datadog``; keys come from its own environment variables. ``endpoint``, ``headers`` and the
    ``OTEL_*`` variables win over what it says."""
    endpoint: str | None = None
    """Base URL of an OTLP receiver, for example ``http://localhost:4318``; for grpc the scheme may
    be left out (``collector:4317``), which means TLS."""
    protocol: Protocol | None = None
    """``http/protobuf`` or ``grpc``; else ``OTEL_EXPORTER_OTLP_PROTOCOL``, else http/protobuf."""
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    """Headers sent to the OTLP receiver; never shown, they hold keys."""
    resource_attributes: Mapping[str, str] = field(default_factory=dict)
    """Added to the resource, over ``OTEL_RESOURCE_ATTRIBUTES``."""
    sources: tuple[str, ...] | None = None
    """What to watch by name; None: everything that is installed."""
    capture_content: CaptureContent = CaptureContent.NO_CONTENT
    """Whether and where prompts and answers are recorded; else
    ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT``. True means SPAN_AND_EVENT."""
    redact: Callable[[str], str | None] | None = None
    """Called with every captured text; what it returns is recorded instead, None drops it."""
    content_limit: int = 16_384
    """Captured texts are cut to this many characters."""
    semconv: Semconv = "1.41"
    """Which GenAI conventions name the signals: ``1.41``, ``genai-0.1``, or ``dup`` for both."""
    tracer_provider: Any = None
    """Where spans go; None: the application's global provider where it set one, else llmwatch's."""
    meter_provider: Any = None
    """Where metrics go; None: as above."""
    logger_provider: Any = None
    """Where events go; None: as above."""
    set_global: bool = False
    """Make the providers that llmwatch builds the global ones."""
    sample_ratio: float | None = None
    """Share of traces to keep, 0 to 1, by parent-based trace-id ratio; else
    ``OTEL_TRACES_SAMPLER``."""
    keep: Keep | None = None
    """Which traces to send, once it is known what became of them: rules with commas between them,
    such as ``errors,flagged,slow>5s,ttft>2s,cost>0.1,5%``. None: all."""
    trace_limit: float | None = None
    """Traces a second that are sent, at most; None: any number."""
    series_limit: int | None = None
    """Attribute sets that one metric may have; what is beyond them is counted together. None: the
    SDK's own limit, 2000."""
    export_interval: float | None = None
    """Seconds between two metric exports; else ``OTEL_METRIC_EXPORT_INTERVAL``."""
    prometheus_port: str | None = None
    """Serve metrics to Prometheus at ``/metrics`` on this port, besides whatever else is
    configured; ``"9464-9471"``: on the first of these that is free, so that each worker of a server
    takes its own. Needs the extra ``prometheus``."""
    prometheus_host: str = "localhost"
    """Where that port is; ``0.0.0.0`` is everywhere. Anyone who reaches it can read it."""
    console: bool = False
    """Print one line per call on stderr."""
    store_path: str | None = None
    """Directory of the embedded store; None: ``~/.local/state/llmwatch`` (or under
    ``XDG_STATE_HOME``)."""
    store_limit: int = 64 * 1024 * 1024
    """Bytes the embedded store may take before its oldest files go."""
    store_age: float | None = None
    """Seconds (or ``7d``, ``12h``) after which what the embedded store holds goes; None: as long as
    there is room. Looked at whenever something is written."""
    logs: Literal["context", "export"] | None = None
    """Records of the program's own `logging`: ``context`` puts trace and span id on them,
    ``export`` sends them too, where events go; that needs the extra ``logging``."""
    operation_events: bool = False
    """Emit an event with the details of every operation even when content is not captured."""
    stream_usage: bool = False
    """Ask servers for token usage on streamed chat and text completions that did not ask."""
    estimate_usage: bool = False
    """Where a stream reports no usage, count output chunks as tokens, labelled as an estimate."""
    timeline: bool = False
    """Put the arrival time of every chunk on the span, as one array of microseconds."""
    confidence: bool = False
    """Look at how sure local models are of each token: entropy, log-probability, perplexity; in
    greedy decoding and sampling."""
    layers: Any = None
    """Time the layers of models that transformers loads, on some of their forwards: True for their
    blocks, or ``"all"``, a depth, a pattern of names, a class; see `watch_layers`."""
    layer_spans: int = 0
    """Layers of a sampled forward that become spans of their operation, the longest ones."""
    stall_after: float = 1.0
    """Seconds; a gap between two chunks longer than this counts as a stall."""
    propagate: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    """Hosts that are sent the trace context (``traceparent``) with a request."""
    metric_attributes: tuple[str, ...] = ("route", "tenant")
    """Keys of `llmwatch.attributes` that go on metrics too; keep their values few."""
    alongside: bool = False
    """Go on even where another OpenAI instrumentation is active (calls are then counted twice)."""
    cost: bool = True
    """Compute costs where the extra ``cost`` is installed."""
    gpu_poll_interval: float | None = None
    """Seconds between two looks at the GPUs, to charge each local operation with the energy it
    used; None: they are read only when metrics are collected."""
    gpu_price: float | None = None
    """US dollars for one GPU and hour; needs ``gpu_poll_interval``."""
    drift: Any = None
    """Watch the embeddings that calls return for drift: True (a reference learned from the first
    2000 of each model), ``"first:…"``, ``"file:…"``, ``"sliding:…"``, or a `DriftMonitor`."""
    drift_sample: float = 1.0
    """Share of those embeddings that is looked at, 0 to 1."""
    drift_pooling: Pooling = "mean"
    """What makes one vector of a text's hidden states, where transformers gives those: their
    ``"mean"``, or the ``"first"`` (BERT's ``[CLS]``) or ``"last"`` token; padding left out."""
    drift_numbers: Any = None
    """Watch numbers of finished operations for drift, for each operation and model: names out of
    ``input_tokens``, ``output_tokens``, ``duration``, ``time_to_first_token``,
    ``time_per_output_token``, ``refused`` and, with *confidence*, ``logprob`` and ``entropy``; or a
    dict of what each is compared with, as in *drift*."""
    drift_key: str | None = None
    """Which of `llmwatch.attributes` keeps the windows of *drift* and *drift_numbers* apart, as
    ``"route"`` or ``"language"``; all of them are compared with one reference."""
    flush_timeout: float = 5.0
    """Seconds that the flush at exit, at shutdown and on SIGTERM may take."""
    handle_sigterm: bool = True
    """Flush when the process is told to stop by SIGTERM and nobody else handles it."""

    @classmethod
    def load(cls, **given: Any) -> Config:
        """Merge keywords, environment and defaults, and validate the result.

        Raises:
            ConfigError: Naming the setting, where the value came from, and the remedy.
        """
        known = {each.name for each in fields(cls)}
        for name in given:
            if name not in known:
                raise ConfigError(
                    f"instrument() has no setting {name!r}. It has: {', '.join(sorted(known))}."
                )
        values: dict[str, Any] = {}
        for name in known:
            if (value := given.get(name)) is not None:
                values[name] = _PARSERS[name](value, f"{name}=")
            elif (found := from_environment(name)) is not None:
                variable, text = found
                values[name] = _PARSERS[name](text, f"{variable}=")
        return cls(**values)


class Settings(TypedDict, total=False):
    """The keywords of `instrument`; `Config` says what each means."""

    service_name: str | None
    backend: str | None
    endpoint: str | None
    protocol: Protocol | None
    headers: Mapping[str, str] | str | None
    resource_attributes: Mapping[str, str] | str | None
    sources: Iterable[str] | None
    capture_content: CaptureContent | bool | str | None
    redact: Callable[[str], str | None] | None
    content_limit: int | None
    semconv: Semconv | None
    tracer_provider: Any
    meter_provider: Any
    logger_provider: Any
    set_global: bool | None
    sample_ratio: float | None
    keep: Keep | str | None
    trace_limit: float | None
    series_limit: int | None
    export_interval: float | None
    prometheus_port: int | str | None
    prometheus_host: str | None
    console: bool | None
    store_path: str | os.PathLike[str] | None
    store_limit: int | None
    store_age: float | str | None
    logs: Literal["context", "export"] | None
    operation_events: bool | None
    stream_usage: bool | None
    estimate_usage: bool | None
    timeline: bool | None
    confidence: bool | None
    layers: Any
    layer_spans: int | None
    stall_after: float | None
    propagate: Iterable[str] | None
    metric_attributes: Iterable[str] | None
    alongside: bool | None
    cost: bool | None
    gpu_poll_interval: float | None
    gpu_price: float | None
    drift: Any
    drift_sample: float | None
    drift_pooling: Pooling | None
    drift_numbers: Sequence[str] | Mapping[str, Any] | str | None
    drift_key: str | None
    flush_timeout: float | None
    handle_sigterm: bool | None


_FALLBACK = {
    "service_name": "OTEL_SERVICE_NAME",
    "capture_content": "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
    "prometheus_host": "OTEL_EXPORTER_PROMETHEUS_HOST",
}
OBJECTS = {"tracer_provider", "meter_provider", "logger_provider", "redact"}
"""Settings that are objects of the program, so no variable and no file can give them."""


def in_environment() -> set[str]:
    """The settings that a variable can give."""
    return set(_PARSERS) - OBJECTS


def parse(name: str, value: Any, where: str) -> Any:
    """The value of one setting, validated; *where* begins the message of an error.

    Raises:
        ConfigError: If it cannot be used.
    """
    return _PARSERS[name](value, where)


def from_environment(name: str) -> tuple[str, str] | None:
    """The variable that gives a setting, and its text; None if there is none."""
    if name in OBJECTS:
        return None
    for variable in (f"LLMWATCH_{name.upper()}", _FALLBACK.get(name)):
        if variable and (text := os.environ.get(variable, "").strip()):
            return variable, text
    return None


def _wrong(where: str, value: object, remedy: str) -> ConfigError:
    return ConfigError(f"{where}{value!r} cannot be used: {remedy}")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(where, value, "give a non-empty string.")
    return value.strip()


def _boolean(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    known = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    if isinstance(value, str) and value.lower() in known:
        return known[value.lower()]
    raise _wrong(where, value, "give true or false.")


def _number(low: float, high: float, kind: type[int] | type[float]) -> Callable[[Any, str], Any]:
    def parse(value: Any, where: str) -> Any:
        try:
            if isinstance(value, bool) or (kind is int and isinstance(value, float)):
                raise ValueError
            number = kind(value)
        except (TypeError, ValueError):
            number = None
        if number is None or not low <= number <= high:
            kinds = "a whole number" if kind is int else "a number"
            raise _wrong(where, value, f"give {kinds} from {low} to {high}.")
        return number

    return parse


def _choice(*choices: str) -> Callable[[Any, str], str]:
    def parse(value: Any, where: str) -> str:
        if value not in choices:
            raise _wrong(where, value, f"give one of {', '.join(map(repr, choices))}.")
        return cast(str, value)

    return parse


def _names(value: Any, where: str) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, Iterable) or not all(isinstance(part, str) for part in parts):
        raise _wrong(where, value, "give strings, or one string with commas.")
    return tuple(part.strip() for part in parts if part.strip())


def _mapping(value: Any, where: str) -> dict[str, str]:
    if isinstance(value, str):
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if all(middle for _, middle, _ in pairs):
            return {key.strip(): text.strip() for key, _, text in pairs}
    elif isinstance(value, Mapping) and all(
        isinstance(part, str) for pair in value.items() for part in pair
    ):
        return dict(value)
    shown = "(hidden)" if "header" in where.lower() else value
    raise _wrong(where, shown, "give a mapping of strings to strings, or 'key=value,key=value'.")


def _headers(value: Any, where: str) -> dict[str, str]:
    """Checked here because whoever refuses one later shows its value in the error."""
    found = {key.strip(): text.strip() for key, text in _mapping(value, where).items()}
    for key, text in found.items():
        if not re.fullmatch(_HEADER_NAME, key) or not (text.isascii() and text.isprintable()):
            raise _wrong(where, "(hidden)", "give names and values of printable ASCII characters.")
    return found


_HEADER_NAME = r"[A-Za-z0-9_!#$%&'*+.^`|~-]+"


def _capture(value: Any, where: str) -> CaptureContent:
    if isinstance(value, CaptureContent):
        return value
    if isinstance(value, bool) or str(value).lower() in ("true", "false"):
        yes = str(value).lower() == "true"
        return CaptureContent.SPAN_AND_EVENT if yes else CaptureContent.NO_CONTENT
    try:
        return CaptureContent(str(value).lower())
    except ValueError:
        names = ", ".join(each.name for each in CaptureContent)
        raise _wrong(where, value, f"give one of {names}.") from None


def _url(value: Any, where: str) -> str:
    text = _text(value, where).rstrip("/")
    if "@" in text or "?" in text:
        raise _wrong(where, "(hidden)", "put keys and passwords in headers=, which is never shown.")
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        complete = bool(parts.hostname) and (parts.port is not None or bool(parts.scheme))
        complete = complete and "://" not in text.partition("://")[2]  # a URL where a host belongs
    except ValueError:
        complete = False
    if not complete or parts.scheme not in ("", "http", "https"):
        raise _wrong(where, value, "give a URL like http://localhost:4318, or host:port for grpc.")
    return text


def _backend(value: Any, where: str) -> Backend:
    backend = resolve(_text(value, where))
    _url(backend.endpoint, f"{where}{backend.name!r}: the endpoint ")
    for headers in backend.headers.values():
        _headers(headers, f"{where}{backend.name!r}: the headers ")
    return backend


def _ports(value: Any, where: str) -> str:
    text = str(value).strip()
    first, dash, last = text.partition("-")
    if not isinstance(value, bool) and first.isdecimal() and (last.isdecimal() or not dash):
        ports = range(int(first), int(last or first) + 1)
        if ports and ports[0] >= 1 and ports[-1] <= 65_535:
            return text
    raise _wrong(where, value, "give a port from 1 to 65535, or a range like '9464-9471'.")


def _keep(value: Any, where: str) -> Keep:
    if isinstance(value, Keep):
        return value
    if not isinstance(value, str):
        raise _wrong(where, value, "give rules in one string, such as 'errors,slow>5s,5%'.")
    try:
        return parse_rules(value)
    except ConfigError as error:
        raise ConfigError(f"{where}{value!r} cannot be used: {error}") from None


def _age(value: Any, where: str) -> float:
    match = re.fullmatch(r"([0-9.]+)\s*([a-z]*)", str(value).strip().lower())
    try:
        if match is not None and not isinstance(value, bool):
            age = float(match[1]) * SECONDS[match[2]]
            if age >= 1:
                return age
    except (KeyError, ValueError):
        pass
    raise _wrong(where, value, "give seconds, at least 1, or a time such as '7d' or '12h'.")


def _path(value: Any, where: str) -> str:
    text = _text(os.fspath(value) if isinstance(value, os.PathLike) else value, where)
    return str(Path(text).expanduser().absolute())  # the program may change its directory


def _callable(value: Any, where: str) -> Any:
    if not callable(value):
        raise _wrong(where, value, "give a function of one string that returns a string or None.")
    return value


def _drift(value: Any, where: str) -> Any:
    if callable(getattr(value, "add", None)) and callable(getattr(value, "status", None)):
        if isinstance(value, type):
            raise _wrong(where, value, "give a monitor, DriftMonitor(…), and not the class.")
        return value
    known = {"true": "first:2000", "1": "first:2000", "false": None, "0": None}
    text = str(value).lower() if isinstance(value, (bool, str)) else ""
    if text in known:
        return known[text]
    if text.partition(":")[0] in ("first", "file", "sliding"):
        return str(value)
    raise _wrong(where, value, "give True, 'first:2000', 'file:…', 'sliding:24h' or a monitor.")


def _drift_numbers(value: Any, where: str) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        pairs = [name.partition("=") for name in _names(value, where)]
        value = {name.strip(): reference or True for name, _, reference in pairs}
    return {name: _drift(each, f"{where}{name!r}: ") for name, each in value.items()} or None


def _layers(value: Any, where: str) -> Any:
    if not isinstance(value, (bool, str, int)):
        return value  # classes, functions: looked at when there is a model
    text = str(value).strip()
    known = {"true": "blocks", "false": None, "": None, "0": None}
    if text.lower() in known:
        return known[text.lower()]
    if text.lstrip("-").isdigit():
        return _number(1, 1000, int)(text, where)
    return text


def _provider(method: str) -> Callable[[Any, str], Any]:
    def parse(value: Any, where: str) -> Any:
        if not hasattr(value, method):
            raise _wrong(
                where, value, f"give an OpenTelemetry provider (an object with {method}())."
            )
        return value

    return parse


_PARSERS: dict[str, Callable[[Any, str], Any]] = {
    "service_name": _text,
    "backend": _backend,
    "endpoint": _url,
    "protocol": _choice("http/protobuf", "grpc"),
    "headers": _headers,
    "resource_attributes": _mapping,
    "sources": _names,
    "capture_content": _capture,
    "redact": _callable,
    "content_limit": _number(1, 10_000_000, int),
    "semconv": _choice("1.41", "genai-0.1", "dup"),
    "tracer_provider": _provider("get_tracer"),
    "meter_provider": _provider("get_meter"),
    "logger_provider": _provider("get_logger"),
    "set_global": _boolean,
    "sample_ratio": _number(0, 1, float),
    "keep": _keep,
    "trace_limit": _number(0.001, 1_000_000, float),
    "series_limit": _number(1, 1_000_000, int),
    "export_interval": _number(0.01, 86_400, float),
    "prometheus_port": _ports,
    "prometheus_host": _text,
    "console": _boolean,
    "store_path": _path,
    "store_limit": _number(65_536, 1 << 50, int),
    "store_age": _age,
    "logs": _choice("context", "export"),
    "operation_events": _boolean,
    "stream_usage": _boolean,
    "estimate_usage": _boolean,
    "timeline": _boolean,
    "confidence": _boolean,
    "layers": _layers,
    "layer_spans": _number(0, 1000, int),
    "stall_after": _number(0.001, 3600, float),
    "propagate": _names,
    "metric_attributes": _names,
    "alongside": _boolean,
    "cost": _boolean,
    "gpu_poll_interval": _number(0.01, 3600, float),
    "gpu_price": _number(0, 1_000_000, float),
    "drift": _drift,
    "drift_sample": _number(0, 1, float),
    "drift_pooling": _choice("mean", "first", "last"),
    "drift_numbers": _drift_numbers,
    "drift_key": _text,
    "flush_timeout": _number(0, 3600, float),
    "handle_sigterm": _boolean,
}
