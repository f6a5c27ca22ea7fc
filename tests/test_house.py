"""The house rules that a machine can check: floors, imports, words, commands."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, requires
from pathlib import Path

import pytest

from llmwatch import _clash, semconv, semconv_hardware, semconv_models, semconv_tasks

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

HEAVY = {
    "genai_prices",
    "grpc",
    "httpx",
    "httpx2",
    "numpy",
    "openai",
    "opentelemetry.exporter",
    "opentelemetry.sdk",
    "prometheus_client",
    "pynvml",
    "requests",
    "torch",
    "transformers",
}
FEW = 60
"""Modules, most of them Python's own, that ``import llmwatch`` may add to a bare interpreter."""


def python(program: str) -> str:
    """What a program prints in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout


def test_importing_llmwatch_loads_nothing_heavy_and_little_else():
    added = json.loads(
        python(
            "import sys, json; before = set(sys.modules); import llmwatch;"
            "print(json.dumps(sorted(set(sys.modules) - before)))"
        )
    )
    loaded = {name for name in added if any(f"{name}.".startswith(f"{each}.") for each in HEAVY)}
    assert not loaded
    others = {name.partition(".")[0] for name in added} - sys.stdlib_module_names - {"llmwatch"}
    assert not others
    assert len(added) <= FEW, added


LATER = {
    "llmwatch.export.console",
    "llmwatch.export.local_store",
    "llmwatch.signals.content",
    "llmwatch.signals.drift_numbers",
    "llmwatch.signals.prices",
    "llmwatch.sources.openai.channel",
    "llmwatch.sources.openai.content",
    "llmwatch.sources.openai.dialects",
    "llmwatch.sources.sentence_transformers",
    "llmwatch.sources.transformers",
    "numpy",
    "opentelemetry.exporter",
    "opentelemetry.propagate",
}
"""What is imported when it is first needed: not by a plain call of an application that has its own
providers."""
FEW_FOR_A_CALL = 105
"""Modules that instrumenting with every source, and a first call, may add to it: each takes 0.2 to
1 ms. `nox -s bench` measures the whole."""

A_CALL = """
import json, sys
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from tests.sources.openai.transport import client

complete = client().chat.completions.create
before = set(sys.modules)
import llmwatch

llmwatch.instrument(
    tracer_provider=TracerProvider(),
    meter_provider=MeterProvider(),
    logger_provider=LoggerProvider(),
    cost=False,
)
complete(model="m", messages=[])
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_a_first_call_loads_what_it_needs_and_no_more():
    pytest.importorskip("openai")
    added = [name for name in json.loads(python(A_CALL)) if not f"{name}.".startswith("openai.")]
    assert not {name for name in added if any(f"{name}.".startswith(f"{each}.") for each in LATER)}
    assert len(added) <= FEW_FOR_A_CALL, added


def test_imports_point_down():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import import_linter as go; go()", "lint"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def files_of_the_project() -> list[Path]:
    """What git keeps; nothing where there is no git, as in an unpacked source archive."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


FORBIDDEN = {
    "a path outside the project": r"\.\./(shared|scratch)\b|(?<![\w.])/work/|/opt/(pypi|wheels)",
    "somebody else's distribution": r"pip3? install (-\S+ )*['\"]?llmwatch(?!-otel)\b",
    "a registry's host": r"pypi\.org|pythonhosted\.org|npmjs\.(org|com)",
    "a relative of the project that users cannot see": r"DESIGN\.md|BRIEF\.md|\bissues show\b",
}


@pytest.mark.parametrize("pattern", FORBIDDEN.values(), ids=FORBIDDEN)
def test_no_file_speaks_of(pattern):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in files_of_the_project()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not found


COMMAND = re.compile(r"python3 -m venv \.venv && \.venv/bin/pip install nox && .*nox -s (\w+)")


def test_the_commands_of_the_readme_are_sessions_and_run_in_ci():
    sessions = set(
        re.findall(r"@nox\.session[\s\S]*?\ndef (\w+)", (ROOT / "noxfile.py").read_text())
    )
    offered = {match[1]: match[0] for match in COMMAND.finditer(README)}
    assert list(offered) == ["demo", "tests"]
    assert set(offered) <= sessions
    assert offered["tests"] in (ROOT / ".ci/run").read_text().splitlines()


def test_core_dependencies_are_ranges():
    """An exact pin in a library takes an application's own choice away."""
    core = PROJECT["project"]["dependencies"]
    assert not [each for each in core if "==" in each or "~=" in each or ">=" not in each]


def test_all_holds_every_extra():
    extras = PROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    named = set(re.findall(r"[\w-]+", everything.partition("[")[2]))
    needs_torch = {
        "torch",
        "transformers",
        "sentence-transformers",
    }  # its build is the user's choice
    assert named == set(extras) - {"all"} - needs_torch


def test_the_installed_distribution_says_what_the_project_says():
    assert any(each.startswith("wrapt") for each in requires("llmwatch-otel") or [])
    (point,) = entry_points(group="opentelemetry_instrumentor", name="llmwatch")
    assert point.value == "llmwatch.instrumentor:LlmwatchInstrumentor"


@pytest.fixture
def clash(monkeypatch):
    """`warn_of_clash`, as in a fresh process."""
    _clash.warn_of_clash.cache_clear()
    yield _clash.warn_of_clash
    _clash.warn_of_clash.cache_clear()


def test_another_distribution_of_our_name_is_told_once(tmp_path, monkeypatch, caplog, clash):
    (tmp_path / "llmwatch-9.9.dist-info").mkdir()
    (tmp_path / "llmwatch-9.9.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: llmwatch\nVersion: 9.9\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with caplog.at_level(logging.WARNING, logger="llmwatch"):
        clash()
        clash()
    (record,) = caplog.records
    assert "9.9" in record.getMessage()
    assert "llmwatch-otel" in record.getMessage()


def test_alone_there_is_no_clash(caplog, clash):
    clash()
    assert not caplog.records


def constants(names: dict[str, object]) -> set[str]:
    return {
        value for name, value in names.items() if isinstance(value, str) and re.match("[A-Z]", name)
    }


def test_every_attribute_and_event_has_a_meaning():
    """The reference in the docs is made of these: what is not described would be missing there."""
    emitted = constants(vars(semconv)) - {semconv.SCHEMA_URL, semconv.SCOPE}
    assert emitted == set(semconv.ATTRIBUTES) | set(semconv.EVENTS)
    assert constants(vars(semconv_hardware)) == set(semconv_hardware.ATTRIBUTES)
    assert constants(vars(semconv_models)) == set(semconv_models.ATTRIBUTES)
    assert constants(vars(semconv_tasks)) == set(semconv_tasks.ATTRIBUTES)
