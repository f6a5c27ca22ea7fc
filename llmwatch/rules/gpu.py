"""GPUs that are held down, that have memory errors, or whose memory runs out.

Every process that may use a GPU reports it: the highest report counts.
"""

from __future__ import annotations

from collections.abc import Iterator

from llmwatch import semconv_hardware as names
from llmwatch.rules.names import label, select
from llmwatch.rules.rule import COUNT, PERCENT, Alert, Group
from llmwatch.rules.values import Values, by, who
from llmwatch.semconv_hardware import GPU_METRICS, TORCH_METRICS


def groups(values: Values) -> Iterator[Group]:
    """One group."""
    alerts = (_throttled, _uncorrected, _corrected, _memory, _out_of_memory)
    yield Group("llmwatch-gpu", tuple(each(values) for each in alerts))


def _highest(values: Values, of: str, *more: str) -> str:
    return f"max by ({', '.join([by(values, 'gpu'), *more])}) ({of})"


def _throttled(values: Values) -> Alert:
    window, reason = values["gpu.throttling.window"], label(names.GPU_REASON)
    reasons = "|".join(values["gpu.throttling.reasons"])
    series = select(GPU_METRICS["throttled"], f'{reason}=~"{reasons}"')
    share = f"{values['gpu.throttling.share']:g}"
    # A reason is not told of before it is first met: the share of a window that is not whole yet.
    held = f"avg_over_time({series}[{window}]) and {series} offset {window}"
    return Alert(
        name="LlmwatchGpuThrottled",
        severity="ticket",
        expr=f"{_highest(values, held, reason)} > {share}",
        hold=values["gpu.throttling.for"],
        summary=f"{_gpu(values)} is held down: {{{{ $labels.{reason} }}}}",
        description=f"Its clocks were held down for {PERCENT} of {window}. {_seen(values)}",
    )


def _uncorrected(values: Values) -> Alert:
    window = values["gpu.errors.window"]
    return Alert(
        name="LlmwatchGpuMemoryErrors",
        severity="page",
        expr=f"{_increase_of_errors(values, 'uncorrected', window)} > 0",
        summary=f"{_gpu(values)} has memory errors that it cannot correct",
        description=f"{COUNT} in {window}. What it computes may be wrong. {_seen(values)}",
    )


def _corrected(values: Values) -> Alert:
    window, limit = values["gpu.errors.corrected_window"], f"{values['gpu.errors.corrected']:g}"
    return Alert(
        name="LlmwatchGpuCorrectedErrors",
        severity="ticket",
        expr=f"{_increase_of_errors(values, 'corrected', window)} > {limit}",
        summary=f"{_gpu(values)} corrects many memory errors",
        description=f"{COUNT} in {window}; {limit} are let pass. {_seen(values)}",
    )


def _increase_of_errors(values: Values, kind: str, window: str) -> str:
    series = select(GPU_METRICS["errors"], f'{label(names.ERROR_TYPE)}="{kind}"')
    return _highest(values, f"increase({series}[{window}])")


def _memory(values: Values) -> Alert:
    window, share = values["gpu.memory.window"], f"{values['gpu.memory.share']:g}"
    series = select(GPU_METRICS["memory_utilization"])
    return Alert(
        name="LlmwatchGpuMemoryPressure",
        severity="ticket",
        expr=f"{_highest(values, f'avg_over_time({series}[{window}])')} > {share}",
        hold=values["gpu.memory.for"],
        summary=f"{_gpu(values)} has hardly any memory left",
        description=f"{PERCENT} of its memory was in use over {window}. {_seen(values)}",
    )


def _out_of_memory(values: Values) -> Alert:
    window, device = values["gpu.memory.out_of_memory_window"], label(names.TORCH_DEVICE)
    series = select(TORCH_METRICS["torch_ooms"])
    labels = f"{by(values, 'service')}, {device}"
    return Alert(
        name="LlmwatchGpuOutOfMemory",
        severity="ticket",
        expr=f"sum by ({labels}) (increase({series}[{window}])) > 0",
        summary=f"{who(values, 'service')} ran out of memory on {{{{ $labels.{device} }}}}",
        description=f"{COUNT} allocations failed in {window}.",
    )


def _gpu(values: Values) -> str:
    return f"GPU {who(values, 'gpu')}"


def _seen(values: Values) -> str:
    """Which processes report the GPU: its own labels do not say where it is."""
    labels = values["labels.gpu"]
    chosen = ", ".join(f"{name}=%q" for name in labels)
    given = " ".join(f"$labels.{name}" for name in labels)
    series = f"group by (instance) ({select(GPU_METRICS['memory_limit'], chosen)})"
    asked = f'{{{{ range printf "{series}" {given} | query | sortByLabel `instance` }}}}'
    return f"Reported by{asked} {{{{ .Labels.instance }}}}{{{{ end }}}}."
