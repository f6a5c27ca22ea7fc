"""Budgets burn, by Prometheus' own unit tests, as a naive count of events says they do."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

from llmwatch.errors import ConfigError
from llmwatch.rules import names
from llmwatch.rules.files import export, render
from llmwatch.rules.slo import SLOS, Slo
from llmwatch.rules.values import Burn, load, seconds
from tests.rules.prometheus import UnitTest, counter, needs_promtool

SHIPPED = Path(str(files("llmwatch") / "dashboards" / "llmwatch-slo.rules.yml"))
VALUES = load()
HOUR, DAY = 60, 24 * 60

ILL = [(3 * DAY, 2), (6 * HOUR, 8), (2 * HOUR, 18), (9 * HOUR, 0)]
"""Minutes, and how many times as fast as it may the budget burns: slowly, fast, very fast, not."""
WELL = [(sum(minutes for minutes, _ in ILL), 0.9)]
EVERY = 60
"""Minutes between evaluations."""


def series(
    test: UnitTest, slo: Slo, phases: list[tuple[int, float]], many: float, job: str
) -> None:
    """What a service with so many events a minute reports, of which so many are bad."""
    labels = {"job": job, "gen_ai_request_model": "m"}
    budget = 1 - VALUES[f"slo.{slo.name}.objective"]
    total = counter((sum(minutes for minutes, _ in phases), many))
    good = counter(*((minutes, many * (1 - rate * budget)) for minutes, rate in phases))
    bad = counter(*((minutes, many * rate * budget) for minutes, rate in phases))
    if slo.metric is None:
        name = "gen_ai_client_operation_duration_seconds_count"
        test.give(name, good, **labels)
        test.give(name, bad, **labels, error_type="RateLimitError")
    else:
        name = names.exposed(slo.metric)
        test.give(f"{name}_count", total, **labels)
        threshold = VALUES[f"slo.{slo.name}.threshold"]
        test.give(f"{name}_bucket", good, **labels, le=f"{threshold}")
        test.give(f"{name}_bucket", total, **labels, le="+Inf")
    if slo.requests is not None:
        asked(test, slo, sum(minutes for minutes, _ in phases), many / 50, job)


def asked(test: UnitTest, slo: Slo, minutes: int, many: float, job: str) -> None:
    """So many requests a minute, of which gaps are part."""
    (of,) = (each.metric for each in SLOS if each.name == slo.requests)
    assert of is not None
    labels = {"job": job, "gen_ai_request_model": "m"}
    test.give(f"{names.exposed(of)}_count", counter((minutes, many)), **labels)


BURNT = [rate for minutes, rate in ILL for _ in range(minutes)]
"""In each minute."""


@cache
def burns(minute: int, window: str) -> float:
    """How many times as fast as it may the budget burnt in a window that ends at a minute.

    In a long one by what was recorded of the shortest.
    """
    if seconds(window) <= HOUR * 60:
        seen = BURNT[max(minute - round(seconds(window)) // 60, 0) : minute]
    else:
        seen = [burns(each, "5m") for each in recorded(minute, window)]
    return sum(seen) / len(seen)


def recorded(minute: int, window: str) -> range:
    """The minutes of a window at which rules were evaluated."""
    first = max(minute - round(seconds(window)) // 60, EVERY)
    return range(minute, first - 1, -EVERY)


def burning(minute: int, rows: list[Burn]) -> bool:
    return any(
        all(burns(minute, window) > row.rate for window in (row.long, row.short)) for row in rows
    )


@needs_promtool
@pytest.mark.parametrize("slo", SLOS, ids=lambda slo: slo.name)
def test_alerts_fire_while_the_budget_burns(slo: Slo, tmp_path: Path) -> None:
    """Fast, slowly or not at all, with windows as they are shipped; and clear when it is over.

    All is as shipped but how often it is evaluated: days take a second so.

    Beside it is a service whose budget burns a little slower than it may, and one that has too few
    events for a verdict.
    """
    (tmp_path / "mine.toml").write_text(f'interval = "{EVERY}m"\n')
    test = UnitTest(export(tmp_path, tmp_path / "mine.toml")[:1], every=f"{EVERY}m")
    # What gaps are part of is recorded first: after an hour it would be too old.
    test.order = [f"llmwatch-slo-{name}" for name in ("ttft", "local-ttft", "itl", "local-itl")]
    series(test, slo, ILL, 100, "ill")
    series(test, slo, WELL, 100, "well")
    series(test, slo, [(WELL[0][0], 18)], 0.001, "idle")
    minutes = range(EVERY, WELL[0][0], EVERY)
    fired = {"page": 0, "ticket": 0}
    for severity, label in (("page", "critical"), ("ticket", "warning")):
        rows = [each for each in VALUES["burn"] if each.severity == severity]
        for minute in minutes:
            fires = burning(minute, rows)
            fired[severity] += fires
            expected = [{"job": "ill", "slo": slo.name}] if fires else []
            test.firing(slo.alert, minute, *expected, severity=label)
    assert 0 < fired["page"] < fired["ticket"] < len(minutes)
    for minute in (3 * DAY, 3 * DAY + 8 * HOUR):
        budget = 1 - VALUES[f"slo.{slo.name}.objective"]
        for row in VALUES["burn"]:
            for window in (row.long, row.short):
                name = f'llmwatch:slo_bad:ratio_rate{window}{{job="ill"}}'
                share = burns(minute, window) * budget
                test.value(f"sum by (job) ({name})", minute, share, job="ill")
            name = f'llmwatch:slo_events:increase{row.long}{{job="ill"}}'
            many = HOUR if row.long == "1h" else EVERY * len(recorded(minute, row.long))
            each = 2.0 if slo.requests else 100.0
            test.value(f"sum by (job) ({name})", minute, each * many, job="ill")
    labels = {"job": "ill", "gen_ai_request_model": "m", "slo": slo.name}
    test.firing(slo.alert, minute, labels, severity="critical")
    test.run(tmp_path)


@needs_promtool
@pytest.mark.parametrize("slo", [each for each in SLOS if each.requests], ids=lambda slo: slo.name)
def test_a_slow_request_an_hour_with_many_gaps_alerts_nobody(slo: Slo, tmp_path: Path) -> None:
    """It is one event, however many tokens it had."""
    test = UnitTest([SHIPPED], every="30m")
    labels = {"job": "j", "gen_ai_request_model": "m"}
    assert slo.metric is not None
    name = names.exposed(slo.metric)
    hourly = " ".join(f"{500 * hour}x59" for hour in range(8))
    test.give(f"{name}_count", hourly, **labels)
    test.give(f"{name}_bucket", "0x480", **labels, le=f"{VALUES[f'slo.{slo.name}.threshold']}")
    (of,) = (each.metric for each in SLOS if each.name == slo.requests)
    assert of is not None
    requests = " ".join(f"{hour}x59" for hour in range(8))
    test.give(f"{names.exposed(of)}_count", requests, **labels)
    test.value(f'llmwatch:slo_bad:ratio_rate1h{{slo="{slo.name}"}}', 420, 1, slo=slo.name, **labels)
    for minute in range(60, 480, 30):
        test.firing(slo.alert, minute)
    test.run(tmp_path)


@needs_promtool
def test_models_that_reason_have_a_threshold_of_their_own(tmp_path: Path) -> None:
    """Of 10 streams a minute 4 begin in time for others, 9 in time for them."""
    test = UnitTest([SHIPPED], every="5m")
    name = "llmwatch_operation_time_to_first_output_seconds"
    slow = ["o3-mini", "openai/o3", "gpt-5.1", "deepseek-ai/DeepSeek-R1", "kimi-k2-thinking"]
    fast = ["gpt-4o", "qwen3-coder", "meta-llama/Llama-3.1-8B+x", ""]
    for models, share in ((slow, 0.1), (fast, 0.6)):
        for model in models:
            labels = {"job": "j", **({"gen_ai_request_model": model} if model else {})}
            test.give(f"{name}_count", counter((HOUR, 10)), **labels)
            for le, growth in (("2.5", 4), ("40.0", 9), ("+Inf", 10)):
                test.give(f"{name}_bucket", counter((HOUR, growth)), **labels, le=le)
            for window in ("5m", "30m"):
                chosen = f'{{slo="ttft",gen_ai_request_model="{model}"}}'
                ratio = f"llmwatch:slo_bad:ratio_rate{window}{chosen}"
                test.value(ratio, HOUR - 5, share, slo="ttft", **labels)
    test.run(tmp_path)


@needs_promtool
def test_models_of_one_name_can_be_told_apart_by_who_serves_them(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        '[labels]\nmodel = ["gen_ai_request_model", "server_address"]\n[slo.ttft]\nslow_models = []\n'
    )
    test = UnitTest(export(tmp_path, tmp_path / "mine.toml")[:1], every="5m")
    for server, failing in (("a", 5), ("b", 0.1)):
        labels = {"job": "j", "gen_ai_request_model": "m", "server_address": server}
        name = "gen_ai_client_operation_duration_seconds_count"
        for port in ("80", "81"):
            test.give(name, counter((2 * HOUR, 10)), **labels, server_port=port)
        test.give(name, counter((2 * HOUR, failing)), **labels, error_type="APIError")
    found = {"job": "j", "gen_ai_request_model": "m", "server_address": "a"}
    test.firing("LlmwatchErrorBudgetBurn", HOUR, found, severity="critical")
    test.run(tmp_path)


@needs_promtool
def test_an_alert_says_what_burns(tmp_path: Path) -> None:
    test = UnitTest([SHIPPED], every="30m")
    (slow,) = (each for each in SLOS if each.name == "ttft")
    series(test, slow, [(HOUR, 5)], 100, "ill")
    test.says(
        "LlmwatchTtftBudgetBurn",
        HOUR,
        {"job": "ill", "gen_ai_request_model": "m", "slo": "ttft", "severity": "warning"},
        summary="ill m: streamed requests wait too long for their first output",
        description="25% are bad in 3d; 95% must be good, within 2.5 s (40 s of slow models).",
        runbook="runbooks.md#llmwatchttftbudgetburn",
    )
    test.run(tmp_path)


@needs_promtool
def test_what_is_nobodys_fault_burns_nothing(tmp_path: Path) -> None:
    """And the bound of a whole number is found however an exporter writes it."""
    (tmp_path / "mine.toml").write_text("[slo.ttft]\nthreshold = 1\n")
    rules = export(tmp_path, tmp_path / "mine.toml")[:1]
    test = UnitTest(rules, every="30m")
    labels = {"job": "j", "gen_ai_request_model": "m"}
    operations = "gen_ai_client_operation_duration_seconds_count"
    test.give(operations, counter((HOUR, 60)), **labels)
    test.give(operations, counter((HOUR, 30)), **labels, error_type="CancelledError")
    test.give(operations, counter((HOUR, 10)), **labels, error_type="APIError")
    test.value('llmwatch:slo_bad:ratio_rate5m{slo="errors"}', HOUR, 0.1, slo="errors", **labels)
    output = "llmwatch_operation_time_to_first_output_seconds"
    for job, le in (("python", "1.0"), ("collector", "1")):
        labels["job"] = job
        test.give(f"{output}_count", counter((HOUR, 10)), **labels)
        test.give(f"{output}_bucket", counter((HOUR, 9)), **labels, le=le)
        name = f'llmwatch:slo_bad:ratio_rate5m{{slo="ttft",job="{job}"}}'
        test.value(name, HOUR, 0.1, slo="ttft", **labels)
    test.run(tmp_path)


@needs_promtool
def test_under_the_newer_conventions_embeddings_fail_too(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('semconv = "genai-0.1"\n')
    test = UnitTest(export(tmp_path, tmp_path / "mine.toml")[:1], every="30m")
    labels = {"job": "j", "gen_ai_request_model": "m"}
    for kind, operation in (("inference", "chat"), ("embeddings", "embeddings")):
        name = f"gen_ai_client_{kind}_duration_seconds_count"
        named = {**labels, "gen_ai_operation_name": operation}
        test.give(name, counter((HOUR, 3)), **named)
        test.give(name, counter((HOUR, 1)), **named, error_type="APIError")
    test.value('llmwatch:slo_bad:ratio_rate5m{slo="errors"}', HOUR, 0.25, slo="errors", **labels)
    test.run(tmp_path)


def test_a_threshold_between_bounds_is_refused_with_the_nearest_bounds(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[slo.itl]\nthreshold = 0.2\n")
    with pytest.raises(ConfigError, match=r"slo.itl.threshold = 0.2 .* give 0.16 or 0.25"):
        render(load(tmp_path / "mine.toml"))
