"""What one reading of the GPUs says in each metric.

The table is the whole truth of which number goes where; a number that is not known gives no
observation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from llmwatch import semconv_hardware as names
from llmwatch.measure.machine import Allocator, Device, Gpu
from llmwatch.signals.observed import Observation

_GPU = (names.HW_SENSOR_LOCATION, "gpu")
_MEMORY = (names.HW_SENSOR_LOCATION, "memory")
_RECEIVE = (names.NETWORK_IO_DIRECTION, "receive")
_TRANSMIT = (names.NETWORK_IO_DIRECTION, "transmit")


class Row(NamedTuple):
    """One number of a `Gpu`, and where it goes."""

    metric: str
    """Key in `semconv_hardware.GPU_METRICS`."""
    field: str
    """Attribute of a `Gpu`."""
    dimensions: tuple[tuple[str, str], ...] = ()


TABLE = (
    Row("utilization", "utilization", ((names.HW_GPU_TASK, "general"),)),
    Row("utilization", "encoder_utilization", ((names.HW_GPU_TASK, "encoder"),)),
    Row("utilization", "decoder_utilization", ((names.HW_GPU_TASK, "decoder"),)),
    Row("memory", "memory_used"),
    Row("memory_limit", "memory_limit"),
    Row("memory_utilization", "memory_utilization"),
    Row("memory_activity", "memory_activity"),
    Row("io", "pcie_received", (_RECEIVE,)),
    Row("io", "pcie_transmitted", (_TRANSMIT,)),
    Row("pcie_throughput", "pcie_receiving", (_RECEIVE,)),
    Row("pcie_throughput", "pcie_transmitting", (_TRANSMIT,)),
    Row("nvlink_io", "nvlink_received", (_RECEIVE,)),
    Row("nvlink_io", "nvlink_transmitted", (_TRANSMIT,)),
    Row("energy", "energy"),
    Row("power", "power"),
    Row("power_limit", "power_limit"),
    Row("temperature", "temperature", (_GPU,)),
    Row("temperature", "memory_temperature", (_MEMORY,)),
    Row(
        "temperature_limit", "temperature_slowdown", (_GPU, (names.HW_LIMIT_TYPE, "high.degraded"))
    ),
    Row(
        "temperature_limit", "temperature_shutdown", (_GPU, (names.HW_LIMIT_TYPE, "high.critical"))
    ),
    Row("temperature_limit", "temperature_max", (_GPU, (names.HW_LIMIT_TYPE, "max"))),
    Row("temperature_limit", "memory_temperature_max", (_MEMORY, (names.HW_LIMIT_TYPE, "max"))),
    Row("clock", "sm_clock", ((names.GPU_CLOCK, "sm"),)),
    Row("clock", "memory_clock", ((names.GPU_CLOCK, "memory"),)),
    Row("clock_limit", "sm_clock_limit", ((names.GPU_CLOCK, "sm"),)),
    Row("clock_limit", "memory_clock_limit", ((names.GPU_CLOCK, "memory"),)),
    Row("performance_state", "performance_state"),
    Row("errors", "corrected_errors", ((names.ERROR_TYPE, "corrected"),)),
    Row("errors", "uncorrected_errors", ((names.ERROR_TYPE, "uncorrected"),)),
    Row("errors", "pcie_replays", ((names.ERROR_TYPE, "pcie_replay"),)),
    Row("fan", "fan_speed"),
    Row("process_memory", "process_memory"),
    Row("process_utilization", "process_utilization"),
)


PEAKS = (
    Row("peak_utilization", "utilization"),
    Row("peak_memory", "memory_used"),
    Row("peak_power", "power"),
)
"""Of the highest between two collections: keys in `semconv_hardware.PEAK_METRICS`."""

ALLOCATOR = {
    "torch_allocated": "allocated",
    "torch_reserved": "reserved",
    "torch_allocated_max": "allocated_max",
    "torch_reserved_max": "reserved_max",
    "torch_fragmentation": "fragmentation",
    "torch_ooms": "ooms",
    "torch_retries": "retries",
}
"""Keys in `semconv_hardware.TORCH_METRICS`, and attributes of an `Allocator`."""


class Observations:
    """Turns readings into observations, and remembers what must be said to have ended."""

    def __init__(self) -> None:
        self._reasons: dict[str, dict[str, None]] = {}
        """Reasons for throttling that each device has ever given, in order."""

    def of(self, gpus: Iterable[Gpu]) -> dict[str, list[Observation]]:
        """By key of `semconv_hardware.GPU_METRICS`."""
        found: dict[str, list[Observation]] = {key: [] for key in names.GPU_METRICS}
        for gpu in gpus:
            base = _attributes(gpu.device)
            _fill(found, TABLE, gpu, base)
            found["throttled"] += self._throttled(gpu, base)
        return found

    def _throttled(self, gpu: Gpu, base: dict[str, str]) -> Iterator[Observation]:
        if gpu.throttle_reasons is None:
            return
        seen = self._reasons.setdefault(gpu.device.id, {})
        seen.update(dict.fromkeys(gpu.throttle_reasons))
        for reason in seen:
            active = int(reason in gpu.throttle_reasons)
            yield Observation(active, base | {names.GPU_REASON: reason})


def of_peaks(peaks: Iterable[Gpu]) -> dict[str, list[Observation]]:
    """By key of `semconv_hardware.PEAK_METRICS`."""
    found: dict[str, list[Observation]] = {key: [] for key in names.PEAK_METRICS}
    for gpu in peaks:
        _fill(found, PEAKS, gpu, _attributes(gpu.device))
    return found


def of_allocators(
    allocators: Iterable[Allocator], gpus: Iterable[Gpu]
) -> dict[str, list[Observation]]:
    """By key of `semconv_hardware.TORCH_METRICS`; under the GPU with the same UUID, if any."""
    found: dict[str, list[Observation]] = {key: [] for key in names.TORCH_METRICS}
    by_uuid = {gpu.device.id.partition("-")[2]: _attributes(gpu.device) for gpu in gpus}
    for each in allocators:
        joined = by_uuid.get(each.uuid or "", {}) | {names.TORCH_DEVICE: each.device}
        for key, attribute in ALLOCATOR.items():
            value = getattr(each, attribute)
            if value is not None:
                found[key].append(Observation(value, joined))
    return found


def _fill(
    found: dict[str, list[Observation]], rows: Iterable[Row], gpu: Gpu, base: dict[str, str]
) -> None:
    for row in rows:
        value = getattr(gpu, row.field)
        if value is not None:
            found[row.metric].append(Observation(value, base | dict(row.dimensions)))


def _attributes(device: Device) -> dict[str, str]:
    known = {
        names.HW_ID: device.id,
        names.HW_NAME: device.name,
        names.HW_TYPE: "gpu",
        names.HW_VENDOR: device.vendor,
        names.HW_MODEL: device.model,
        names.HW_PARENT: device.parent,
    }
    return {key: value for key, value in known.items() if value is not None}
