"""What the machine did meanwhile: this process, its host, and each GPU there is, from the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.table import Table
from rich.text import Text

from llmwatch import semconv_hardware as hardware
from llmwatch.demo.draw import table
from llmwatch.export.store_reader import StoredPoint
from llmwatch.view.numbers import seconds

GPU, PROCESS = hardware.GPU_METRICS, hardware.PROCESS_METRICS


class Latest:
    """The latest points of some metrics."""

    def __init__(self, points: Iterable[StoredPoint]) -> None:
        self._points = {
            (point.metric, *sorted(point.attributes.items())): point for point in points
        }

    def of(self, metric: str, **attributes: str) -> float | None:
        """The sum over the series that have these attributes, ``.`` written as ``__``."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}.items()
        values = [
            point.value
            for point in self._points.values()
            if point.metric == metric
            and wanted <= point.attributes.items()
            and point.value is not None
        ]
        return sum(values) if values else None

    def gpus(self) -> Iterator[tuple[str, str]]:
        """Id and title of each GPU that has used or held anything."""
        found = {
            point.attributes[hardware.HW_ID]: point.attributes
            for point in self._points.values()
            if point.metric == GPU["memory"].name
        }
        for device, attributes in found.items():
            yield device, f"{attributes[hardware.HW_NAME]}, {attributes.get(hardware.HW_MODEL, '')}"


def machine(points: Iterable[StoredPoint]) -> Table:
    """One row for the process, one for the machine, one for each GPU; what is not known is left."""
    latest = Latest(points)
    drawn = table("The machine", "at the end of it")
    for name in ("", "busy", "memory", ""):
        drawn.add_column(name, no_wrap=True)
    cpu, count = latest.of(PROCESS["cpu_time"].name), latest.of(PROCESS["threads"].name)
    held = latest.of(PROCESS["memory"].name)
    threads = "" if count is None else f"{count:.0f} threads"
    drawn.add_row(
        Text("this process", style="cyan"),
        "" if cpu is None else f"{seconds(cpu)} CPU",
        _memory(held, None),
        threads,
    )
    used = latest.of(PROCESS["host_memory"].name, system__memory__state="used")
    drawn.add_row(
        Text("its machine", style="cyan"),
        _share(latest.of(PROCESS["host_cpu_utilization"].name)),
        _memory(used, latest.of(PROCESS["host_memory_limit"].name)),
    )
    for device, title in latest.gpus():
        mine = {"hw__id": device}
        busy = latest.of(GPU["utilization"].name, hw__gpu__task="general", **mine)
        most = latest.of(GPU["memory_limit"].name, **mine)
        power = latest.of(GPU["power"].name, **mine)
        drawn.add_row(
            Text(title, style="cyan"),
            _share(busy),
            _memory(latest.of(GPU["memory"].name, **mine), most),
            "" if power is None else f"{power:.0f} W",
        )
    return drawn


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _memory(used: float | None, most: float | None) -> str:
    if used is None:
        return ""
    limit = "" if most is None else f" of {most / 1024**3:.1f}"
    return f"{used / 1024**3:.1f}{limit} GiB"
