"""Datadog's own test agent takes what the preset sends: headers, temporality, every signal."""

from __future__ import annotations

import pytest

from tests.collector.collector import Arrived, Collector
from tests.collector.programs import Programs

pytestmark = pytest.mark.collector

CALLS = """
call()
stream(4)
say("done")
"""
HEADERS = {
    "traces": {"dd-api-key": "dd-not-a-key", "dd-otlp-source": "llmobs"},
    "metrics": {"dd-api-key": "dd-not-a-key"},
    "logs": {"dd-api-key": "dd-not-a-key", "dd-protocol": "otlp"},
}


def whole(arrived: Arrived) -> bool:
    return len(arrived.spans) == len(arrived.events) == 2 and bool(arrived.points)


@pytest.mark.parametrize("backend", ["datadog", "datadog-agent"])
def test_the_test_agent_takes_every_signal(
    collector: Collector, programs: Programs, service: str, backend: str
) -> None:
    """With the headers of its signal and as deltas; the unified tags are on the resource."""
    running = programs.start(
        CALLS,
        {"DD_API_KEY": "dd-not-a-key", "DD_ENV": "staging", "DD_VERSION": "7"},
        backend=backend,
        endpoint=collector.direct("http/protobuf"),
        headers={"x-datadog-test-session-token": service},
        operation_events=True,
    )
    assert running.says() == "done"
    running.ends()
    arrived = collector.arrived(service, whole, service)
    for each in (*arrived.spans, *arrived.events, *arrived.points):
        assert each["resource"]["deployment.environment.name"] == "staging"
        assert each["resource"]["service.version"] == "7"
    temporality = {
        (each["kind"], each["monotonic"], each["temporality"]) for each in arrived.points
    }
    assert temporality <= {
        ("histogram", False, "AGGREGATION_TEMPORALITY_DELTA"),
        ("sum", True, "AGGREGATION_TEMPORALITY_DELTA"),
        ("sum", False, "AGGREGATION_TEMPORALITY_CUMULATIVE"),  # what goes up and down
        ("gauge", False, ""),
    }
    assert {kind for kind, _, _ in temporality} == {"histogram", "sum", "gauge"}
    assert {point["name"] for point in arrived.points} >= {
        "gen_ai.client.operation.duration",
        "llmwatch.telemetry.dropped",
    }
    requests = collector.requests(service)
    for signal, headers in HEADERS.items():
        sent = [each for each in requests if each["url"].endswith(f"/v1/{signal}")]
        assert sent
        for each in sent:
            found = {name.lower(): text for name, text in each["headers"].items()}
            there = headers if backend == "datadog" else {}
            assert {name: text for name, text in found.items() if name.startswith("dd-")} == there
