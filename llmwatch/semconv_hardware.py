"""Names of what is said about the machine: `semconv` for GPUs, the process and its host.

``hw.*``, ``process.*``, ``system.*`` and ``cpython.*`` are names of the OpenTelemetry semantic
conventions 1.41; what those lack is under ``llmwatch.*``.
"""

from __future__ import annotations

from typing import Final

from llmwatch.semconv import COST_BUCKETS, Kind, Metric

# --- attributes of the conventions -------------------------------------------------------------

HW_ID: Final = "hw.id"
HW_NAME: Final = "hw.name"
HW_TYPE: Final = "hw.type"
HW_VENDOR: Final = "hw.vendor"
HW_MODEL: Final = "hw.model"
HW_PARENT: Final = "hw.parent"
HW_GPU_TASK: Final = "hw.gpu.task"
HW_LIMIT_TYPE: Final = "hw.limit_type"
HW_SENSOR_LOCATION: Final = "hw.sensor_location"
NETWORK_IO_DIRECTION: Final = "network.io.direction"
ERROR_TYPE: Final = "error.type"
CPU_MODE: Final = "cpu.mode"
CONTEXT_SWITCH_TYPE: Final = "process.context_switch.type"
MEMORY_STATE: Final = "system.memory.state"
GC_GENERATION: Final = "cpython.gc.generation"

# --- attributes of our own ---------------------------------------------------------------------

GPU_CLOCK: Final = "llmwatch.gpu.clock"
GPU_REASON: Final = "llmwatch.gpu.reason"
GPU_UTILIZATION_MEAN: Final = "llmwatch.gpu.utilization.mean"
GPU_UTILIZATION_MAX: Final = "llmwatch.gpu.utilization.max"
GPU_MEMORY_MEAN: Final = "llmwatch.gpu.memory.usage.mean"
GPU_MEMORY_MAX: Final = "llmwatch.gpu.memory.usage.max"
GPU_ENERGY: Final = "llmwatch.gpu.energy.used"
GPU_ENERGY_SOURCE: Final = "llmwatch.gpu.energy.source"
GPU_ENERGY_PER_TOKEN: Final = "llmwatch.gpu.energy.per_token"
GPU_ENERGY_TO: Final = "llmwatch.gpu.energy.to"
GPU_TIME: Final = "llmwatch.gpu.time"
GPU_COST: Final = "llmwatch.gpu.cost.usd"
TORCH_DEVICE: Final = "llmwatch.torch.device"

# --- metrics -----------------------------------------------------------------------------------

_GAUGE: Final[Kind] = "observable_gauge"
_SUM: Final[Kind] = "observable_counter"
_LEVEL: Final[Kind] = "observable_up_down_counter"

GPU_METRICS: Final[dict[str, Metric]] = {
    "utilization": Metric(
        "hw.gpu.utilization", "1", _GAUGE, "Share of time in which the GPU did a kind of work."
    ),
    "memory": Metric("hw.gpu.memory.usage", "By", _LEVEL, "GPU memory in use, by anybody."),
    "memory_limit": Metric("hw.gpu.memory.limit", "By", _LEVEL, "GPU memory there is."),
    "memory_utilization": Metric(
        "hw.gpu.memory.utilization", "1", _GAUGE, "Share of the GPU memory that is in use."
    ),
    "memory_activity": Metric(
        "llmwatch.gpu.memory.activity",
        "1",
        _GAUGE,
        "Share of time in which GPU memory was read or written.",
    ),
    "io": Metric("hw.gpu.io", "By", _SUM, "Bytes over PCIe, where the driver counts them."),
    "pcie_throughput": Metric(
        "llmwatch.gpu.pcie.throughput",
        "By/s",
        _GAUGE,
        "PCIe traffic over 20 ms, where the driver has no counter for `hw.gpu.io`.",
    ),
    "nvlink_io": Metric("llmwatch.gpu.nvlink.io", "By", _SUM, "Bytes over all NVLinks of the GPU."),
    "energy": Metric("hw.energy", "J", _SUM, "Energy used since the driver was loaded."),
    "power": Metric("hw.power", "W", _GAUGE, "Power drawn."),
    "power_limit": Metric(
        "llmwatch.gpu.power.limit", "W", _GAUGE, "Power the GPU may draw, all limits considered."
    ),
    "temperature": Metric("hw.temperature", "Cel", _GAUGE, "Temperature of chip or memory."),
    "temperature_limit": Metric(
        "hw.temperature.limit",
        "Cel",
        _GAUGE,
        "Temperature at which the GPU slows down (`high.degraded`), shuts down (`high.critical`), "
        "or up to which it is meant to run (`max`).",
    ),
    "clock": Metric("llmwatch.gpu.clock.frequency", "Hz", _GAUGE, "Clock frequency now."),
    "clock_limit": Metric("llmwatch.gpu.clock.limit", "Hz", _GAUGE, "Highest clock frequency."),
    "performance_state": Metric(
        "llmwatch.gpu.performance_state", "1", _GAUGE, "P-state: 0 is the fastest, 15 the slowest."
    ),
    "throttled": Metric(
        "llmwatch.gpu.throttled",
        "1",
        _GAUGE,
        "1 while clocks are held down for a reason, 0 when that reason is over.",
    ),
    "errors": Metric(
        "hw.errors", "{error}", _SUM, "Memory errors since the driver was loaded; PCIe replays."
    ),
    "fan": Metric("hw.fan.speed_ratio", "1", _GAUGE, "Fan speed that is asked for, over the most."),
    "process_memory": Metric(
        "llmwatch.gpu.process.memory.usage",
        "By",
        _LEVEL,
        "GPU memory of this process and its children.",
    ),
    "process_utilization": Metric(
        "llmwatch.gpu.process.utilization",
        "1",
        _GAUGE,
        "Share of time in which the GPU computed for this process and its children.",
    ),
}
"""What is said of each GPU; read when metrics are collected."""

PEAK_METRICS: Final[dict[str, Metric]] = {
    "peak_utilization": Metric(
        "llmwatch.gpu.peak.utilization",
        "1",
        _GAUGE,
        "Highest utilization that a poll saw since the last reading.",
    ),
    "peak_memory": Metric(
        "llmwatch.gpu.peak.memory.usage",
        "By",
        _GAUGE,
        "The most GPU memory in use that a poll saw since the last reading.",
    ),
    "peak_power": Metric(
        "llmwatch.gpu.peak.power",
        "W",
        _GAUGE,
        "Highest power that a poll saw since the last reading.",
    ),
}
"""What happened between two readings; with the setting `gpu_poll_interval`."""

TORCH_METRICS: Final[dict[str, Metric]] = {
    "torch_allocated": Metric(
        "llmwatch.torch.memory.allocated", "By", _LEVEL, "Device memory in tensors of this process."
    ),
    "torch_reserved": Metric(
        "llmwatch.torch.memory.reserved",
        "By",
        _LEVEL,
        "Device memory that PyTorch's allocator holds: in tensors, and to be used again.",
    ),
    "torch_allocated_max": Metric(
        "llmwatch.torch.memory.allocated_peak",
        "By",
        _GAUGE,
        "The most that was in tensors, ever or since the program reset PyTorch's peaks.",
    ),
    "torch_reserved_max": Metric(
        "llmwatch.torch.memory.reserved_peak",
        "By",
        _GAUGE,
        "The most that was reserved, ever or since the program reset PyTorch's peaks.",
    ),
    "torch_fragmentation": Metric(
        "llmwatch.torch.memory.fragmentation",
        "1",
        _GAUGE,
        "Share of the reserved memory that is free between tensors, and cannot be given back.",
    ),
    "torch_ooms": Metric(
        "llmwatch.torch.memory.out_of_memory",
        "{error}",
        _SUM,
        "Allocations that failed because device memory ran out.",
    ),
    "torch_retries": Metric(
        "llmwatch.torch.memory.retries",
        "{retry}",
        _SUM,
        "Times that PyTorch emptied its cache because an allocation failed, and tried again.",
    ),
}
"""What PyTorch's allocator says of each device; read with `GPU_METRICS`."""

ENERGY_BUCKETS: Final = tuple(
    round(base * 10.0**exponent, 9) for exponent in range(-3, 6) for base in (1.0, 3.0)
)
"""Joules, a thousandth to 300 000."""

RATIO_BUCKETS: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
MEMORY_BUCKETS: Final = tuple(float(2**exponent) for exponent in range(28, 42))
"""Bytes, 256 MiB to 2 TiB."""

OPERATION_METRICS: Final[dict[str, Metric]] = {
    "energy": Metric(
        "llmwatch.gpu.operation.energy",
        "J",
        "histogram",
        "Energy that GPUs used for one operation in this process.",
        ENERGY_BUCKETS,
    ),
    "energy_per_token": Metric(
        "llmwatch.gpu.operation.energy_per_token",
        "J/{token}",
        "histogram",
        "Energy that GPUs used for one operation over its output tokens.",
        ENERGY_BUCKETS,
    ),
    "cost": Metric(
        "llmwatch.gpu.operation.cost",
        "{USD}",
        "histogram",
        "GPU time of one operation at the setting `gpu_price`.",
        COST_BUCKETS,
    ),
    "utilization": Metric(
        "llmwatch.gpu.operation.utilization",
        "1",
        "histogram",
        "Mean utilization of the GPUs while one operation ran.",
        RATIO_BUCKETS,
    ),
    "utilization_max": Metric(
        "llmwatch.gpu.operation.utilization_peak",
        "1",
        "histogram",
        "Highest utilization of any GPU while one operation ran.",
        RATIO_BUCKETS,
    ),
    "memory": Metric(
        "llmwatch.gpu.operation.memory",
        "By",
        "histogram",
        "Mean of the memory in use on all GPUs while one operation ran.",
        MEMORY_BUCKETS,
    ),
    "memory_max": Metric(
        "llmwatch.gpu.operation.memory_peak",
        "By",
        "histogram",
        "The most memory in use on all GPUs while one operation ran.",
        MEMORY_BUCKETS,
    ),
}
"""What each operation is charged; with the setting `gpu_poll_interval`."""

ATTRIBUTED_ENERGY: Final = Metric(
    "llmwatch.gpu.energy.attributed",
    "J",
    "observable_counter",
    "Energy of the GPUs by whom it was for; with the setting `gpu_poll_interval`.",
)

PROCESS_METRICS: Final[dict[str, Metric]] = {
    "cpu_time": Metric("process.cpu.time", "s", _SUM, "CPU time of this process."),
    "cpu_utilization": Metric(
        "process.cpu.utilization",
        "1",
        _GAUGE,
        "CPU time since the last reading, over the time and the number of CPUs.",
    ),
    "memory": Metric(
        "process.memory.usage", "By", _LEVEL, "Memory of this process that is not swapped out."
    ),
    "memory_virtual": Metric(
        "process.memory.virtual", "By", _LEVEL, "Address space of this process."
    ),
    "threads": Metric("process.thread.count", "{thread}", _LEVEL, "Threads of this process."),
    "file_descriptors": Metric(
        "process.unix.file_descriptor.count",
        "{file_descriptor}",
        _LEVEL,
        "Open file descriptors of this process.",
    ),
    "switches": Metric(
        "process.context_switches",
        "{context_switch}",
        _SUM,
        "How often this process gave up a CPU, or had it taken.",
    ),
    "gc_collections": Metric(
        "cpython.gc.collections",
        "{collection}",
        _SUM,
        "Garbage collections since `instrument()`.",
    ),
    "gc_time": Metric("llmwatch.process.gc.time", "s", _SUM, "Time spent in garbage collections."),
    "gc_longest": Metric(
        "llmwatch.process.gc.longest_pause",
        "s",
        _GAUGE,
        "Longest garbage collection since the last reading.",
    ),
    "loop_lag": Metric(
        "llmwatch.process.event_loop.lag",
        "s",
        _GAUGE,
        "How late an event loop with watched calls was, when it was last asked to call back.",
    ),
    "host_cpu_utilization": Metric(
        "system.cpu.utilization",
        "1",
        _GAUGE,
        "Share of time since the last reading in which the CPUs were busy.",
    ),
    "host_memory": Metric("system.memory.usage", "By", _LEVEL, "Memory of the machine."),
    "host_memory_limit": Metric(
        "system.memory.limit", "By", _LEVEL, "Memory that the machine has."
    ),
}
"""What is said of this process and its host; needs the extra `host` but for the pauses."""

BEGIN_WITH_US: Final = frozenset(
    {
        ATTRIBUTED_ENERGY.name,
        PROCESS_METRICS["gc_collections"].name,
        PROCESS_METRICS["gc_time"].name,
    }
)
"""Sums that are zero at `instrument()`; those of others count on whoever watches."""

# --- meanings: the reference in the docs is made of them ------------------------------------------

ATTRIBUTES: Final[dict[str, str]] = {
    HW_ID: "The device's UUID.",
    HW_NAME: "Its number on this machine: `GPU 0`, `GPU 0 MIG 1`.",
    HW_TYPE: "`gpu`.",
    HW_VENDOR: "Who made it: `NVIDIA`.",
    HW_MODEL: "What it is, for example `NVIDIA H100 80GB HBM3`.",
    HW_PARENT: "On MIG devices: `hw.id` of the GPU that they are a part of.",
    HW_GPU_TASK: "The kind of work: `general`, `encoder`, `decoder`.",
    HW_LIMIT_TYPE: "Which limit: `high.degraded`, `high.critical`, `max`.",
    HW_SENSOR_LOCATION: "Where the temperature is measured: `gpu` or `memory`.",
    NETWORK_IO_DIRECTION: "`receive` or `transmit`, as the GPU sees it.",
    ERROR_TYPE: "On `hw.errors`: `corrected` and `uncorrected` memory errors, `pcie_replay`.",
    CPU_MODE: "On `process.cpu.time`: `user` or `system`.",
    CONTEXT_SWITCH_TYPE: "`voluntary` or `involuntary`.",
    MEMORY_STATE: "`free`, what could be had without swapping, or `used`.",
    GC_GENERATION: "Which generation was collected: 0, 1, 2.",
    GPU_CLOCK: "Which clock: `sm` or `memory`.",
    GPU_REASON: "Why clocks are held down: `sw_power_cap`, `hw_slowdown`, `sw_thermal_slowdown`, "
    "`hw_thermal_slowdown`, `hw_power_brake_slowdown`, `sync_boost`, `applications_clocks`, "
    "`display_clocks`, `board_limit`, `reliability`.",
    GPU_UTILIZATION_MEAN: "Mean utilisation of the GPUs while the operation ran.",
    GPU_UTILIZATION_MAX: "Highest utilisation of any GPU while it ran.",
    GPU_MEMORY_MEAN: "Mean of the GPU memory in use while it ran, of all GPUs together, in bytes.",
    GPU_MEMORY_MAX: "The most GPU memory in use while it ran, of all GPUs together, in bytes.",
    GPU_ENERGY: "Joules that GPUs used for the operation.",
    GPU_ENERGY_SOURCE: "Where the joules come from: `counter`, or `power`, integrated.",
    GPU_ENERGY_PER_TOKEN: "Joules for each output token.",
    GPU_ENERGY_TO: "On `llmwatch.gpu.energy.attributed`: `requests`, `idle` or `unattributed` "
    "(other processes', or whose is not known).",
    GPU_TIME: "Seconds of GPU that the operation took: its share of the time, times GPUs.",
    GPU_COST: "US dollars: the GPU time at the setting `gpu_price`.",
    TORCH_DEVICE: "What PyTorch calls the device: `cuda:0`. With `hw.id` and others where a GPU of "
    "the same UUID is watched.",
}
"""What each attribute means."""
