"""Configurations in the docs do what they say."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from llmwatch import semconv
from tests.collector.collector import Collector, Process, free_ports
from tests.collector.programs import Programs

pytestmark = pytest.mark.collector

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"


def test_rotel_drops_prompts_and_answers(
    collector: Collector, programs: Programs, service: str, tmp_path: Path
) -> None:
    """The command of the docs, on other ports and to another place; all else arrives."""
    (grpc, http), venv = free_ports(2), collector._venv
    (program,) = venv.glob("lib/python*/site-packages/rotel/rotel-agent")
    text = (RECIPES / "rotel.sh").read_text()
    for old, new in {
        "rotel-agent": str(program),
        "localhost:4317": f"127.0.0.1:{grpc}",
        "localhost:4318": f"127.0.0.1:{http}",
        "rotel_redact.py": str(RECIPES / "rotel_redact.py"),
        "https://otlp.example.com": collector.direct("http/protobuf"),
        "$API_KEY": "not-a-key",
    }.items():
        assert old in text
        text = text.replace(old, new)
    command = shlex.split(text, comments=True)
    command[2:2] = ["--pid-file", str(tmp_path / "pid")]
    rotel = Process([each for each in command if each.strip()], [http], tmp_path / "log")
    try:
        plain = collector.rotel.endpoint("http/protobuf")
        for name, endpoint in (("plain", plain), ("redacted", f"http://127.0.0.1:{http}")):
            programs.start(
                "call()", endpoint=endpoint, capture_content=True, service_name=f"{service}-{name}"
            ).ends()
        found = {
            name: collector.arrived(
                f"{service}-{name}", lambda now: len(now.spans) == len(now.events) == 1
            )
            for name in ("plain", "redacted")
        }
    finally:
        rotel.stop()
    for name, arrived in found.items():
        for each in (*arrived.spans, *arrived.events):
            assert (semconv.INPUT_MESSAGES in each["attributes"]) is (name == "plain")
            assert semconv.USAGE_OUTPUT_TOKENS in each["attributes"]
