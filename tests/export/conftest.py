"""Exporting is told much by the environment: every test here starts from none of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import _logs, metrics, trace

from llmwatch.config import Config
from llmwatch.export import dropped, global_providers
from llmwatch.export.pipeline import Pipeline
from llmwatch.export.providers import Providers


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in os.environ:
        if name.startswith(("OTEL_", "LLMWATCH_")):
            monkeypatch.delenv(name)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)  # wins over the exporter's certificate
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(autouse=True)
def _nobodys_globals() -> Iterator[None]:
    """No test leaves a global provider behind."""
    yield
    for signal in dropped.SIGNALS:
        global_providers.replace_ours(signal, global_providers.get(signal), None)


@pytest.fixture
def pipeline() -> Iterator[Any]:
    """Makes installed pipelines, and undoes them."""
    made: list[Pipeline] = []

    def make(**settings: Any) -> Pipeline:
        each = Pipeline(Config.load(**{"flush_timeout": 3, **settings}))
        made.append(each)
        each.install()
        return each

    yield make
    for each in made:
        each.undo()


def emit(providers: Providers, name: str = "hello") -> None:
    """One span, one measurement of a counter and one event, all called *name*."""
    with providers.tracer_provider.get_tracer("tests").start_as_current_span(name):
        providers.meter_provider.get_meter("tests").create_counter(name).add(1)
        record = _logs.LogRecord(event_name=name, body={"said": name}, timestamp=1)
        providers.logger_provider.get_logger("tests").emit(record)


def globals_() -> tuple[Any, ...]:
    """What the API itself hands out."""
    return trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider()
