"""GPUs, processes and the host as sparklines; what nobody reported has no line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from llmwatch import semconv
from llmwatch import semconv_hardware as hardware
from llmwatch.semconv_hardware import GPU_METRICS, PROCESS_METRICS
from llmwatch.view.records import Series
from llmwatch.view.top.frame import Frame
from llmwatch.view.top.pieces import Line, Piece, clean, fit, slots, spark

LABEL, VALUE = 10, 19
"""Cells left and right of the bars."""

GIB = 1024**3


def percent(value: float) -> str:
    """A ratio."""
    return f"{value:.0%}"


def memory(value: float) -> str:
    """Bytes in GiB, or MiB where it is less than one."""
    return f"{value / GIB:.1f} GiB" if value >= GIB else f"{value / 1024**2:.0f} MiB"


def watts(value: float) -> str:
    """Watts."""
    return f"{value:.0f} W"


def degrees(value: float) -> str:
    """Degrees Celsius."""
    return f"{value:.0f} °C"


def whole(value: float) -> str:
    """A number of things."""
    return f"{value:.0f}"


@dataclass(frozen=True, slots=True)
class Gauge:
    """One kind of line: which metric, its name here, and where its scale ends."""

    metric: str
    label: str
    show: Callable[[float], str]
    limit: str | float | None = None
    """A metric of the same device, or a number; None: the highest value."""
    only: tuple[str, str] | None = None
    """An attribute that it must have, and its value."""


GPU = (
    Gauge(GPU_METRICS["utilization"].name, "busy", percent, 1.0, (hardware.HW_GPU_TASK, "general")),
    Gauge(GPU_METRICS["memory"].name, "memory", memory, GPU_METRICS["memory_limit"].name),
    Gauge(GPU_METRICS["power"].name, "power", watts, GPU_METRICS["power_limit"].name),
    Gauge(
        GPU_METRICS["temperature"].name,
        "heat",
        degrees,
        100.0,
        (hardware.HW_SENSOR_LOCATION, "gpu"),
    ),
)
PROCESS = (
    Gauge(PROCESS_METRICS["cpu_utilization"].name, "CPU", percent, 1.0),
    Gauge(PROCESS_METRICS["memory"].name, "memory", memory),
    Gauge(semconv.OWN_METRICS["active"].name, "in flight", whole),
)
HOST = (
    Gauge(PROCESS_METRICS["host_cpu_utilization"].name, "CPU", percent, 1.0),
    Gauge(
        PROCESS_METRICS["host_memory"].name,
        "memory",
        memory,
        PROCESS_METRICS["host_memory_limit"].name,
        (hardware.MEMORY_STATE, "used"),
    ),
)


def lines(frame: Frame, width: int) -> list[Line]:
    """All of it: each GPU, each program, the host."""
    return charts(frame.machine, frame.begin, frame.time, width)


def charts(found: Sequence[Series], begin: int, end: int, width: int) -> list[Line]:
    """Sparklines over a time of Unix nanoseconds, below the names of what they are of."""
    gpus = sorted({str(each.attributes.get(hardware.HW_NAME, "")) for each in _of(found, GPU)})
    services = sorted({each.service for each in _of(found, PROCESS)})
    drawn: list[Line] = []
    for gpu in gpus:
        mine = [each for each in found if str(each.attributes.get(hardware.HW_NAME, "")) == gpu]
        drawn += _block(_title(gpu, mine), mine, GPU, begin, end, width)
    for service in services:
        mine = [each for each in found if each.service == service]
        drawn += _block(service, mine, PROCESS, begin, end, width)
    return drawn + _block("host", found, HOST, begin, end, width)


def _of(found: Sequence[Series], gauges: Iterable[Gauge]) -> list[Series]:
    names = {gauge.metric for gauge in gauges}
    return [each for each in found if each.metric in names and each.times]


def _title(gpu: str, found: Sequence[Series]) -> str:
    models = [each.attributes[hardware.HW_MODEL] for each in found
              if hardware.HW_MODEL in each.attributes]  # fmt: skip
    return f"{gpu}  {models[0]}" if models else gpu


def _block(
    title: str, found: Sequence[Series], gauges: Iterable[Gauge], begin: int, end: int, width: int
) -> list[Line]:
    drawn = [
        line
        for gauge in gauges
        if (line := _line(gauge, found, begin, end, width)) is not None
    ]  # fmt: skip
    return [[Piece(fit(clean(title), width).rstrip(), "name")], *drawn] if drawn else []


def _line(gauge: Gauge, found: Sequence[Series], begin: int, end: int, width: int) -> Line | None:
    mine = [
        each
        for each in found
        if each.metric == gauge.metric
        and each.times
        and (gauge.only is None or each.attributes.get(gauge.only[0]) in (None, gauge.only[1]))
    ]
    if not mine:
        return None
    one = max(mine, key=lambda each: each.times[-1])
    limit = _limit(gauge, found)
    bars = max(width - LABEL - VALUE, 8)
    heights = slots(one.times, one.values, begin, end, bars)
    top = limit or max(one.values)
    value = gauge.show(one.values[-1])
    if limit is not None and isinstance(gauge.limit, str):
        value = f"{value.partition(' ')[0]} / {gauge.show(limit)}"
    return [
        Piece(f"  {gauge.label}".ljust(LABEL)),
        Piece(spark(heights, top), "bar"),
        Piece(fit(value, VALUE, right=True)),
    ]


def _limit(gauge: Gauge, found: Sequence[Series]) -> float | None:
    if not isinstance(gauge.limit, str):
        return gauge.limit
    values = [each.values[-1] for each in found if each.metric == gauge.limit and each.values]
    return max(values) if values else None
