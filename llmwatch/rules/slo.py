"""Budgets of slow and failed requests, and how fast they burn (SRE workbook, chapter 5).

For every window the share of bad events is recorded once; alerts compare two windows. Long windows
are made of what was recorded for the shortest one: they cost the same for one process and for
hundreds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final, NamedTuple

from llmwatch import semconv
from llmwatch.errors import ConfigError
from llmwatch.rules.names import label, select, select_any
from llmwatch.rules.rule import PERCENT, Alert, Group, Record
from llmwatch.rules.values import Burn, Values, by, seconds, who
from llmwatch.semconv import OWN_METRICS, Metric
from llmwatch.semconv_models import GENERATION_METRICS, SERVER_METRICS

DIRECT: Final = 3600
"""Seconds up to which a window is read from the series of the processes themselves."""


class Slo(NamedTuple):
    """A promise about events."""

    name: str
    """Its table in the values, and the label ``slo``."""
    alert: str
    what: str
    """What is bad, in alerts."""
    metric: Metric | None = None
    """A histogram of times; None: operations, which may fail."""
    requests: str | None = None
    """The SLO that counts the requests which events are part of: one slow request has many gaps."""


SLOS = (
    Slo(
        "ttft",
        "LlmwatchTtftBudgetBurn",
        "streamed requests wait too long for their first output",
        OWN_METRICS["time_to_first_output"],
    ),
    Slo(
        "local_ttft",
        "LlmwatchTtftBudgetBurn",
        "requests to a model in the process wait too long for their first token",
        SERVER_METRICS["time_to_first_token"],
    ),
    Slo(
        "itl",
        "LlmwatchItlBudgetBurn",
        "gaps between chunks of streams are too long",
        OWN_METRICS["inter_chunk_time"],
        "ttft",
    ),
    Slo(
        "local_itl",
        "LlmwatchItlBudgetBurn",
        "gaps between tokens of a model in the process are too long",
        GENERATION_METRICS["gaps"],
        "local_ttft",
    ),
    Slo("errors", "LlmwatchErrorBudgetBurn", "operations fail"),
)


def durations(values: Values) -> list[Metric]:
    """The histograms that count every operation, under the conventions that are emitted."""
    metrics = semconv.CONVENTION_METRICS[values["semconv"]]
    return [metrics[key] for key in ("duration", "embeddings_duration") if key in metrics]


def groups(values: Values) -> Iterator[Group]:
    """One group for each SLO."""
    for slo in SLOS:
        rules: list[Record | Alert] = [*_records(slo, values), *_alerts(slo, values)]
        yield Group(f"llmwatch-slo-{slo.name.replace('_', '-')}", tuple(rules))


def _records(slo: Slo, values: Values) -> Iterator[Record]:
    """Rates of the shortest window, of which long windows are made; shares; events."""
    labels, chosen = {"slo": slo.name}, f'{{slo="{slo.name}"}}'
    windows = {window for burn in values["burn"] for window in (burn.long, burn.short)}
    base = min(windows, key=seconds)
    events, bad = f"llmwatch:slo_events:rate{base}", f"llmwatch:slo_bad:rate{base}"
    yield Record(events, _events(slo, values, base), f"Events a second in {base}.", labels)
    yield Record(bad, _bad(slo, values, base), f"Those of them in which {slo.what}.", labels)
    for window in sorted(windows, key=seconds):
        if window == base:
            above, below = bad + chosen, events + chosen
        elif seconds(window) > DIRECT:
            above, below = (f"sum_over_time({each}{chosen}[{window}])" for each in (bad, events))
        else:
            above, below = _bad(slo, values, window), _events(slo, values, window)
        share = f"{above}\n/\n({below} > 0)"
        yield Record(
            f"llmwatch:slo_bad:ratio_rate{window}", share, f"Their share in {window}.", labels
        )
    longs = () if slo.requests else {burn.long for burn in values["burn"]}
    for window in sorted(longs, key=seconds):
        if seconds(window) > DIRECT:
            every = f"{seconds(values['interval']):g}"
            many = f"sum_over_time({events}{chosen}[{window}]) * {every}"
        else:
            many = f"{_events(slo, values, window)} * {seconds(window):g}"
        yield Record(f"llmwatch:slo_events:increase{window}", many, f"Events in {window}.", labels)


def _sum(values: Values, of: str) -> str:
    return f"sum by ({by(values, 'service', 'model')}) ({of})"


def _events(slo: Slo, values: Values, window: str) -> str:
    """Events a second."""
    series = _operations(values) if slo.metric is None else select(slo.metric, part="count")
    return _sum(values, f"rate({series}[{window}])")


def _operations(values: Values, *matchers: str) -> str:
    names = [select(each, part="count") for each in durations(values)]
    return select_any(names, *matchers)


def _bad(slo: Slo, values: Values, window: str) -> str:
    """Bad events a second."""
    events = _events(slo, values, window)
    if slo.metric is not None:
        within = " or ".join(f"rate({each}[{window}])" for each in _within(slo, slo.metric, values))
        return f"({events} - {_sum(values, within)})"
    error = label(semconv.ERROR_TYPE)
    nobodys = "|".join(values["slo.errors.ignored"])
    matchers = [f'{error}!=""', *([f'{error}!~"{nobodys}"'] if nobodys else [])]
    failed = _sum(values, f"rate({_operations(values, *matchers)}[{window}])")
    return f"({failed} or {events} * 0)"


def _within(slo: Slo, metric: Metric, values: Values) -> Iterator[str]:
    """Selectors of the events that are in time."""
    key, asked = f"slo.{slo.name}", label(semconv.REQUEST_MODEL)
    slow = json.dumps("|".join(values.get(f"{key}.slow_models", ())), ensure_ascii=False)
    if slow == '""':
        yield _bucket(metric, f"{key}.threshold", values)
    else:
        yield _bucket(metric, f"{key}.threshold", values, f"{asked}!~{slow}")
        yield _bucket(metric, f"{key}.slow_threshold", values, f"{asked}=~{slow}")


def _bucket(metric: Metric, key: str, values: Values, *matchers: str) -> str:
    return select(metric, f'le=~"{_bound(metric, key, values)}"', *matchers, part="bucket")


def _bound(metric: Metric, key: str, values: Values) -> str:
    """A threshold as the label ``le`` has it; exporters write 1 or 1.0."""
    threshold = float(values[key])
    if threshold not in metric.buckets:
        below = [each for each in metric.buckets if each < threshold][-1:]
        above = [each for each in metric.buckets if each > threshold][:1]
        near = " or ".join(f"{each:g}" for each in below + above)
        raise ConfigError(
            f"{key} = {threshold:g} is no bucket bound of {metric.name}, so what is faster cannot "
            f"be counted: give {near}."
        )
    return f"{threshold:g}|{threshold:g}\\\\.0" if threshold == int(threshold) else f"{threshold:g}"


def _alerts(slo: Slo, values: Values) -> Iterator[Alert]:
    for severity in ("page", "ticket"):
        burns = [each for each in values["burn"] if each.severity == severity]
        if burns:
            yield _alert(slo, severity, burns, values)


def _alert(slo: Slo, severity: str, burns: list[Burn], values: Values) -> Alert:
    objective = values[f"slo.{slo.name}.objective"]
    key = f"slo.{slo.name}"
    limit = f", within {values[f'{key}.threshold']:g} s" if slo.metric else ""
    if values.get(f"{key}.slow_models"):
        limit += f" ({values[f'{key}.slow_threshold']:g} s of slow models)"
    windows = " or ".join(each.long for each in burns)
    return Alert(
        name=slo.alert,
        severity="page" if severity == "page" else "ticket",
        expr="\nor\n".join(_burning(slo, each, values) for each in burns),
        summary=f"{who(values, 'service', 'model')}: {slo.what}",
        description=f"{PERCENT} are bad in {windows}; {100 * objective:.6g}% must be good{limit}.",
        labels={"slo": slo.name},
    )


def _burning(slo: Slo, burn: Burn, values: Values) -> str:
    objective = values[f"slo.{slo.name}.objective"]
    budget = f"{1 - objective:.12g}"
    chosen = f'{{slo="{slo.name}"}}'
    other = f'ignoring (slo) llmwatch:slo_events:increase{burn.long}{{slo="{slo.requests}"}}'
    enough = other if slo.requests else f"llmwatch:slo_events:increase{burn.long}{chosen}"
    return (
        "(\n"
        f"  llmwatch:slo_bad:ratio_rate{burn.long}{chosen} > {burn.rate:g} * {budget}\n"
        f"  and llmwatch:slo_bad:ratio_rate{burn.short}{chosen} > {burn.rate:g} * {budget}\n"
        f"  and {enough} >= {values['slo.least']:g}\n"
        ")"
    )
