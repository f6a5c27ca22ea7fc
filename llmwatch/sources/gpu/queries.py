"""What one NVIDIA device is asked, and what NVML's answers mean in our units."""

from __future__ import annotations

from time import time
from typing import Any, NamedTuple

from llmwatch.measure.machine import Device, Gpu
from llmwatch.sources.gpu.family import is_here, is_ours
from llmwatch.sources.gpu.library import Library

SEEN_SINCE = 2.0
"""Seconds that a sample of a process's utilisation may be old; the driver takes 1 to 6 a second."""

PERCENT, MILLI, KIBI, MEGA = 0.01, 1e-3, 1024, 1e6
"""Units that NVML speaks in."""

GPU_SENSOR, SM_CLOCK, MEMORY_CLOCK, SENT, RECEIVED, CORRECTED, UNCORRECTED, SINCE_DRIVER = (
    *(0, 1, 2),
    *(0, 1),
    *(0, 1, 0),
)
"""Arguments of NVML's queries, by their values in nvml.h."""

LIMITS = {
    "temperature_shutdown": 0,
    "temperature_slowdown": 1,
    "memory_temperature_max": 2,
    "temperature_max": 3,
}
"""Fields of a `Gpu`, and NVML's temperature thresholds."""

REASONS = {
    0x2: "applications_clocks",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clocks",
    0x200: "board_limit",
    0x400: "reliability",
}
"""Bits of NVML's clock event reasons; idleness (0x1) holds nothing down and is left out."""

MEMORY_TEMPERATURE, NVLINK_SENT, NVLINK_GOT, PCIE_SENT, PCIE_GOT = 82, 138, 139, 197, 198
"""Numbers of NVML's fields (``NVML_FI_DEV_…``), which older bindings have no names for."""

ALL_LINKS = 0xFFFFFFFF
FIELDS: tuple[tuple[int, int], ...] = (
    (MEMORY_TEMPERATURE, 0),
    (NVLINK_SENT, ALL_LINKS),
    (NVLINK_GOT, ALL_LINKS),
    (PCIE_SENT, 0),
    (PCIE_GOT, 0),
)

PROCESSES = "GetComputeRunningProcesses_v3|GetComputeRunningProcesses_v2|GetComputeRunningProcesses"
EVENT_REASONS = "GetCurrentClocksEventReasons|GetCurrentClocksThrottleReasons"


class Use(NamedTuple):
    """What this process has of a device; None where that is not known."""

    utilization: float | None = None
    share: float | None = None
    """Of what the device computes for everybody."""


class Queries:
    """One device, and how it is asked. Every method may raise `library.Lost`.

    Args:
        library: Through which it is asked.
        device: What it is.
        handle: NVML's handle.
    """

    def __init__(self, library: Library, device: Device, handle: Any) -> None:
        self.device = device
        self._library = library
        self._handle = handle
        self._is_part = device.parent is not None
        self._fixed: dict[str, Any] | None = None
        self._fields = FIELDS

    def ask(self, what: str, *arguments: Any) -> Any:
        """See `Library.ask`."""
        return self._library.ask(self.device.id, what, self._handle, *arguments)

    def glance(self) -> Gpu:
        """Energy, power, utilisation, memory and our own share."""
        use = Use() if self._is_part else self._use(self.ask(PROCESSES))
        return Gpu(self.device, **self._core(), own_share=use.share)

    def read(self) -> Gpu:
        """Everything: of a part there is less, most is measured of the whole."""
        running = self.ask(PROCESSES)
        if self._is_part:
            return Gpu(self.device, **self._core(), process_memory=_memory_of_ours(running))
        if self._fixed is None:
            self._fixed = self._limits()
        fields, use = self._field_values(), self._use(running)
        return Gpu(
            self.device,
            **self._core(),
            **self._pcie(fields),
            **self._fixed,
            **self._state(),
            encoder_utilization=_times(PERCENT, _first(self.ask("GetEncoderUtilization"))),
            decoder_utilization=_times(PERCENT, _first(self.ask("GetDecoderUtilization"))),
            nvlink_received=_times(KIBI, fields.get(NVLINK_GOT)),
            nvlink_transmitted=_times(KIBI, fields.get(NVLINK_SENT)),
            memory_temperature=fields.get(MEMORY_TEMPERATURE),
            process_memory=_memory_of_ours(running),
            process_utilization=use.utilization,
            own_share=use.share,
        )

    def _core(self) -> dict[str, Any]:
        memory = self._memory()
        found = {"memory_used": memory and memory.used, "memory_limit": memory and memory.total}
        if not self._is_part:
            rates = self.ask("GetUtilizationRates")
            found |= {
                "utilization": _times(PERCENT, rates and rates.gpu),
                "memory_activity": _times(PERCENT, rates and rates.memory),
                "power": _times(MILLI, self.ask("GetPowerUsage")),
                "energy": _times(MILLI, self.ask("GetTotalEnergyConsumption")),
            }
        return found

    def _memory(self) -> Any:
        """Without what the driver keeps for itself, where it says how much that is."""
        version = self._library.constant("nvmlMemory_v2")
        found = version and self.ask("GetMemoryInfo", version)
        return found or self.ask("GetMemoryInfo")

    def _state(self) -> dict[str, Any]:
        return {
            "temperature": self.ask("GetTemperatureV|GetTemperature", GPU_SENSOR),
            "sm_clock": _times(MEGA, self.ask("GetClockInfo", SM_CLOCK)),
            "memory_clock": _times(MEGA, self.ask("GetClockInfo", MEMORY_CLOCK)),
            "performance_state": _known_state(self.ask("GetPerformanceState")),
            "throttle_reasons": _reasons(self.ask(EVENT_REASONS)),
            "corrected_errors": self.ask("GetTotalEccErrors", CORRECTED, SINCE_DRIVER),
            "uncorrected_errors": self.ask("GetTotalEccErrors", UNCORRECTED, SINCE_DRIVER),
            "pcie_replays": self.ask("GetPcieReplayCounter"),
            "fan_speed": _times(PERCENT, self.ask("GetFanSpeed")),
        }

    def _limits(self) -> dict[str, Any]:
        clocks = {"sm_clock_limit": SM_CLOCK, "memory_clock_limit": MEMORY_CLOCK}
        return {
            "power_limit": _times(MILLI, self.ask("GetEnforcedPowerLimit")),
            **{name: self.ask("GetTemperatureThreshold", kind) for name, kind in LIMITS.items()},
            **{
                name: _times(MEGA, self.ask("GetMaxClockInfo", kind))
                for name, kind in clocks.items()
            },
        }

    def _field_values(self) -> dict[int, int]:
        """Values by number; a field that the device turns out not to have is not asked again."""
        values = self.ask("GetFieldValues", self._fields) if self._fields else None
        if values is None:
            return {}
        found: dict[int, int] = {}
        had = []
        for value, asked in zip(values, self._fields, strict=True):
            if value.nvmlReturn == 0 and (number := _number(value)) is not None:
                found[value.fieldId] = number
                had.append(asked)
        self._fields = tuple(had)
        return found

    def _pcie(self, fields: dict[int, int]) -> dict[str, Any]:
        if PCIE_GOT in fields:
            return {"pcie_received": fields[PCIE_GOT], "pcie_transmitted": fields.get(PCIE_SENT)}
        return {
            "pcie_transmitting": _times(KIBI, self.ask("GetPcieThroughput", SENT)),
            "pcie_receiving": _times(KIBI, self.ask("GetPcieThroughput", RECEIVED)),
        }

    # --- this process ----------------------------------------------------------------------------

    def _use(self, running: list[Any] | None) -> Use:
        newest = self._samples()
        mine = [percent for pid, percent in newest.items() if is_ours(pid)]
        everybody = sum(newest.values())
        utilization = min(sum(mine), 100) * PERCENT if mine else None
        if everybody:
            if not mine and not all(is_here(pid) for pid in newest):
                return Use()  # numbers of another container or the host's: one may be this process
            return Use(utilization, sum(mine) / everybody)
        alone = running is not None and all(is_ours(each.pid) for each in running)
        return Use(utilization, 1.0 if alone else None)

    def _samples(self) -> dict[int, int]:
        """Percent of the time that the device computed for each process, lately."""
        since = round((time() - SEEN_SINCE) * 1e6)

        def query(nvml: Any) -> Any:
            return nvml.nvmlDeviceGetProcessUtilization(self._handle, since)

        samples = self._library.call((self.device.id, "GetProcessUtilization"), query) or ()
        return {each.pid: each.smUtil for each in sorted(samples, key=lambda each: each.timeStamp)}


def _memory_of_ours(running: list[Any] | None) -> int | None:
    sizes = [each.usedGpuMemory for each in running or () if is_ours(each.pid)]
    return sum(sizes) if sizes and None not in sizes else None


def _times(factor: float, value: float | None) -> Any:
    return None if value is None else value * factor


def _first(pair: list[int] | None) -> int | None:
    return None if pair is None else pair[0]


def _known_state(state: int | None) -> int | None:
    return state if state is not None and 0 <= state <= 15 else None


def _reasons(bits: int | None) -> tuple[str, ...] | None:
    return None if bits is None else tuple(name for bit, name in REASONS.items() if bits & bit)


def _number(value: Any) -> int | None:
    """A field's value; None for a counter of 32 bits, which a fast link wraps within a second."""
    kind = value.valueType  # NVML_VALUE_TYPE_…: 1 unsigned int, 2 long, 3 long long, 4 signed
    if kind == 1:
        return value.value.uiVal if value.fieldId == MEMORY_TEMPERATURE else None
    wide = {2: "ulVal", 3: "ullVal", 4: "sllVal"}.get(kind)
    return None if wide is None else getattr(value.value, wide)
