"""Telemetry that is lost, failures inside llmwatch, and services that fall silent."""

from __future__ import annotations

from collections.abc import Iterator

from llmwatch import semconv
from llmwatch.rules.names import label, select
from llmwatch.rules.rule import COUNT, Alert, Group, Record
from llmwatch.rules.values import Values, by, who
from llmwatch.semconv import OWN_METRICS


def groups(values: Values) -> Iterator[Group]:
    """One group."""
    yield Group("llmwatch-telemetry", (_reporting(values), _no_data(values), *_losses(values)))


def _reporting(values: Values) -> Record:
    """By a metric that is there, be it zero, wherever llmwatch is."""
    return Record(
        "llmwatch:reporting:count",
        f"count by ({by(values, 'service')}) (\n"
        f"  count by ({by(values, 'service')}, instance) ({select(OWN_METRICS['dropped'])})\n"
        ")",
        "Processes that report.",
    )


def _no_data(values: Values) -> Alert:
    lookback, hold = values["no_data.lookback"], values["no_data.for"]
    return Alert(
        name="LlmwatchNoData",
        severity="page",
        expr=f"last_over_time(llmwatch:reporting:count[{lookback}])\n"
        "unless llmwatch:reporting:count",
        hold=hold,
        summary=f"{who(values, 'service')} reports nothing any more",
        description=f"{COUNT} of its processes did within {lookback}; for {hold} none does.",
    )


def _losses(values: Values) -> Iterator[Alert]:
    window, limit = values["telemetry.window"], f"{values['telemetry.dropped']:g}"
    signal, cause = label(semconv.SIGNAL), label(semconv.CAUSE)
    service = by(values, "service")
    dropped, errors = select(OWN_METRICS["dropped"]), select(OWN_METRICS["errors"])
    yield Alert(
        name="LlmwatchTelemetryDropped",
        severity="ticket",
        expr=f"sum by ({service}, {signal}) (increase({dropped}[{window}])) > {limit}",
        summary=f"{who(values, 'service')} loses {{{{ $labels.{signal} }}}}",
        description=f"{COUNT} spans, data points or log records did not arrive in {window}.",
    )
    # A cause is not there before its first failure, which is no increase therefore.
    yield Alert(
        name="LlmwatchInternalErrors",
        severity="ticket",
        expr=f"sum by ({service}, {cause}) (\n"
        f"  ({errors} unless {errors} offset {window}) or increase({errors}[{window}])\n"
        ") > 0",
        summary=f"llmwatch fails inside {who(values, 'service')}: {{{{ $labels.{cause} }}}}",
        description=f"{COUNT} failures in {window}. Calls are not affected, their telemetry is.",
    )
