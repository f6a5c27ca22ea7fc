"""Names in Prometheus are those that OpenTelemetry's exporter gives."""

from __future__ import annotations

import re

import pytest
from opentelemetry.sdk.metrics import MeterProvider

from llmwatch.rules import names
from llmwatch.semconv import Metric
from tests.rules.test_files import every_metric

exporter = pytest.importorskip("opentelemetry.exporter.prometheus")
client = pytest.importorskip("prometheus_client")


def test_names_are_the_exporters() -> None:
    registry = client.CollectorRegistry()
    reader = exporter.PrometheusMetricReader(registry=registry)
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("tests")
    for metric in every_metric():
        give(meter, metric)
    text = client.generate_latest(registry).decode()
    served = set(re.findall(r"^([a-zA-Z_:][\w:]*)\{", text, re.MULTILINE)) - {"target_info"}
    ours = set()
    for metric in every_metric():
        parts = ("bucket", "sum", "count") if metric.kind == "histogram" else ()
        ours |= {f"{names.exposed(metric)}_{each}" for each in parts} or {names.exposed(metric)}
    assert ours == served
    reader.shutdown()


def give(meter, metric: Metric) -> None:
    """One measurement of a metric."""
    from opentelemetry.metrics import Observation

    attributes = {"error.type": "x"}
    if metric.kind == "histogram":
        meter.create_histogram(metric.name, metric.unit).record(1, attributes)
    elif metric.kind == "counter":
        meter.create_counter(metric.name, metric.unit).add(1, attributes)
    else:
        create = getattr(meter, f"create_{metric.kind}")
        create(metric.name, [lambda _: [Observation(1, attributes)]], unit=metric.unit)


def test_gauges_without_a_unit_are_found_under_both_names() -> None:
    """Collectors append ``_ratio``, OpenTelemetry's exporter for Python does not."""
    gauge = Metric("a.share", "1", "observable_gauge", "")
    assert names.select(gauge, 'b="c"') == '{__name__=~"a_share(_ratio)?", b="c"}'
    assert names.select(gauge._replace(unit="s")) == "a_share_seconds"


@pytest.mark.parametrize(
    ("name", "unit", "kind", "received"),
    [
        ("a.b", "s", "histogram", "a_b_seconds"),
        ("a.b", "{token}", "counter", "a_b_total"),
        ("a.b", "{token}/s", "histogram", "a_b_per_second"),
        ("a.b", "By/s", "observable_gauge", "a_b_bytes_per_second"),
        ("a.b", "J/{token}", "histogram", "a_b_joules"),
        ("a.b", "1", "observable_gauge", "a_b_ratio"),
        ("a.b", "1", "histogram", "a_b"),
        ("a.b", "1", "observable_up_down_counter", "a_b"),
        ("a.ratio.b", "1", "observable_gauge", "a_b_ratio"),
        ("a.bytes", "By", "observable_counter", "a_bytes_total"),
        ("a.speed_ratio", "1", "observable_gauge", "a_speed_ratio"),
    ],
)
def test_names_that_came_by_otlp_are_those_of_the_specification(name, unit, kind, received) -> None:
    assert names.received(Metric(name, unit, kind, "")) == received


def test_a_metric_is_found_by_whichever_way_it_came() -> None:
    """Only where the two names differ is more than one looked for."""
    for metric in every_metric():
        part = "sum" if metric.kind == "histogram" else ""
        selector = names.select(metric, part=part)
        for name in (names.exposed(metric), names.received(metric)):
            wanted = f"{name}_{part}" if part else name
            found = re.search(r'__name__=~"([^"]+)"', selector)
            assert re.fullmatch(found[1] if found else re.escape(selector), wanted)
