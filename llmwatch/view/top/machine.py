"""GPUs, processes and the host as sparklines; what nobody reported has no line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from llmwatch import semconv
from llmwatch import semconv_hardware as hardware
from llmwatch.semconv_hardware import GPU_METRICS, PROCESS_METRICS
from llmwatch.view.numbers import age
from llmwatch.view.records import Series
from llmwatch.view.top.frame import Frame
from llmwatch.view.top.pieces import Line, Piece, clean, fit, slots, spark

LABEL, VALUE = 12, 18
"""Cells left and right of the bars."""

OLD = 120.0
"""Seconds from which on a reading is not of now; the default of OpenTelemetry reads every 60."""

FEW = 2
"""GPUs that have lines of their own for all that is told of them."""

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


@dataclass(frozen=True, slots=True)
class Chart:
    """One sparkline."""

    label: str
    series: Series
    top: float
    """What the highest bar stands for."""
    value: str
    """The latest, and the limit where there is one."""

    def bars(self, begin: int, end: int, number: int) -> Piece:
        """*number* bars from one time to another, in Unix nanoseconds."""
        heights = slots(self.series.times, self.series.values, begin, end, number)
        return Piece(spark(heights, self.top), "bar")


@dataclass(frozen=True, slots=True)
class Block:
    """The charts of one thing."""

    title: str
    charts: Sequence[Chart]
    gpu: bool = False


def lines(frame: Frame, width: int) -> list[Line]:
    """All of it: each GPU, each program, the host; from the first reading to the last."""
    read = [each for each in frame.machine if each.times]
    begin = max(frame.begin, min((each.times[0] for each in read), default=0))
    end = max((each.times[-1] for each in read), default=frame.time)
    drawn: list[Line] = []
    for block in condensed(blocks(frame.machine)):
        drawn.append([Piece(fit(block.title, width).rstrip(), "name"), _old(block, frame.time)])
        room = max(VALUE, *(len(chart.value) + 1 for chart in block.charts))
        number = max(width - LABEL - room, 8)
        for chart in block.charts:
            label, value = fit(f"  {chart.label}", LABEL), fit(chart.value, room, right=True)
            drawn.append([Piece(label), chart.bars(begin, end, number), Piece(value)])
    return drawn


def condensed(found: Sequence[Block]) -> list[Block]:
    """The same with a line for each GPU, where there are more than a few."""
    gpus = [block for block in found if block.gpu]
    if len(gpus) <= FEW:
        return list(found)
    charts = [
        replace(
            block.charts[0],
            label=block.title.partition("  ")[0],
            value="  ".join(chart.value.replace(" / ", "/") for chart in block.charts[:3]),
        )
        for block in gpus
    ]
    title = f"{len(gpus)} GPUs  {gpus[0].title.partition('  ')[2]}".rstrip()
    return [Block(title, charts), *(block for block in found if not block.gpu)]


def _old(block: Block, now: int) -> Piece:
    """How old the readings are, where they are not of now."""
    seconds = (now - max(chart.series.times[-1] for chart in block.charts)) / 1e9
    return Piece(f"  {age(seconds)} ago" if seconds > OLD else "", "dim")


def blocks(found: Sequence[Series]) -> list[Block]:
    """What there are charts of: GPUs, programs, the host."""

    def block(title: str, mine: Sequence[Series], gauges: Iterable[Gauge]) -> Block:
        charts = (_chart(gauge, mine) for gauge in gauges)
        known = [chart for chart in charts if chart is not None]
        return Block(clean(title), known, gpu=gauges is GPU)

    gpus = sorted({_gpu(each) for each in _of(found, GPU)})
    services = sorted({each.service for each in _of(found, PROCESS)})
    made = [
        *(block(_title(gpu, mine), mine, GPU) for gpu in gpus
          if (mine := [each for each in found if _gpu(each) == gpu])),
        *(block(name, [each for each in found if each.service == name], PROCESS)
          for name in services),
        block("host", found, HOST),
    ]  # fmt: skip
    return [each for each in made if each.charts]


def _of(found: Sequence[Series], gauges: Iterable[Gauge]) -> list[Series]:
    names = {gauge.metric for gauge in gauges}
    return [each for each in found if each.metric in names and each.times]


def _gpu(each: Series) -> str:
    return str(each.attributes.get(hardware.HW_NAME, ""))


def _title(gpu: str, found: Sequence[Series]) -> str:
    model = next((each.attributes.get(hardware.HW_MODEL) for each in found), None)
    return gpu if model is None else f"{gpu}  {model}"


def _chart(gauge: Gauge, found: Sequence[Series]) -> Chart | None:
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
    value = gauge.show(one.values[-1])
    if limit is not None and isinstance(gauge.limit, str):
        value = f"{value.partition(' ')[0]} / {gauge.show(limit)}"
    return Chart(gauge.label, one, limit or max(one.values), value)


def _limit(gauge: Gauge, found: Sequence[Series]) -> float | None:
    if not isinstance(gauge.limit, str):
        return gauge.limit
    values = [each.values[-1] for each in found if each.metric == gauge.limit and each.values]
    return max(values) if values else None
