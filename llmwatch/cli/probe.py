"""Send one signal where it would go, and say what came back; and the report it is said in."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from time import monotonic, time_ns
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import click
from opentelemetry import _logs

from llmwatch.config import Config
from llmwatch.errors import LlmwatchError
from llmwatch.export import builders, local_store, otlp, providers
from llmwatch.export.bounded import Call, wait
from llmwatch.export.dropped import Signal, dropped_counts
from llmwatch.export.providers import Providers

NAME = "llmwatch.doctor"
"""Of the span, the metric and the event."""

_SINGULAR = {"traces": "span", "metrics": "metric", "logs": "event"}


class Report:
    """Lines for a terminal, without keys; counts what failed."""

    def __init__(self) -> None:
        self.failed = 0
        self._secrets: set[str] = set()

    def hide(self, values: Iterator[str]) -> None:
        """Never show these, nor what comes after a space in them."""
        for value in values:
            self._secrets |= {part for part in (value, *value.split()) if len(part) > 5}

    def title(self, text: str) -> None:
        """Begin a section."""
        click.echo(self._clean(text))

    def ok(self, text: str) -> None:
        """Say what is right."""
        self._line("ok", "green", text)

    def note(self, text: str) -> None:
        """Say what may be of interest."""
        self._line("-", None, text)

    def fail(self, text: str) -> None:
        """Say what is wrong."""
        self.failed += 1
        self._line("FAIL", "red", text)

    @contextmanager
    def listening(self, *loggers: str) -> Iterator[list[str]]:
        """The warnings that are logged in a block, instead of on the terminal."""
        heard = _Heard()
        kept = [(logger := logging.getLogger(name), logger.propagate) for name in loggers]
        for logger, _ in kept:
            logger.addHandler(heard)
            logger.propagate = False
        try:
            yield heard.lines
        finally:
            for logger, propagate in kept:
                logger.removeHandler(heard)
                logger.propagate = propagate

    def _line(self, mark: str, colour: str | None, text: str) -> None:
        click.echo(f"  {click.style(f'{mark:4}', fg=colour)}  {self._clean(text)}")

    def _clean(self, text: str) -> str:
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "(hidden)")
        return text


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if (line := record.getMessage()) not in self.lines:
            self.lines.append(line)


def deliver(report: Report, config: Config, signal: Signal, timeout: float) -> None:
    """Send one span, metric or event through every exporter of *signal*."""
    report.title(f"Sending one {_SINGULAR[signal]}")
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return report.note("not sent: OTEL_SDK_DISABLED=true")
    names = builders.exporter_names(config, signal)
    if not names:
        return report.note("not sent: no exporter is asked for, or the backend takes none")
    for name in names:
        if otlp.is_otlp(name) and not _reaches(report, config, signal, name):
            return None
    with report.listening("opentelemetry", "llmwatch") as heard:
        began = monotonic()
        try:
            delivered = _send(_unsampled(config), signal, timeout)
        except LlmwatchError as error:
            return report.fail(str(error))
        took = monotonic() - began
    where = ", ".join(_place(config, signal, name) for name in names)
    if delivered:
        return report.ok(f"{NAME} accepted by {where} in {took:.2f} s")
    reason = "; ".join(heard) or f"no answer within {timeout:g} s"
    return report.fail(f"{NAME} not delivered to {where}: {reason}")


def _place(config: Config, signal: Signal, name: str) -> str:
    if otlp.is_otlp(name):
        found = otlp.destination(config, signal, name)
        return f"{_without_keys(found.url)} ({found.protocol})"
    if name == builders.STORE:
        return f"the local store {local_store.directory(config)}"
    return f"the exporter {name!r}"


def _reaches(report: Report, config: Config, signal: Signal, name: str) -> bool:
    """Whether somebody listens there; sending would try again for long where nobody does."""
    found = otlp.destination(config, signal, name)
    report.hide(iter(found.headers.values()))
    if found.headers:
        report.note(f"with the headers {', '.join(sorted(found.headers))}")
    url = urlsplit(found.url if "://" in found.url else f"https://{found.url}")
    shown = _without_keys(found.url)
    if (proxy := _proxy(url)) is not None:
        report.note(f"through the proxy {_without_keys(proxy)}")
        url = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        socket.create_connection((url.hostname or "", port), timeout=5).close()
    except (OSError, ValueError) as error:
        report.fail(f"{shown} cannot be reached: {error}. Is it the right address, and up?")
        return False
    return True


def _proxy(url: SplitResult) -> str | None:
    """What exporters ask instead, by the environment; nobody else may know the address, then."""
    if proxy_bypass(url.hostname or ""):
        return None
    known = getproxies()
    return known.get(url.scheme) or known.get("all")


def _without_keys(url: str) -> str:
    """An address without user, password and query."""
    return url.partition("?")[0].replace(f"{urlsplit(url).netloc.rpartition('@')[0]}@", "")


def _unsampled(config: Config) -> Config:
    """Without what would leave the span out."""
    return replace(config, sample_ratio=1.0, keep=None, trace_limit=None)


def _send(config: Config, signal: Signal, timeout: float) -> bool:
    built = providers.build(config)
    try:
        lost = dropped_counts().get(signal)
        _EMIT[signal](built)
        flush = getattr(built.of(signal), "force_flush", lambda **_: True)
        call = Call(partial(flush, timeout_millis=int(timeout * 1000)))
        call.start()
        return wait([call], monotonic() + timeout) and dropped_counts().get(signal) == lost
    finally:
        built.shutdown(0.5)


def _span(built: Providers) -> None:
    built.tracer_provider.get_tracer(NAME).start_span(NAME).end()


def _metric(built: Providers) -> None:
    built.meter_provider.get_meter(NAME).create_counter(NAME).add(1)


def _event(built: Providers) -> None:
    record = _logs.LogRecord(event_name=NAME, timestamp=time_ns(), body="a test")
    built.logger_provider.get_logger(NAME).emit(record)


_EMIT: dict[Signal, Callable[[Providers], Any]] = {
    "traces": _span,
    "metrics": _metric,
    "logs": _event,
}
