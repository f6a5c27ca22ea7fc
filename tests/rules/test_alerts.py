"""Alerts fire when they should and not when they should not, with the windows that are shipped.

By Prometheus' own unit tests: in each, one service or GPU is ill and others are nearly so.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from tests.rules.prometheus import UnitTest, counter, gauge, needs_promtool

pytestmark = needs_promtool
SHIPPED = Path(str(files("llmwatch") / "dashboards"))
HOUR, DAY = 60, 24 * 60
START = DAY + 2 * HOUR
"""Where there is a baseline of a day."""
MODEL = {"gen_ai_request_model": "m"}


def of(name: str, every: str = "1m") -> UnitTest:
    return UnitTest([SHIPPED / f"llmwatch-{name}.rules.yml"], every)


def throughput(test: UnitTest, job: str, *phases: tuple[int, float, float]) -> None:
    """Minutes, operations in flight, output tokens a minute."""
    labels = {"job": job, **MODEL}
    active = gauge(*((minutes, many) for minutes, many, _ in phases))
    tokens = counter(*((minutes, growth) for minutes, _, growth in phases))
    test.give("llmwatch_operation_active", active, **labels)
    name = "gen_ai_client_token_usage_sum"
    test.give(name, tokens, **labels, gen_ai_token_type="output")
    test.give(name, counter((2 * DAY, 9999)), **labels, gen_ai_token_type="input")


def test_throughput_collapses(tmp_path: Path) -> None:
    """Where operations hang; not by night, under load, where nobody asks, for a moment, or
    where a single call takes long.
    """
    test, usual = of("requests", every="5m"), (START, 4, 6000)
    throughput(test, "hangs", usual, (HOUR, 9, 0))
    throughput(test, "night", usual, (HOUR, 0.2, 300))
    throughput(test, "crowd", usual, (HOUR, 40, 6000))
    throughput(test, "still", usual, (HOUR, 0, 0))
    throughput(test, "slower", usual, (HOUR, 4, 1800))
    throughput(test, "long", (START, 0.3, 600), (25, 1, 0), (HOUR - 25, 0, 0))
    throughput(test, "moment", usual, (5, 9, 0), (HOUR - 5, 4, 6000))
    name, labels = "LlmwatchThroughputCollapse", {"job": "hangs", **MODEL}
    for minute in (START - 5, START + 5):
        test.firing(name, minute)
    for minute in (START + 20, START + 45):
        test.firing(name, minute, labels)
    test.says(
        name,
        START + 45,
        {**labels, "severity": "critical"},
        summary="hangs m: hardly any tokens come any more",
        description="Output tokens a second of the last 10m are 0% of those of the 1d before, in "
        "all and for each operation in flight, of which there are some.",
        runbook="runbooks.md#llmwatchthroughputcollapse",
    )
    one = '{job="night"}'
    for record, minute, expected in (
        ("output_tokens:rate10m", START - 5, 100),
        ("output_tokens:rate1d", START - 5, 100),
        ("output_tokens:rate10m", START + 30, 5),
        ("operations_active:avg10m", START - 5, 4),
        ("operations_active:avg10m", START + 30, 0.2),
        ("operations_active:avg1d", START - 5, 4),
    ):
        test.value(f"llmwatch:{record}{one}", minute, expected, job="night", **MODEL)
    test.run(tmp_path)


def test_a_new_process_whose_first_operations_hang_has_no_throughput(tmp_path: Path) -> None:
    """There is no series of its tokens yet; the baseline is that of the processes before it."""
    test, labels = of("requests", every="5m"), {"job": "j", **MODEL}
    test.give("llmwatch_operation_active", f"{gauge((DAY, 2))} stale", **labels, instance="old")
    tokens = {"gen_ai_token_type": "output"}
    name = "gen_ai_client_token_usage_sum"
    test.give(name, f"{counter((DAY, 60))} stale", **labels, **tokens, instance="old")
    new = f"_x{DAY} {gauge((HOUR, 2))}"
    test.give("llmwatch_operation_active", new, **labels, instance="new")
    test.firing("LlmwatchThroughputCollapse", DAY)
    test.firing("LlmwatchThroughputCollapse", DAY + 30, labels)
    test.run(tmp_path)


def test_money_is_spent_too_fast_and_the_budget_is_spent(tmp_path: Path) -> None:
    """100 USD a day: 25 in an hour are too fast; and two replicas have one budget."""
    test = of("requests", every="5m")
    for job, model, growth in (("ill", "a", 0.375), ("ill", "b", 0.125), ("well", "a", 0.0625)):
        labels = {"job": job, "gen_ai_request_model": model}
        test.give("llmwatch_operation_cost_sum", counter((4 * HOUR, growth), (DAY, 0.0)), **labels)
    burn, spent = "LlmwatchCostBudgetBurn", "LlmwatchCostBudgetSpent"
    test.firing(burn, HOUR - 15)
    test.firing(burn, HOUR, {"job": "ill"})
    test.firing(spent, 3 * HOUR + 15)
    test.firing(spent, 3 * HOUR + 25, {"job": "ill"})
    test.firing(burn, 5 * HOUR)
    test.firing(spent, 5 * HOUR, {"job": "ill"})
    test.firing(spent, DAY + 3 * HOUR)
    test.says(
        burn,
        2 * HOUR,
        {"job": "ill", "severity": "critical"},
        summary="ill spends money too fast",
        description="30.00 USD in 1h: more than 6 times what a budget of 100 USD in 1d allows.",
        runbook="runbooks.md#llmwatchcostbudgetburn",
    )
    test.says(
        spent,
        5 * HOUR,
        {"job": "ill", "severity": "warning"},
        summary="ill has spent its budget",
        description="120.00 USD in 1d, of a budget of 100 USD.",
        runbook="runbooks.md#llmwatchcostbudgetspent",
    )
    test.value('llmwatch:cost_usd:increase1h{job="ill"}', 2 * HOUR, 30, job="ill")
    test.value('llmwatch:cost_usd:increase1d{job="ill"}', 5 * HOUR, 120, job="ill")
    test.run(tmp_path)


def gpu(test: UnitTest, name: str, values: str, index: int, **labels: str) -> None:
    """A series that two processes of one host report of a GPU."""
    named = {"hw_id": f"GPU-{index}", "hw_name": f"GPU {index}", **labels}
    for instance in ("a:1", "a:2"):
        test.give(name, values, **named, job="j", instance=instance)
        if not labels or "llmwatch_gpu_reason" in labels or "error_type" in labels:
            limit = {"hw_id": f"GPU-{index}", "hw_name": f"GPU {index}"}
            test.give("hw_gpu_memory_limit_bytes", "1x9999", **limit, job="j", instance=instance)


WHERE = "Reported by a:1 a:2."
FIRST = {"hw_id": "GPU-0", "hw_name": "GPU 0"}


@pytest.mark.parametrize("suffix", ["", "_ratio"], ids=["scraped", "collector"])
def test_a_gpu_is_held_down(tmp_path: Path, suffix: str) -> None:
    """For long, and for a reason that is no part of normal work; be it the first time or not."""
    test, name = of("gpu"), f"llmwatch_gpu_throttled{suffix}"
    reason = {"llmwatch_gpu_reason": "hw_thermal_slowdown"}
    gpu(test, name, gauge((HOUR, 0), (30, 1), (HOUR, 0)), 0, **reason)
    gpu(test, name, gauge((3 * HOUR, 1)), 1, llmwatch_gpu_reason="sw_power_cap")
    gpu(test, name, gauge((HOUR, 0), (6, 1), (HOUR, 0)), 2, **reason)
    gpu(test, name, f"_x{HOUR} {gauge((4, 1), (HOUR, 0))}", 3, **reason)
    alert, labels = "LlmwatchGpuThrottled", {**FIRST, **reason}
    test.firing(alert, HOUR)
    for minute in (2, 6, 8, 10):
        test.firing(alert, HOUR + minute)
    test.firing(alert, HOUR + 25, labels)
    test.firing(alert, HOUR + 45)
    test.says(
        alert,
        HOUR + 25,
        {**labels, "severity": "warning"},
        summary="GPU GPU-0 GPU 0 is held down: hw_thermal_slowdown",
        description=f"Its clocks were held down for 100% of 15m. {WHERE}",
        runbook="runbooks.md#llmwatchgputhrottled",
    )
    test.run(tmp_path)


def test_queries_of_the_runbook_take_two_processes_that_report_one_gpu(tmp_path: Path) -> None:
    """Prometheus refuses to divide where several series have the same labels."""
    runbook = (SHIPPED / "runbooks.md").read_text().split("\n## LlmwatchGpuThrottled\n")[1]
    queries = runbook.split("```")[1].removeprefix("text\n").splitlines()
    test, sensor, clock = of("gpu"), {"hw_sensor_location": "gpu"}, {"llmwatch_gpu_clock": "sm"}
    gpu(test, "hw_temperature_celsius", "91x5", 0, **sensor)
    gpu(test, "hw_power_watts", "350x5", 0)
    gpu(test, "llmwatch_gpu_clock_frequency_hertz", "5e8x5", 0, **clock)
    gpu(test, "llmwatch_gpu_clock_limit_hertz", "2e9x5", 0, **clock)
    named = ({**FIRST, **sensor}, FIRST, {"hw_id": "GPU-0", **clock})
    for query, value, labels in zip(queries, (91, 350, 0.25), named, strict=True):
        test.value(query, 3, value, **labels)
    test.run(tmp_path)


def test_a_gpu_has_memory_errors(tmp_path: Path) -> None:
    """New ones: not those that it had before anybody watched."""
    test = of("gpu", every="5m")
    for index, (growth, errors) in enumerate(((2.0, 1.0), (0.05, 0.0))):
        many = counter((2 * HOUR, growth), (2 * DAY, 0.0))
        gpu(test, "hw_errors_total", many, index, error_type="corrected")
        many = f"{3}+0x120 {3 + errors}+0x2880"
        gpu(test, "hw_errors_total", many, index, error_type="uncorrected")
        gpu(test, "hw_errors_total", counter((DAY, 50)), index, error_type="pcie_replay")
    uncorrected, corrected = "LlmwatchGpuMemoryErrors", "LlmwatchGpuCorrectedErrors"
    test.firing(uncorrected, 2 * HOUR)
    test.firing(uncorrected, 2 * HOUR + 5, FIRST)
    test.firing(uncorrected, 3 * HOUR + 10)
    test.firing(corrected, 45)
    test.firing(corrected, 2 * HOUR, FIRST)
    test.firing(corrected, DAY + 3 * HOUR)
    test.says(
        uncorrected,
        2 * HOUR + 30,
        {**FIRST, "severity": "critical"},
        summary="GPU GPU-0 GPU 0 has memory errors that it cannot correct",
        description=f"1 in 1h. What it computes may be wrong. {WHERE}",
        runbook="runbooks.md#llmwatchgpumemoryerrors",
    )
    test.says(
        corrected,
        3 * HOUR,
        {**FIRST, "severity": "warning"},
        summary="GPU GPU-0 GPU 0 corrects many memory errors",
        description=f"240 in 1d; 100 are let pass. {WHERE}",
        runbook="runbooks.md#llmwatchgpucorrectederrors",
    )
    test.run(tmp_path)


@pytest.mark.parametrize("suffix", ["", "_ratio"], ids=["scraped", "collector"])
def test_a_gpu_has_no_memory_left(tmp_path: Path, suffix: str) -> None:
    test, name = of("gpu"), f"hw_gpu_memory_utilization{suffix}"
    gpu(test, name, gauge((HOUR, 0.5), (40, 0.98), (HOUR, 0.5)), 0)
    gpu(test, name, gauge((3 * HOUR, 0.94)), 1)
    gpu(test, name, gauge((HOUR, 0.5), (9, 1), (HOUR, 0.5)), 2)
    alert = "LlmwatchGpuMemoryPressure"
    test.firing(alert, HOUR)
    test.firing(alert, HOUR + 12)
    test.firing(alert, HOUR + 30, FIRST)
    test.firing(alert, HOUR + 55)
    test.says(
        alert,
        HOUR + 35,
        {**FIRST, "severity": "warning"},
        summary="GPU GPU-0 GPU 0 has hardly any memory left",
        description=f"98% of its memory was in use over 10m. {WHERE}",
        runbook="runbooks.md#llmwatchgpumemorypressure",
    )
    test.run(tmp_path)


def test_a_process_runs_out_of_gpu_memory(tmp_path: Path) -> None:
    test, name = of("gpu"), "llmwatch_torch_memory_out_of_memory_total"
    test.give(name, "0x30 3x60", job="ill", llmwatch_torch_device="cuda:0")
    test.give(name, "5x90", job="well", llmwatch_torch_device="cuda:0")
    alert, labels = "LlmwatchGpuOutOfMemory", {"job": "ill", "llmwatch_torch_device": "cuda:0"}
    test.firing(alert, 30)
    test.firing(alert, 31, labels)
    test.firing(alert, 50)
    test.says(
        alert,
        40,
        {**labels, "severity": "warning"},
        summary="ill ran out of memory on cuda:0",
        description="3 allocations failed in 15m.",
        runbook="runbooks.md#llmwatchgpuoutofmemory",
    )
    test.run(tmp_path)


@pytest.mark.parametrize("suffix", ["", "_ratio"], ids=["scraped", "collector"])
def test_a_drift_monitor_raises_an_alarm(tmp_path: Path, suffix: str) -> None:
    """One of two replicas is enough; and so is an alarm that was restored, without a verdict."""
    test, alert = of("drift"), "LlmwatchDriftRaised"
    known = {"llmwatch_drift_monitor": "q", "llmwatch_drift_key": "de", **MODEL}
    name = f"llmwatch_drift_alarm{suffix}"
    test.give(name, gauge((10, 0), (10, 1), (30, 0)), job="ill", instance="1", **known)
    test.give(name, gauge((50, 0)), job="ill", instance="2", **known)
    test.give(name, gauge((50, 0)), job="well", instance="1", **known)
    restored = gauge((12, 1), (38, 0))
    test.give(name, restored, job="restored", instance="1", llmwatch_drift_monitor="q")
    for job in ("ill", "well"):
        name = f"llmwatch_drift_effect{suffix}"
        test.give(name, gauge((50, 0.31)), job=job, instance="1", **known)
    ill = {"job": "ill", "llmwatch_drift_monitor": "q", "llmwatch_drift_key": "de"}
    for minute, jobs in ((9, ["restored"]), (15, ["ill"]), (25, [])):
        test.firing(alert, minute, *({"job": each} for each in jobs))
    test.says(
        alert,
        15,
        {**ill, **MODEL, "severity": "warning"},
        summary="ill: embeddings of q de drifted",
        description="They no longer come from where the reference came from; the size of the "
        "difference is 0.31.",
        runbook="runbooks.md#llmwatchdriftraised",
    )
    test.run(tmp_path)


def test_the_fleet_drifts(tmp_path: Path) -> None:
    """Records of the tail test: see tests/drift/test_fleet_rules.py."""
    test, alert = of("drift"), "LlmwatchFleetDriftRaised"
    for monitor, tail in (("ill", 3), ("well", 1)):
        named = {"llmwatch_drift_monitor": monitor, "llmwatch_drift_reference": "abc"}
        for le, growth, size in (("1", 9, 900), ("2", 9 + tail, 1000), ("+Inf", 9 + tail, 1000)):
            grown = counter((3 * HOUR, growth))
            test.give("llmwatch_drift_residual_bucket", grown, **named, job="j", le=le)
            series = "llmwatch_drift_reference_residual_bucket"
            test.give(series, f"{size}x180", **named, job="j", le=le)
        test.give("llmwatch_drift_residual_count", counter((180, 9 + tail)), **named, job="j")
        test.give("llmwatch_drift_reference_residual_count", "1000x180", **named, job="j")
        test.give("llmwatch_drift_tail_threshold", "4x180", **named, job="j")
    found = {"llmwatch_drift_monitor": "ill", "llmwatch_drift_reference": "abc"}
    test.firing(alert, 10)
    test.firing(alert, 2 * HOUR, found)
    test.says(
        alert,
        2 * HOUR,
        {**found, "severity": "warning"},
        summary="Embeddings of ill drifted on all replicas together",
        description="In 1h more of them lay far outside the reference than chance allows; the "
        "test's statistic is 38.03.",
        runbook="runbooks.md#llmwatchfleetdriftraised",
    )
    test.run(tmp_path)


def test_telemetry_is_dropped(tmp_path: Path) -> None:
    test, name, alert = (
        of("telemetry"),
        "llmwatch_telemetry_dropped_total",
        "LlmwatchTelemetryDropped",
    )
    lost, kept = {"llmwatch_signal": "traces"}, {"llmwatch_signal": "logs"}
    test.give(name, "0x10 512x60", job="ill", instance="1", **lost)
    test.give(name, "0x70", job="ill", instance="1", **kept)
    test.give(name, "80x70", job="well", instance="1", **lost)
    test.firing(alert, 10)
    test.firing(alert, 11, {"job": "ill", **lost})
    test.firing(alert, 22)
    test.says(
        alert,
        15,
        {"job": "ill", **lost, "severity": "warning"},
        summary="ill loses traces",
        description="512 spans, data points or log records did not arrive in 10m.",
        runbook="runbooks.md#llmwatchtelemetrydropped",
    )
    test.run(tmp_path)


def test_llmwatch_fails_inside(tmp_path: Path) -> None:
    """At the first failure, too, which makes the series."""
    test, name, alert = of("telemetry"), "llmwatch_internal_errors_total", "LlmwatchInternalErrors"
    cause = {"llmwatch_cause": "openai.read_response"}
    test.give(name, "_x20 1x60", job="new", **cause)
    test.give(name, "2x40 5x40", job="again", **cause)
    test.give(name, "7x80", job="old", **cause)
    test.firing(alert, 19)
    test.firing(alert, 25, {"job": "new"})
    test.firing(alert, 35)
    test.firing(alert, 45, {"job": "again"})
    test.says(
        alert,
        25,
        {"job": "new", **cause, "severity": "warning"},
        summary="llmwatch fails inside new: openai.read_response",
        description="1 failures in 10m. Calls are not affected, their telemetry is.",
        runbook="runbooks.md#llmwatchinternalerrors",
    )
    test.run(tmp_path)


def test_a_service_falls_silent(tmp_path: Path) -> None:
    """All of it, and for more than a moment; until it reports again, or a day has passed."""
    test, name, alert = (
        of("telemetry", every="2m"),
        "llmwatch_telemetry_dropped_total",
        "LlmwatchNoData",
    )
    signals = ("traces", "metrics", "logs")
    for signal in signals:
        named = {"llmwatch_signal": signal}
        test.give(name, f"0x{HOUR} stale _x{HOUR} 0x{DAY}", job="ill", instance="1", **named)
        test.give(name, f"0x{HOUR} stale", job="half", instance="1", **named)
        test.give(name, f"0x{2 * DAY}", job="half", instance="2", **named)
        test.give(
            name, f"0x{HOUR} stale stale stale 0x{2 * DAY}", job="blink", instance="1", **named
        )
        test.give(name, f"0x{HOUR} stale", job="gone", instance="1", **named)
    both = [{"job": "ill"}, {"job": "gone"}]
    test.firing(alert, HOUR + 3)
    test.firing(alert, HOUR + 15, *both)
    test.firing(alert, 2 * HOUR + 10, {"job": "gone"})
    test.firing(alert, DAY + 2 * HOUR)
    count = "llmwatch:reporting:count"
    test.value(f'{count}{{job="half"}}', HOUR, 2, job="half")
    test.value(f'{count}{{job="half"}}', HOUR + 5, 1, job="half")
    test.says(
        alert,
        3 * HOUR,
        {"job": "gone", "severity": "critical"},
        summary="gone reports nothing any more",
        description="1 of its processes did within 1d; for 5m none does.",
        runbook="runbooks.md#llmwatchnodata",
    )
    test.run(tmp_path)
