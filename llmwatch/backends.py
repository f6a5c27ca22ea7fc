"""Where to send for ``instrument(backend=…)``: one table, a row for each backend.

A row says what the backend documents: endpoint, headers, signals, temporality, attributes. Keys
come from environment variables alone, and are shown nowhere: `Backend` has no repr that holds them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from llmwatch.errors import ConfigError

ALL = ("traces", "metrics", "logs")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What one backend wants.

    In texts, ``{NAME}`` stands for the environment variable of that name, and ``{NAME:OTHER}`` for
    two of them, encoded as HTTP basic authentication wants them.
    """

    endpoint: str
    """Base URL; ``/v1/traces`` and the like are added to it."""
    headers: Mapping[str, str] = field(default_factory=dict)
    of_signal: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Headers that go with one signal only."""
    signals: tuple[str, ...] = ALL
    """What it takes; the others are not sent."""
    delta: bool = False
    """Whether it wants the news of each interval instead of sums since the start."""
    dialect: str | None = None
    """Words of its own that spans are said in too; see `llmwatch.export.dialects`."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Attributes of the resource, from variables of the backend's own, where those are set."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """Of variables that need not be set; a header whose variable has the default '' is left out."""
    meanings: Mapping[str, str] = field(default_factory=dict)
    """What the other variables hold, for whoever has not set them."""


_DATADOG_TAGS = {
    "service.name": "DD_SERVICE",
    "deployment.environment.name": "DD_ENV",
    "service.version": "DD_VERSION",
}

PRESETS: Mapping[str, Preset] = {
    # Any OpenTelemetry Collector, rotel or agent on this machine.
    "collector": Preset(endpoint="http://localhost:4318"),
    # docs.datadoghq.com/opentelemetry/setup/otlp_ingest (traces, metrics, logs: http only, delta
    # only), /llm_observability/instrumentation/otel_instrumentation (dd-otlp-source),
    # /opentelemetry/guide/otlp_delta_temporality, /getting_started/tagging (DD_SERVICE, …)
    "datadog": Preset(
        endpoint="https://otlp.{DD_SITE}",
        headers={"dd-api-key": "{DD_API_KEY}"},
        of_signal={
            "traces": {"dd-otlp-source": "{DD_OTLP_SOURCE}"},
            "logs": {"dd-protocol": "otlp"},
        },
        delta=True,
        attributes=_DATADOG_TAGS,
        defaults={"DD_SITE": "datadoghq.com", "DD_OTLP_SOURCE": "llmobs"},
        meanings={"DD_API_KEY": "an API key of the organization"},
    ),
    # docs.datadoghq.com/opentelemetry/setup/otlp_ingest_in_the_agent
    "datadog-agent": Preset(
        endpoint="http://{DD_AGENT_HOST}:4318",
        delta=True,
        attributes=_DATADOG_TAGS,
        defaults={"DD_AGENT_HOST": "localhost"},
    ),
    # last9.io/docs/integrations/observability/opentelemetry
    "last9": Preset(
        endpoint="{LAST9_OTLP_ENDPOINT}",
        headers={"authorization": "{LAST9_OTLP_AUTH}"},
        defaults={"LAST9_OTLP_ENDPOINT": "https://otlp.last9.io"},
        meanings={"LAST9_OTLP_AUTH": "the authorization header on the page of the integration"},
    ),
    # arize.com/docs/phoenix: sdk-api-reference/python-packages/arize-phoenix-otel, and
    # release-notes/05-2026/05-15-2026-otel-semconv-conversion
    "phoenix": Preset(
        endpoint="{PHOENIX_COLLECTOR_ENDPOINT}",
        headers={"authorization": "Bearer {PHOENIX_API_KEY}"},
        signals=("traces",),
        dialect="openinference",
        attributes={"openinference.project.name": "PHOENIX_PROJECT_NAME"},
        defaults={"PHOENIX_COLLECTOR_ENDPOINT": "http://localhost:6006", "PHOENIX_API_KEY": ""},
    ),
    # grafana.com/docs/grafana-cloud/send-data/otlp/send-data-otlp
    "grafana-cloud": Preset(
        endpoint="{GRAFANA_CLOUD_OTLP_ENDPOINT}",
        headers={"authorization": "Basic {GRAFANA_CLOUD_INSTANCE_ID:GRAFANA_CLOUD_API_KEY}"},
        meanings={
            "GRAFANA_CLOUD_OTLP_ENDPOINT": "like https://otlp-gateway-prod-eu-west-0.grafana.net/otlp",
            "GRAFANA_CLOUD_INSTANCE_ID": "the number of the stack's OpenTelemetry page",
            "GRAFANA_CLOUD_API_KEY": "a token that may write metrics, logs and traces",
        },
    ),
    # docs.honeycomb.io/send-data/opentelemetry and /send-data/metrics/application
    "honeycomb": Preset(
        endpoint="{HONEYCOMB_API_ENDPOINT}",
        headers={"x-honeycomb-team": "{HONEYCOMB_API_KEY}"},
        of_signal={"metrics": {"x-honeycomb-dataset": "{HONEYCOMB_METRICS_DATASET}"}},
        defaults={
            "HONEYCOMB_API_ENDPOINT": "https://api.honeycomb.io",
            "HONEYCOMB_METRICS_DATASET": "llmwatch-metrics",
        },
        meanings={"HONEYCOMB_API_KEY": "an ingest key of the environment"},
    ),
    # langfuse.com/integrations/native/opentelemetry
    "langfuse": Preset(
        endpoint="{LANGFUSE_BASE_URL}/api/public/otel",
        headers={
            "authorization": "Basic {LANGFUSE_PUBLIC_KEY:LANGFUSE_SECRET_KEY}",
            "x-langfuse-ingestion-version": "4",
        },
        signals=("traces",),
        defaults={"LANGFUSE_BASE_URL": "https://cloud.langfuse.com"},
        meanings={
            "LANGFUSE_PUBLIC_KEY": "the project's public key",
            "LANGFUSE_SECRET_KEY": "the project's secret key",
        },
    ),
    # From 3.6 on: mlflow.org/docs/latest/genai/tracing/opentelemetry/ingest
    "mlflow": Preset(
        endpoint="{MLFLOW_TRACKING_URI}",
        headers={"x-mlflow-experiment-id": "{MLFLOW_EXPERIMENT_ID}"},
        signals=("traces",),
        dialect="mlflow",
        defaults={"MLFLOW_TRACKING_URI": "http://localhost:5000", "MLFLOW_EXPERIMENT_ID": "0"},
    ),
    # docs.newrelic.com/docs/opentelemetry/best-practices/opentelemetry-otlp
    "new-relic": Preset(
        endpoint="{NEW_RELIC_OTLP_ENDPOINT}",
        headers={"api-key": "{NEW_RELIC_LICENSE_KEY}"},
        delta=True,
        defaults={"NEW_RELIC_OTLP_ENDPOINT": "https://otlp.nr-data.net"},
        meanings={"NEW_RELIC_LICENSE_KEY": "the account's license key"},
    ),
    # docs.dynatrace.com/docs/ingest-from/opentelemetry-classic/otlp-api: http only, delta only
    "dynatrace": Preset(
        endpoint="{DT_ENDPOINT}",
        headers={"authorization": "Api-Token {DT_API_TOKEN}"},
        delta=True,
        meanings={
            "DT_ENDPOINT": "like https://abc12345.live.dynatrace.com/api/v2/otlp",
            "DT_API_TOKEN": "a token that may ingest traces, metrics and logs",
        },
    ),
}


@dataclass(frozen=True)
class Backend:
    """A preset with its variables filled in. Its repr is its name: the headers hold keys."""

    name: str
    endpoint: str
    headers: Mapping[str, Mapping[str, str]] = field(repr=False)
    """By signal."""
    signals: tuple[str, ...]
    delta: bool
    attributes: Mapping[str, str]
    dialect: str | None = None

    def __repr__(self) -> str:
        return repr(self.name)


def resolve(name: str) -> Backend:
    """The backend called *name*, with what the environment says of it now.

    Raises:
        ConfigError: If there is none of that name, or a variable that it needs is not set.
    """
    preset = PRESETS.get(name)
    if preset is None:
        known = ", ".join(map(repr, sorted(PRESETS)))
        raise ConfigError(f"backend={name!r} cannot be used: give one of {known}.")
    fill = _Fill(name, preset)
    headers = {
        signal: fill.headers({**preset.headers, **preset.of_signal.get(signal, {})})
        for signal in preset.signals
    }
    return Backend(
        name=name,
        endpoint=fill.url(preset.endpoint).removesuffix("/v1/traces"),
        headers=headers,
        signals=preset.signals,
        delta=preset.delta,
        attributes={
            key: text for key, variable in preset.attributes.items() if (text := _read(variable))
        },
        dialect=preset.dialect,
    )


_VARIABLES = re.compile(r"\{([A-Z0-9_:]+)\}")


def variables(preset: Preset) -> dict[str, str]:
    """The variables that *preset* reads, and of each its meaning or default."""
    texts = [preset.endpoint, *preset.headers.values()]
    texts += [text for headers in preset.of_signal.values() for text in headers.values()]
    names = [
        name for text in texts for found in _VARIABLES.findall(text) for name in found.split(":")
    ]
    known = {name: preset.meanings.get(name) or preset.defaults[name] for name in names}
    return known | {name: f"`{key}`" for key, name in preset.attributes.items()}


def _read(variable: str) -> str:
    return os.environ.get(variable, "").strip()


class _Fill:
    """Puts variables into texts, on behalf of one preset."""

    def __init__(self, name: str, preset: Preset) -> None:
        self._name = name
        self._preset = preset

    def __call__(self, text: str) -> str:
        return _VARIABLES.sub(self._found, text)

    def url(self, text: str) -> str:
        """With no slash at its end, nor two where one variable is followed by a path."""
        return _VARIABLES.sub(lambda match: self._found(match).rstrip("/"), text)

    def headers(self, texts: Mapping[str, str]) -> dict[str, str]:
        return {key: self(text) for key, text in texts.items() if not self._left_out(text)}

    def _left_out(self, text: str) -> bool:
        names = _VARIABLES.findall(text)
        return any(self._preset.defaults.get(name) == "" and not _read(name) for name in names)

    def _found(self, match: re.Match[str]) -> str:
        values = [self._value(name) for name in match[1].split(":")]
        if len(values) == 1:
            return values[0]
        from base64 import b64encode

        return b64encode(":".join(values).encode()).decode()

    def _value(self, variable: str) -> str:
        value = _read(variable) or self._preset.defaults.get(variable, "")
        if not value:
            meaning = self._preset.meanings[variable]
            raise ConfigError(
                f"backend={self._name!r} needs the environment variable {variable} ({meaning}), "
                "and it is not set."
            )
        return value
