"""``llmwatch doctor``: look at what is there, send one of each signal, and say what came back.

Whatever is shown goes through `Report`, which hides every value that may be a key.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import fields
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, entry_points, version
from platform import platform, python_version
from typing import Any, get_args

import click

from llmwatch import config, patching
from llmwatch._version import __version__
from llmwatch.backends import PRESETS, variables
from llmwatch.cli import options
from llmwatch.cli.probe import Report, deliver
from llmwatch.config import Config
from llmwatch.errors import ConfigError, LlmwatchError
from llmwatch.export.dropped import Signal

REQUIRED = (
    "opentelemetry-api",
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp",
    "opentelemetry-instrumentation",
    "wrapt",
    "numpy",
)
OPTIONAL = (
    "openai",
    "transformers",
    "torch",
    "sentence-transformers",
    "nvidia-ml-py",
    "psutil",
    "genai-prices",
    "opentelemetry-exporter-prometheus",
    "opentelemetry-instrumentation-logging",
    "opentelemetry-distro",
)
SIGNALS: tuple[Signal, ...] = get_args(Signal)


@click.command()
@options.settings
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 300),
    default=10.0,
    show_default=True,
    help="Seconds to wait for an answer to each signal.",
)
@click.option("--offline", is_flag=True, help="Send nothing.")
def doctor(timeout: float, offline: bool, **given: Any) -> None:
    """Check what is installed, and that telemetry arrives.

    Shows versions, settings and where each came from, what is patched, and other instrumentations;
    then sends a test span, metric and event, all called llmwatch.doctor, and tells what came back.
    Options are those of "llmwatch run"; keys are never shown.

    The exit code is 0 if all is well, 1 if anything failed, 2 where an option cannot be used.
    """
    found = options.given(given)
    options.put(found)
    report = Report()
    report.title(f"llmwatch {__version__}, Python {python_version()}, {platform()}")
    _versions(report)
    loaded = _settings(report, found)
    if loaded is not None:
        _patches(report, loaded)
        _others(report)
        for signal in () if offline else SIGNALS:
            deliver(report, loaded, signal, timeout)
    report.title("All is well." if not report.failed else f"{report.failed} failed.")
    sys.exit(1 if report.failed else 0)


def _versions(report: Report) -> None:
    report.title("Installed")
    for name in REQUIRED:
        if (found := _version(name)) is None:
            report.fail(f"{name} is missing: install llmwatch-otel again.")
        else:
            report.ok(f"{name} {found}")
    for name in OPTIONAL:
        if (found := _version(name)) is not None:
            report.ok(f"{name} {found}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _settings(report: Report, given: dict[str, str]) -> Config | None:
    report.title("Settings that are not the default")
    try:
        loaded = Config.load()
    except ConfigError as error:
        report.fail(str(error))
        return None
    for name in sorted(each.name for each in fields(Config)):
        if (found := config.from_environment(name)) is not None:
            origin = "this command" if name in given else found[0]
            shown = "(hidden)" if name == "headers" else repr(getattr(loaded, name))
            report.note(f"{name} = {shown}, from {origin}")
    for variable, text in sorted(os.environ.items()):
        if variable.startswith("OTEL_"):
            report.note(f"{variable} = {_shown(variable, text)}")
    if loaded.backend is not None:
        for variable in variables(PRESETS[loaded.backend.name]):
            report.note(f"{variable} is {'set' if os.environ.get(variable) else 'not set'}")
    return loaded


def _shown(variable: str, text: str) -> str:
    secret = any(word in variable for word in ("HEADERS", "KEY", "TOKEN", "SECRET", "PASSWORD"))
    return "(hidden)" if secret or "@" in text or "?" in text else text


def _patches(report: Report, loaded: Config) -> None:
    """Instrument, and import the client, whose methods are patched when it is."""
    from llmwatch import session

    report.title("Watched")
    with report.listening("llmwatch") as heard:
        try:
            session.instrument()
        except LlmwatchError as error:
            report.fail(str(error))
            return
        if _version("openai") is not None and "openai" in (loaded.sources or session.SOURCES):
            __import__("openai")
        for each in patching.installed():
            modules = each.modules
            done = sum(modules.values())
            when = "" if done else ", when it is imported"
            report.ok(f"{each.name}: {done} of {len(modules)} modules patched{when}")
        for library in patching.awaited():
            report.ok(f"{library}: when it is imported")
        session.shutdown(0.0)
    for line in heard:
        report.fail(line)


def _others(report: Report) -> None:
    """Instrumentations that may watch the same calls; and providers that are set already."""
    from llmwatch.export import global_providers
    from llmwatch.sources.openai.neighbours import NEIGHBOURS

    report.title("Other instrumentations")
    for neighbour in NEIGHBOURS:
        if _there(neighbour.package):
            active = neighbour.loaded in sys.modules
            state = "loaded here" if active else "installed"
            report.note(f"{neighbour.name}: {state}; llmwatch leaves calls that it watches to it")
    names = sorted({each.name for each in entry_points(group="opentelemetry_instrumentor")})
    report.note(f"for opentelemetry-instrument: {', '.join(names) or 'none'}")
    for signal in SIGNALS:
        if (provider := global_providers.get(signal)) is not None:
            report.note(f"{signal} go through a provider that is set: {type(provider).__name__}")


def _there(package: str) -> bool:
    """Whether a package could be imported, found without importing what it is in."""
    path: Iterable[str] | None = None
    name = ""
    for part in package.split("."):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, None if path is None else list(path))
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return True
