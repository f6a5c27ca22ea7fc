"""``opentelemetry-instrument`` and its kin load llmwatch, and are never hurt by it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llmwatch import _guard, session
from llmwatch.config import OBJECTS, Config
from llmwatch.instrumentor import Configuration, LlmwatchInstrumentor
from tests.sources.openai import transport

ROOT = Path(__file__).parents[1]
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}

PROGRAM = """
import sys
from installed import Other
from tests.sources.openai import transport

ask = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
with transport.client() as client:
    said = client.chat.completions.create(**ask).choices[0].message.content
    chunks = sum(1 for _ in client.chat.completions.create(**ask, stream=True))
    client.embeddings.create(model="m", input="hi")
other = Other().is_instrumented_by_opentelemetry
print(f"said={said} chunks={chunks} other={other}", file=sys.stderr)
"""
SAID = "said=hello chunks=8 other=True"

INSTALLED = """
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.sdk._configuration import _OTelSDKConfigurator

class Configurator(_OTelSDKConfigurator):
    pass

class Other(BaseInstrumentor):
    def instrumentation_dependencies(self):
        return ()

    def _uninstrument(self, **kwargs):
        pass
"""


class Run:
    """One run of a program under the command: its exit status, output, spans and messages.

    The program is `PROGRAM`, which prints nothing, unless another is given.
    """

    def __init__(
        self,
        folder: Path,
        *,
        program: Path | None = None,
        llmwatch: bool = True,
        **environment: str,
    ) -> None:
        command = shutil.which("opentelemetry-instrument", path=Path(sys.executable).parent)
        assert command is not None
        if program is None:
            program = folder / "program.py"
            program.write_text(PROGRAM)
        install(folder / "site", llmwatch=llmwatch)
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OTEL_", "LLMWATCH_"))
        }
        done = subprocess.run(
            [command, sys.executable, str(program)],
            cwd=folder,
            env=env
            | {
                "PYTHONPATH": os.pathsep.join(map(str, (folder / "site", ROOT))),
                "OTEL_TRACES_EXPORTER": "console",
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_LOGS_EXPORTER": "none",
            }
            | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.status = done.returncode
        self.messages = done.stderr.splitlines()
        self.output = done.stdout

    @property
    def spans(self) -> list[Any]:
        """What the console exporter has printed, where the program prints nothing."""
        return list(objects(self.output))

    @property
    def operations(self) -> list[Any]:
        """What each GenAI span is of."""
        found = [span["attributes"].get("gen_ai.operation.name") for span in self.spans]
        return sorted(each for each in found if each)


def install(site: Path, *, llmwatch: bool) -> None:
    """Write what installing packages writes; it goes before those that are really installed.

    The SDK's configurator comes under the name of the package that has it, and another
    instrumentation comes after llmwatch.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = project["entry-points"]["opentelemetry_instrumentor"] if llmwatch else {}
    others = {"other": "installed:Other"}
    distribution(site, "llmwatch-otel", "opentelemetry_instrumentor", ours | others)
    configurator = {"sdk": "installed:Configurator"}
    distribution(site, "opentelemetry-distro", "opentelemetry_configurator", configurator)
    (site / "installed.py").write_text(INSTALLED)


def distribution(site: Path, name: str, group: str, entries: Mapping[str, str]) -> None:
    """Write the metadata of one installed distribution."""
    about = site / f"{name.replace('-', '_')}-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n")
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")


def objects(text: str) -> Iterator[Any]:
    """The JSON objects that were printed one after the other."""
    decoder = json.JSONDecoder()
    text = text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:].lstrip()


def test_the_command_watches_a_program_that_knows_nothing_of_it(tmp_path: Path) -> None:
    """No change of code: one span a call, through the providers that the command set up."""
    run = Run(tmp_path)
    assert (run.status, run.messages) == (0, [SAID])
    assert run.operations == ["chat", "chat", "embeddings"]


def test_without_the_entry_point_nothing_is_watched(tmp_path: Path) -> None:
    """It is the entry point that starts llmwatch, nothing else."""
    run = Run(tmp_path, llmwatch=False)
    assert (run.status, run.messages) == (0, [SAID])
    assert run.operations == []


def test_it_can_be_disabled_like_any_other(tmp_path: Path) -> None:
    """``OTEL_PYTHON_DISABLED_INSTRUMENTATIONS`` knows it by the name of the project."""
    run = Run(tmp_path, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="llmwatch")
    assert (run.status, run.messages) == (0, [SAID])
    assert run.operations == []


def test_a_bad_setting_is_one_line_and_stops_nobody(tmp_path: Path) -> None:
    """The program runs, other instrumentations are loaded, and the variable is named."""
    run = Run(tmp_path, LLMWATCH_SEMCONV="9")
    assert run.status == 0
    error, said = run.messages
    assert "LLMWATCH_SEMCONV='9'" in error
    assert said == SAID
    assert run.operations == []


def test_the_example_is_watched_without_a_change(tmp_path: Path) -> None:
    """The example that never mentions llmwatch: a line for each of its two calls."""
    run = Run(
        tmp_path,
        program=ROOT / "examples" / "no_code_change.py",
        OTEL_TRACES_EXPORTER="none",
        LLMWATCH_CONSOLE="1",
    )
    assert run.status == 0
    assert run.output.count("harbour") >= 1
    assert len(run.messages) == 2
    assert all(line.startswith("llmwatch chat gpt-4o-mini") for line in run.messages)


@pytest.fixture
def instrumentor() -> Iterator[LlmwatchInstrumentor]:
    """The one instrumentor of this process, off before and after."""
    instrumentor = LlmwatchInstrumentor()
    yield instrumentor
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


def test_it_instruments_and_undoes(instrumentor: LlmwatchInstrumentor) -> None:
    """The two methods of every OpenTelemetry instrumentation are llmwatch's own two."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for _ in range(2):
        exporter.clear()
        instrumentor.instrument(tracer_provider=provider)
        with transport.client() as client:
            client.chat.completions.create(**ASK)
            assert len(exporter.get_finished_spans()) == 1
            instrumentor.uninstrument()
            assert session.current() is None
            client.chat.completions.create(**ASK)
            assert len(exporter.get_finished_spans()) == 1


def test_an_unknown_setting_is_an_error_in_the_log(
    instrumentor: LlmwatchInstrumentor, caplog: pytest.LogCaptureFixture
) -> None:
    """Distributions may hand over anything."""
    instrumentor.instrument(colour="blue")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "'colour'" in record.getMessage()
    assert session.current() is None


class Broken(Mapping[str, str]):
    """Headers that cannot be read."""

    def __getitem__(self, key: str) -> str:
        raise RuntimeError(key)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def __len__(self) -> int:
        return 1


def test_no_failure_of_ours_passes(
    instrumentor: LlmwatchInstrumentor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever goes wrong, the instrumentations that come after are loaded."""
    monkeypatch.setattr(_guard, "strict", False)
    instrumentor.instrument(headers=Broken())
    assert _guard.error_counts() == {"instrumentor.instrument": 1}
    assert len(caplog.records) == 1
    instrumentor.uninstrument()


def test_a_declarative_file_may_give_every_setting_that_is_not_an_object() -> None:
    """What the file leaves out is not given at all, so that variables and defaults hold."""
    names = {each.name for each in fields(Configuration)}
    assert names == {each.name for each in fields(Config)} - OBJECTS
    assert set(vars(Configuration()).values()) == {None}


def test_a_declarative_file_instruments(instrumentor: LlmwatchInstrumentor) -> None:
    """The settings under ``llmwatch:`` reach `instrument`, validated there."""
    reason = "opentelemetry-configuration is not installed"
    declarative = pytest.importorskip("opentelemetry.configuration.instrumentation", reason=reason)
    models = pytest.importorskip("opentelemetry.configuration.models", reason=reason)
    options = {"timeline": True, "propagate": ["a.example"], "capture_content": "span_only"}
    declarative.configure_instrumentation(
        models.ExperimentalInstrumentation(python={"llmwatch": options})
    )
    assert instrumentor.is_instrumented_by_opentelemetry
    current = session.current()
    assert current is not None
    assert current.config.timeline
    assert current.config.propagate == ("a.example",)
