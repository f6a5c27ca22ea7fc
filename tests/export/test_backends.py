"""``backend=``: each sends where its backend documents, with keys that nobody gets to see."""

from __future__ import annotations

import base64
import logging
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import AggregationTemporality

import llmwatch
from llmwatch.backends import PRESETS, Backend, resolve, variables
from llmwatch.config import Config
from llmwatch.export import builders, otlp
from llmwatch.export.dropped import SIGNALS
from tests.export.conftest import emit
from tests.receivers import HttpReceiver, flushed

SECRET = "sk-very-secret"
NEEDED = {name: list(preset.meanings) for name, preset in PRESETS.items()}
DELTA = 1
"""OTLP's number of the temporality."""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for preset in PRESETS.values():
        for name in variables(preset):
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what a backend needs."""

    def set_all(name: str, endpoint: str = "https://backend.example") -> None:
        for variable in NEEDED[name]:
            is_url = variable.endswith("ENDPOINT")
            monkeypatch.setenv(variable, endpoint if is_url else f"{SECRET}-{variable}")

    return set_all


@pytest.mark.parametrize("name", PRESETS)
def test_a_backend_gets_what_it_documents_and_no_more(
    name: str, keys: Any, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers, signals and temporality arrive, with the endpoint alone replaced by a local one."""
    keys(name)
    with HttpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        running = pipeline(backend=name)
        emit(running.providers)
        running.providers.meter_provider.get_meter("t").create_histogram("h").record(1)
        assert flushed(running)
        preset, wanted = PRESETS[name], resolve(name)
        assert {each.signal for each in receiver.received} == set(preset.signals)
        for each in receiver.received:
            for key, text in wanted.headers[each.signal].items():
                assert each.headers[key] == text
        kinds = {
            metric.WhichOneof("data"): getattr(metric, metric.WhichOneof("data"))
            for each in receiver.of("metrics")
            for resource in each.message.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }
        for kind in kinds.values():
            assert (kind.aggregation_temporality == DELTA) is preset.delta


def test_what_the_table_says_of_the_best_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints and headers as the vendors' pages give them, written out once by hand."""
    monkeypatch.setenv("DD_API_KEY", "k")
    monkeypatch.setenv("DD_SITE", "datadoghq.eu")
    found = resolve("datadog")
    assert (found.endpoint, found.delta) == ("https://otlp.datadoghq.eu", True)
    assert found.headers["traces"] == {"dd-api-key": "k", "dd-otlp-source": "llmobs"}
    assert found.headers["metrics"] == {"dd-api-key": "k"}

    monkeypatch.setenv("GRAFANA_CLOUD_OTLP_ENDPOINT", "https://otlp-gateway-x.grafana.net/otlp/")
    monkeypatch.setenv("GRAFANA_CLOUD_INSTANCE_ID", "123")
    monkeypatch.setenv("GRAFANA_CLOUD_API_KEY", "glc_x")
    found = resolve("grafana-cloud")
    assert found.endpoint == "https://otlp-gateway-x.grafana.net/otlp"
    scheme, _, encoded = found.headers["logs"]["authorization"].partition(" ")
    assert (scheme, base64.b64decode(encoded)) == ("Basic", b"123:glc_x")

    monkeypatch.setenv("HONEYCOMB_API_KEY", "k")
    found = resolve("honeycomb")
    assert found.endpoint == "https://api.honeycomb.io"
    assert found.headers["traces"] == {"x-honeycomb-team": "k"}
    assert found.headers["metrics"]["x-honeycomb-dataset"] == "llmwatch-metrics"

    found = resolve("phoenix")
    assert (found.endpoint, found.headers) == ("http://localhost:6006", {"traces": {}})
    monkeypatch.setenv("PHOENIX_API_KEY", "k")
    monkeypatch.setenv("PHOENIX_COLLECTOR_ENDPOINT", "https://app.phoenix.arize.com/s/me/v1/traces")
    found = resolve("phoenix")
    assert found.endpoint == "https://app.phoenix.arize.com/s/me"
    assert found.headers["traces"] == {"authorization": "Bearer k"}


@pytest.mark.parametrize("name", [name for name, needed in NEEDED.items() if needed])
def test_a_missing_key_is_named(name: str, keys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the call, before anything is built; and none of the others is shown."""
    for missing in NEEDED[name]:
        keys(name)
        monkeypatch.delenv(missing)
        with pytest.raises(llmwatch.ConfigError, match=missing) as caught:
            llmwatch.instrument(backend=name)
        assert SECRET not in str(caught.value)


def test_a_key_is_sent_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Base64 may end in a slash; only of addresses it is taken off."""
    monkeypatch.setenv("LAST9_OTLP_AUTH", "Basic Zm9vOmJhcj8/")
    monkeypatch.setenv("LAST9_OTLP_ENDPOINT", "https://otlp-aps1.last9.io/")
    found = resolve("last9")
    assert found.endpoint == "https://otlp-aps1.last9.io"
    assert found.headers["traces"] == {"authorization": "Basic Zm9vOmJhcj8/"}
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk/")
    monkeypatch.setenv("LANGFUSE_BASE_URL", "https://us.cloud.langfuse.com/")
    found = resolve("langfuse")
    assert found.endpoint == "https://us.cloud.langfuse.com/api/public/otel"
    encoded = found.headers["traces"]["authorization"].removeprefix("Basic ")
    assert base64.b64decode(encoded) == b"pk:sk/"


def test_an_unknown_backend_names_those_there_are() -> None:
    with pytest.raises(llmwatch.ConfigError, match=r"'datadgo'.*'datadog'"):
        Config.load(backend="datadgo")


def test_a_url_where_a_host_belongs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_API_KEY", SECRET)
    monkeypatch.setenv("DD_SITE", "https://app.datadoghq.eu")
    with pytest.raises(
        llmwatch.ConfigError, match=r"endpoint 'https://otlp\.https://app"
    ) as raised:
        Config.load(backend="datadog")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("value", ["two\nlines", "schlüssel"])
def test_a_key_that_cannot_be_a_header_is_refused_unseen(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONEYCOMB_API_KEY", value)
    with pytest.raises(llmwatch.ConfigError, match="hidden") as caught:
        Config.load(backend="honeycomb")
    assert value not in str(caught.value)


def test_no_key_is_in_a_repr_or_a_log(keys: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Not of the settings, nor of the backend, nor in what is logged while it fails to send."""
    keys("datadog")
    config = Config.load(backend="datadog")
    assert isinstance(config.backend, Backend)
    assert "backend='datadog'" in repr(config)
    refusing = HttpReceiver(status=403, body=lambda headers: str(headers).encode())
    with refusing as receiver, caplog.at_level(logging.DEBUG):
        llmwatch.instrument(backend="datadog", endpoint=receiver.endpoint, sources=[])
        llmwatch.shutdown(1)
    assert SECRET not in repr(config) + str(config) + caplog.text


def test_the_keyword_and_the_standard_variables_win(
    keys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one: a header that is given replaces that header, and leaves the others."""
    keys("datadog")
    config = Config.load(backend="datadog", headers={"DD-OTLP-Source": "mine"})
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "dd-otlp-source=theirs,x=%20y")
    headers = otlp._arguments(config, "traces", "http/protobuf")["headers"]
    assert headers == {"dd-api-key": f"{SECRET}-DD_API_KEY", "dd-otlp-source": "mine", "x": "y"}

    plain = Config.load(backend="datadog")
    assert otlp._arguments(plain, "traces", "grpc")["endpoint"] == "https://otlp.datadoghq.com"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://elsewhere:4318/v1/traces")
    assert "endpoint" not in otlp._arguments(plain, "traces", "http/protobuf")
    assert "endpoint" in otlp._arguments(plain, "metrics", "http/protobuf")
    near = Config.load(backend="datadog", endpoint="http://near:4318")
    assert otlp._arguments(near, "traces", "http/protobuf")["endpoint"].startswith("http://near")

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative")
    assert "preferred_temporality" not in otlp._arguments(plain, "metrics", "http/protobuf")
    if (preferences := otlp.metric_preferences(plain)) is not None:
        assert set(preferences[0].values()) == {AggregationTemporality.CUMULATIVE}


def test_exporters_that_the_environment_names_win(
    keys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys("phoenix")
    config = Config.load(backend="phoenix")
    assert [builders.exporter_names(config, signal) for signal in SIGNALS] == [["otlp"], [], []]
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "console")
    assert builders.exporter_names(config, "metrics") == ["console"]


def test_a_backend_names_the_resource_where_nobody_else_does(
    keys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Datadog's unified tags, under the standard variables, under the keywords."""
    keys("datadog")
    for name in ("SERVICE", "ENV", "VERSION"):
        monkeypatch.setenv(f"DD_{name}", f"dd-{name.lower()}")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=otel")
    resource = builders.resource_of(Config.load(backend="datadog"))
    assert resource.attributes["service.name"] == "dd-service"
    assert resource.attributes["deployment.environment.name"] == "otel"
    given = Config.load(backend="datadog", service_name="mine")
    assert builders.resource_of(given).attributes["service.name"] == "mine"


def test_the_environment_may_name_the_backend(keys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keys("honeycomb")
    monkeypatch.setenv("LLMWATCH_BACKEND", "honeycomb")
    backend = Config.load().backend
    assert backend is not None
    assert backend.name == "honeycomb"
