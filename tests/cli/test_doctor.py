"""``llmwatch doctor`` says what came back, in words and by its exit code, and shows no key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli import programs
from tests.receivers import GrpcReceiver, HttpReceiver, black_hole, closed_endpoint

SECRET = "sk-very-secret"
SENT = {"traces", "metrics", "logs"}


def doctor(folder: Path, *arguments: str, **more: str) -> Any:
    """One run; whatever happens, it shows no key and no traceback."""
    more.setdefault("XDG_STATE_HOME", str(folder))
    ran = programs.llmwatch(folder, "doctor", *arguments, **more)
    assert SECRET not in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    return ran


@pytest.mark.parametrize(
    ("kind", "protocol"), [(HttpReceiver, "http/protobuf"), (GrpcReceiver, "grpc")]
)
def test_a_live_receiver_gets_one_of_each(tmp_path: Path, kind: Any, protocol: str) -> None:
    """It is told of the version of what matters, of the settings, and of three deliveries."""
    with kind() as receiver:
        more = {"LLMWATCH_HEADERS": f"api-key={SECRET}", "LLMWATCH_SAMPLE_RATIO": "0"}
        ran = doctor(
            tmp_path, "--endpoint", receiver.endpoint, "--protocol", protocol, "--timeout", "30",
            **more,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout
        assert receiver.names() == ["llmwatch.doctor"]
        assert {point.as_int for _, point in receiver.points("llmwatch.doctor")} == {1}
        assert [event.event_name for event in receiver.events()] == ["llmwatch.doctor"]
        assert {each.headers["api-key"] for each in receiver.received} == {SECRET}
    assert ran.stdout.count("accepted by") == 3
    for text in ("opentelemetry-sdk", "openai", "headers = (hidden), from LLMWATCH_HEADERS"):
        assert text in ran.stdout
    assert f"endpoint = '{receiver.endpoint}', from this command" in ran.stdout


@pytest.mark.parametrize("setting", ["sample_ratio=0", "keep=errors", "trace_limit=0.001"])
def test_no_sampling_leaves_its_span_out(tmp_path: Path, setting: str) -> None:
    with HttpReceiver() as receiver:
        ran = doctor(tmp_path, "--endpoint", receiver.endpoint, "--set", setting)
        assert (ran.returncode, receiver.names()) == (0, ["llmwatch.doctor"])


def test_a_key_that_is_refused_is_told_and_not_shown(tmp_path: Path) -> None:
    """Not even by a server that sends it back in its answer."""
    echo = HttpReceiver(status=401, body=lambda headers: str(headers).encode())
    with echo as receiver:
        more = {"DD_API_KEY": SECRET, "LLMWATCH_ENDPOINT": receiver.endpoint}
        ran = doctor(tmp_path, "--backend", "datadog", **more)
    assert {each.signal for each in receiver.received} == SENT
    assert ran.returncode == 1
    assert ran.stdout.count("FAIL") == 3
    assert "401" in ran.stdout
    assert "DD_API_KEY is set" in ran.stdout
    assert "dd-api-key, dd-otlp-source" in ran.stdout


def test_nobody_there_is_told_at_once(tmp_path: Path) -> None:
    """With the address, and without a minute of retries."""
    endpoint = closed_endpoint()
    ran = doctor(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert ran.returncode == 1
    assert ran.stdout.count(f"{endpoint}/v1/") == 3
    assert "cannot be reached" in ran.stdout


def test_a_proxy_is_asked_instead(tmp_path: Path) -> None:
    """Where the environment names one, as exporters do: it alone may know the address."""
    with HttpReceiver() as proxy:
        user = proxy.endpoint.replace("://", f"://me:{SECRET}@")
        where = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.invalid:4318"}
        ran = doctor(tmp_path, http_proxy=user, no_proxy="", **where)
    assert ran.returncode == 0, ran.stdout
    assert {each.signal for each in proxy.received} == SENT
    assert f"through the proxy {proxy.endpoint}" in ran.stdout
    ran = doctor(tmp_path, http_proxy=closed_endpoint(), no_proxy="collector.invalid", **where)
    assert ran.returncode == 1
    assert "proxy" not in ran.stdout


def test_no_answer_is_told_in_time(tmp_path: Path) -> None:
    with black_hole() as endpoint:
        ran = doctor(tmp_path, "--endpoint", endpoint, "--timeout", "0.3")
    assert ran.returncode == 1
    assert ran.stdout.count("no answer within 0.3 s") == 3


def test_with_nothing_configured_the_store_is_tried(tmp_path: Path) -> None:
    ran = doctor(tmp_path)
    assert ran.returncode == 0
    assert ran.stdout.count(f"the local store {tmp_path / 'llmwatch'}") == 3


def test_what_a_backend_does_not_take_is_not_sent(tmp_path: Path) -> None:
    with HttpReceiver() as receiver:
        ran = doctor(tmp_path, "--backend", "phoenix", PHOENIX_COLLECTOR_ENDPOINT=receiver.endpoint)
        assert {each.signal for each in receiver.received} == {"traces"}
    assert ran.returncode == 0
    assert ran.stdout.count("not sent") == 2


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"LLMWATCH_SAMPLE_RATIO": "7"}, "LLMWATCH_SAMPLE_RATIO='7'"),
        ({"LLMWATCH_BACKEND": "honeycomb"}, "HONEYCOMB_API_KEY"),
        ({"OTEL_TRACES_EXPORTER": "pigeon"}, "'pigeon'"),
        ({"LLMWATCH_SOURCES": "opensky"}, "'opensky'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_told(
    tmp_path: Path, more: dict[str, str], named: str
) -> None:
    """By the name of its variable."""
    ran = doctor(tmp_path, **more)
    assert ran.returncode == 1
    assert named in ran.stdout


def test_offline_nothing_is_sent(tmp_path: Path) -> None:
    with HttpReceiver() as receiver:
        ran = doctor(tmp_path, "--offline", "--endpoint", receiver.endpoint)
        assert (ran.returncode, receiver.received) == (0, [])


def test_keys_in_variables_of_opentelemetry_are_hidden(tmp_path: Path) -> None:
    """Headers whole; addresses where they hold a password."""
    host = closed_endpoint().removeprefix("http://")
    ran = doctor(
        tmp_path,
        OTEL_EXPORTER_OTLP_HEADERS=f"api-key={SECRET}",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://me:{SECRET}@{host}",
    )
    assert ran.returncode == 1
    assert "OTEL_EXPORTER_OTLP_HEADERS = (hidden)" in ran.stdout


def test_other_instrumentations_are_named(tmp_path: Path) -> None:
    """A neighbour by what is installed; and providers that somebody has set already."""
    package = tmp_path / "openlit" / "instrumentation" / "openai"
    package.mkdir(parents=True)
    for each in (package, package.parent, package.parent.parent):
        (each / "__init__.py").write_text("")
    (tmp_path / "sitecustomize.py").write_text(
        "from opentelemetry import trace\nfrom opentelemetry.sdk.trace import TracerProvider\n"
        "trace.set_tracer_provider(TracerProvider())\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    ran = doctor(tmp_path, "--offline", PYTHONPATH=path)
    assert ran.returncode == 0
    assert "OpenLIT: installed" in ran.stdout
    assert "traces go through a provider that is set: TracerProvider" in ran.stdout


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["doctor", "--help"], ["demo", "--help"]]
)
def test_every_command_explains_itself(tmp_path: Path, arguments: list[str]) -> None:
    ran = programs.llmwatch(tmp_path, *arguments)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("Usage: llmwatch")


def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    ran = programs.llmwatch(tmp_path, "docter")
    assert ran.returncode == 2
    assert "docter" in ran.stderr


WITHOUT_CLICK = """
import sys

class No:
    def find_spec(self, name, *more):
        if name == "click":
            raise ModuleNotFoundError(name=name)

sys.meta_path.insert(0, No())
from llmwatch.cli import main
main()
"""


def test_without_the_extra_it_says_how_to_get_it(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_CLICK], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.strip().endswith("pip install 'llmwatch-otel[cli]'")
