"""*GPU and host*: the machine below, and what requests in these processes take of it."""

from __future__ import annotations

from docs.dashboards.board import Board
from docs.dashboards.panels import Panel, Row
from docs.dashboards.queries import (
    MODEL,
    PROCESS,
    level,
    mean,
    of_gpu,
    or_zero,
    quantile,
    rate,
    rate_of_gpu,
)
from llmwatch import semconv_hardware as hardware
from llmwatch.rules.names import label, select
from llmwatch.rules.values import load
from llmwatch.semconv import Metric
from llmwatch.semconv_hardware import (
    ATTRIBUTED_ENERGY,
    GPU_METRICS,
    OPERATION_METRICS,
    PEAK_METRICS,
    PROCESS_METRICS,
    TORCH_METRICS,
)

TASK, REASON, CLOCK, DIRECTION, SENSOR, ERROR, LIMIT, TO, STATE, MODE, SWITCH, DEVICE = map(
    label,
    (
        hardware.HW_GPU_TASK,
        hardware.GPU_REASON,
        hardware.GPU_CLOCK,
        hardware.NETWORK_IO_DIRECTION,
        hardware.HW_SENSOR_LOCATION,
        hardware.ERROR_TYPE,
        hardware.HW_LIMIT_TYPE,
        hardware.GPU_ENERGY_TO,
        hardware.MEMORY_STATE,
        hardware.CPU_MODE,
        hardware.CONTEXT_SWITCH_TYPE,
        hardware.TORCH_DEVICE,
    ),
)
GPU = "{{hw_name}} {{hw_id}}"
PER_TOKEN = "suffix: J/token"  # noqa: S105 - a unit
HELD_DOWN = (*PROCESS, f'{REASON}=~"{"|".join(load()["gpu.throttling.reasons"])}"')
"""The reasons that alerts are about, too."""
COMPUTE = (*PROCESS, f'{TASK}="general"')
SLOWS_AT = (*PROCESS, f'{LIMIT}="high.degraded"', f'{SENSOR}="gpu"')


def increase(metric: Metric) -> str:
    """How much a counter rose in the time that the dashboard shows."""
    return f"increase({select(metric, *PROCESS)}[$__range])"


NOW = (
    Panel(
        kind="number",
        asks="How busy are the GPUs?",
        tells="Share of time in which a GPU computed, for anybody: the mean of all GPUs.",
        unit="percentunit",
        high=1,
        queries=((f"avg ({of_gpu(GPU_METRICS['utilization'], where=COMPUTE)})", "busy"),),
        width=4,
        height=5,
    ),
    Panel(
        kind="number",
        asks="How full is the fullest GPU?",
        tells="Share of its memory that is in use, by anybody.",
        unit="percentunit",
        high=1,
        red_from=0.95,
        queries=((f"max ({of_gpu(GPU_METRICS['memory_utilization'])})", "in use"),),
        width=4,
        height=5,
    ),
    Panel(
        kind="number",
        asks="How much power is drawn?",
        tells="Of all GPUs together, as the driver says.",
        unit="watt",
        queries=((f"sum ({of_gpu(GPU_METRICS['power'])})", "drawn"),),
        width=4,
        height=5,
    ),
    Panel(
        kind="number",
        asks="How many GPUs are held down?",
        tells="GPUs whose clocks are held down now for a reason that is no part of normal work, as "
        "a power cap at full load is: heat, brakes, faults.",
        unit="short",
        red_from=1,
        queries=(
            (
                or_zero(
                    f"sum ({level(GPU_METRICS['throttled'], 'max', 'hw_id', where=HELD_DOWN)})",
                    f"sum ({of_gpu(GPU_METRICS['utilization'], where=COMPUTE)})",
                ),
                "held down",
            ),
        ),
        width=4,
        height=5,
    ),
    Panel(
        kind="number",
        asks="What does a token cost in energy?",
        tells="Joules over output tokens of a request to a model in these processes, all GPUs "
        "together: the mean of requests, be they long or short. Needs the setting "
        "`gpu_poll_interval`.",
        unit=PER_TOKEN,
        queries=((mean(OPERATION_METRICS["energy_per_token"]), "mean of requests"),),
        width=4,
        height=5,
    ),
    Panel(
        kind="number",
        asks="How full is the fullest host?",
        tells="Share of its memory that could not be had without swapping. Needs the extra `host`.",
        unit="percentunit",
        high=1,
        red_from=0.95,
        queries=(
            (
                "max ("
                + level(
                    PROCESS_METRICS["host_memory"],
                    "max",
                    "instance",
                    where=(*PROCESS, f'{STATE}="used"'),
                )
                + " / "
                + level(PROCESS_METRICS["host_memory_limit"], "max", "instance")
                + ")",
                "in use",
            ),
        ),
        width=4,
        height=5,
    ),
)

WORK = (
    Panel(
        asks="How busy is each GPU?",
        tells="Share of time in which it computed, for anybody, in the driver's last window.",
        unit="percentunit",
        high=1,
        queries=((of_gpu(GPU_METRICS["utilization"], where=COMPUTE), GPU),),
    ),
    Panel(
        asks="How busy was it at most?",
        tells="Highest utilization that a poll saw since the last scrape. Needs the setting "
        "`gpu_poll_interval`.",
        unit="percentunit",
        high=1,
        queries=((of_gpu(PEAK_METRICS["peak_utilization"]), GPU),),
    ),
    Panel(
        asks="How much of it is for these processes?",
        tells="Share of time in which a GPU computed for the watched processes and their children.",
        unit="percentunit",
        high=1,
        queries=((level(GPU_METRICS["process_utilization"], "sum", "hw_id", "hw_name"), GPU),),
    ),
    Panel(
        asks="How much memory is in use?",
        tells="GPU memory in use by anybody, and what there is.",
        unit="bytes",
        queries=(
            (of_gpu(GPU_METRICS["memory"]), GPU),
            (of_gpu(GPU_METRICS["memory_limit"]), f"limit {GPU}"),
        ),
    ),
    Panel(
        asks="How much memory do these processes use?",
        tells="GPU memory of each watched process and its children.",
        unit="bytes",
        queries=(
            (
                level(GPU_METRICS["process_memory"], "max", "instance", "hw_name"),
                "{{instance}} {{hw_name}}",
            ),
        ),
    ),
    Panel(
        asks="How busy is the memory?",
        tells="Share of time in which GPU memory was read or written. High while compute is low: "
        "decoding is bound by memory.",
        unit="percentunit",
        high=1,
        queries=((of_gpu(GPU_METRICS["memory_activity"]), GPU),),
    ),
    Panel(
        asks="How much goes over PCIe?",
        tells="Bytes a second, as the GPU sees it, where the driver counts them.",
        unit="Bps",
        queries=((rate_of_gpu(GPU_METRICS["io"], DIRECTION), f"{{{{{DIRECTION}}}}} {GPU}"),),
    ),
    Panel(
        asks="How much goes over NVLink?",
        tells="Bytes a second over all NVLinks of a GPU.",
        unit="Bps",
        queries=((rate_of_gpu(GPU_METRICS["nvlink_io"], DIRECTION), f"{{{{{DIRECTION}}}}} {GPU}"),),
    ),
    Panel(
        asks="How fast are the clocks?",
        tells="Clock frequency now, of multiprocessors (`sm`) and memory.",
        unit="hertz",
        queries=((of_gpu(GPU_METRICS["clock"], CLOCK), f"{{{{{CLOCK}}}}} {GPU}"),),
    ),
)

HEAT = (
    Panel(
        asks="How much power does each GPU draw?",
        tells="Power now, and what it may draw, all limits considered.",
        unit="watt",
        queries=(
            (of_gpu(GPU_METRICS["power"]), GPU),
            (of_gpu(GPU_METRICS["power_limit"]), f"limit {GPU}"),
        ),
    ),
    Panel(
        asks="How hot is it?",
        tells="Temperature of chip and memory, and where the chip slows down.",
        unit="celsius",
        high=110,
        queries=(
            (of_gpu(GPU_METRICS["temperature"], SENSOR), f"{{{{{SENSOR}}}}} {GPU}"),
            (of_gpu(GPU_METRICS["temperature_limit"], where=SLOWS_AT), f"slows down {GPU}"),
        ),
    ),
    Panel(
        kind="rows",
        asks="Why are clocks held down?",
        tells="Red while a GPU is throttled, by reason: `sw_power_cap` is normal at full load, "
        "`hw_thermal_slowdown` and brakes are not.",
        unit="short",
        red_from=1,
        high=1,
        queries=((of_gpu(GPU_METRICS["throttled"], REASON), f"{{{{{REASON}}}}} {GPU}"),),
    ),
    Panel(
        asks="Does memory fail?",
        tells="Errors in the time shown: corrected and uncorrected memory errors, PCIe replays. "
        "Uncorrected ones end programs; many corrected ones announce them.",
        unit="short",
        queries=(
            (
                f"max by (hw_id, hw_name, {ERROR}) ({increase(GPU_METRICS['errors'])})",
                f"{{{{{ERROR}}}}} {GPU}",
            ),
        ),
    ),
    Panel(
        asks="How fast do the fans turn?",
        tells="Fan speed that is asked for, over the most; GPUs of data centres have none.",
        unit="percentunit",
        high=1,
        queries=((of_gpu(GPU_METRICS["fan"]), GPU),),
    ),
    Panel(
        asks="How high was the power at most?",
        tells="Highest power that a poll saw since the last scrape. Needs the setting "
        "`gpu_poll_interval`.",
        unit="watt",
        queries=((of_gpu(PEAK_METRICS["peak_power"]), GPU),),
    ),
)

ENERGY = (
    Panel(
        asks="How many joules does a token take?",
        tells="Energy of the GPUs for one request over its output tokens, by model: median, and "
        "what 5 of 100 exceed. Needs the setting `gpu_poll_interval`.",
        unit=PER_TOKEN,
        queries=tuple(
            (
                quantile(q, OPERATION_METRICS["energy_per_token"], MODEL),
                f"p{q * 100:g} {{{{{MODEL}}}}}",
            )
            for q in (0.5, 0.95)
        ),
        traces=True,
    ),
    Panel(
        kind="stacked",
        asks="What is the energy used for?",
        tells="Watts of all GPUs by whom they were for: `requests`, `idle`, or `unattributed` "
        "(other programs, work outside of requests). Needs the setting `gpu_poll_interval`.",
        unit="watt",
        queries=((rate(ATTRIBUTED_ENERGY, "", TO, where=PROCESS), f"{{{{{TO}}}}}"),),
    ),
    Panel(
        asks="How much energy does each GPU use?",
        tells="From the driver's energy counter: the mean power, peaks between scrapes included.",
        unit="watt",
        queries=((rate_of_gpu(GPU_METRICS["energy"]), GPU),),
    ),
    Panel(
        asks="What does GPU time cost, by model?",
        tells="US dollars an hour of GPU time that requests are charged, at the setting "
        "`gpu_price`.",
        unit="currencyUSD",
        queries=((f"3600 * {rate(OPERATION_METRICS['cost'], 'sum', MODEL)}", f"{{{{{MODEL}}}}}"),),
        traces=True,
    ),
    Panel(
        asks="How busy are GPUs while a request runs?",
        tells="Mean utilization of the GPUs while one request ran: the median of a model. Low: "
        "the host holds the GPU up.",
        unit="percentunit",
        high=1,
        queries=((quantile(0.5, OPERATION_METRICS["utilization"], MODEL), f"{{{{{MODEL}}}}}"),),
    ),
    Panel(
        asks="How much memory is in use while a request runs?",
        tells="The most on all GPUs while one request ran: 95 of 100 requests to a model stay "
        "below.",
        unit="bytes",
        queries=((quantile(0.95, OPERATION_METRICS["memory_max"], MODEL), f"{{{{{MODEL}}}}}"),),
    ),
)

ALLOCATOR = (
    Panel(
        asks="How much does PyTorch hold?",
        tells="Device memory in tensors, and what the allocator keeps for them.",
        unit="bytes",
        queries=(
            (
                level(TORCH_METRICS["torch_allocated"], "max", "instance", DEVICE),
                f"in tensors {{{{instance}}}} {{{{{DEVICE}}}}}",
            ),
            (
                level(TORCH_METRICS["torch_reserved"], "max", "instance", DEVICE),
                f"reserved {{{{instance}}}} {{{{{DEVICE}}}}}",
            ),
        ),
    ),
    Panel(
        asks="How fragmented is it?",
        tells="Share of the reserved memory that lies free between tensors, and cannot be given "
        "back.",
        unit="percentunit",
        high=1,
        queries=(
            (
                level(TORCH_METRICS["torch_fragmentation"], "max", "instance", DEVICE),
                f"{{{{instance}}}} {{{{{DEVICE}}}}}",
            ),
        ),
    ),
    Panel(
        asks="Did allocations fail?",
        tells="In the time shown: allocations that failed because memory ran out, and times that "
        "PyTorch emptied its cache to try again.",
        unit="short",
        red_from=1,
        queries=tuple(
            (
                f"sum by (instance) ({increase(TORCH_METRICS[f'torch_{key}'])})",
                f"{name} {{{{instance}}}}",
            )
            for key, name in (("ooms", "out of memory"), ("retries", "tried again"))
        ),
    ),
)

HOST = (
    Panel(
        asks="How many CPUs does each process use?",
        tells="CPU seconds a second.",
        unit="short",
        queries=(
            (rate(PROCESS_METRICS["cpu_time"], "", "instance", where=PROCESS), "{{instance}}"),
        ),
    ),
    Panel(
        asks="How busy are the hosts?",
        tells="Share of time since the last scrape in which the CPUs of the machine were busy.",
        unit="percentunit",
        high=1,
        queries=(
            (level(PROCESS_METRICS["host_cpu_utilization"], "max", "instance"), "{{instance}}"),
        ),
    ),
    Panel(
        asks="How much memory does each process use?",
        tells="Memory that is not swapped out.",
        unit="bytes",
        queries=((level(PROCESS_METRICS["memory"], "max", "instance"), "{{instance}}"),),
    ),
    Panel(
        asks="How much memory has the host left?",
        tells="What could be had without swapping, on the machine of each process.",
        unit="bytes",
        queries=(
            (
                level(
                    PROCESS_METRICS["host_memory"],
                    "min",
                    "instance",
                    where=(*PROCESS, f'{STATE}="free"'),
                ),
                "{{instance}}",
            ),
        ),
    ),
    Panel(
        asks="How late is the event loop?",
        tells="How late loops with watched calls were when last asked to call back. More than 0.1 "
        "s: something blocks the loop, and chunks wait for it.",
        unit="s",
        queries=((level(PROCESS_METRICS["loop_lag"], "max", "instance"), "{{instance}}"),),
    ),
    Panel(
        asks="Does garbage collection get in the way?",
        tells="Longest collection since the last scrape, during which no Python code ran.",
        unit="s",
        queries=((level(PROCESS_METRICS["gc_longest"], "max", "instance"), "{{instance}}"),),
    ),
    Panel(
        asks="Do threads pile up?",
        tells="Threads of each process.",
        unit="short",
        queries=((level(PROCESS_METRICS["threads"], "max", "instance"), "{{instance}}"),),
    ),
    Panel(
        asks="Do files and sockets pile up?",
        tells="Open file descriptors of each process. What only rises will meet the limit of the "
        "system.",
        unit="short",
        queries=((level(PROCESS_METRICS["file_descriptors"], "max", "instance"), "{{instance}}"),),
    ),
    Panel(
        asks="Do processes fight for CPUs?",
        tells="How often a second a process gave up a CPU (`voluntary`), or had it taken.",
        unit="cps",
        queries=(
            (
                rate(PROCESS_METRICS["switches"], "", "instance", SWITCH, where=PROCESS),
                f"{{{{instance}}}} {{{{{SWITCH}}}}}",
            ),
        ),
    ),
)

BOARD = Board(
    name="gpu-host",
    title="llmwatch: GPU and host",
    tells="The machines below: GPUs, PyTorch's memory, processes and hosts, and what requests "
    "take of them.",
    found_by=PROCESS_METRICS["gc_collections"],
    models_by=OPERATION_METRICS["energy"],
    rows=(
        Row(title="Now", panels=NOW),
        Row(title="GPUs at work", panels=WORK),
        Row(title="Power, heat and faults", panels=HEAT),
        Row(title="Energy and cost of requests", panels=ENERGY),
        Row(title="PyTorch's memory", panels=ALLOCATOR),
        Row(title="Processes and hosts", panels=HOST),
    ),
)
