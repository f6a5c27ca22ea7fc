"""What one AMD device is asked, and what AMD SMI's answers mean in our units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmwatch.measure.machine import Device, Gpu
from llmwatch.sources.gpu.family import is_ours

PERCENT, MICRO, MEGA = 0.01, 1e-6, 1e6
"""Units that AMD SMI speaks in; power is in watts, memory in bytes."""

UNKNOWN = 0xFFFF
"""Watts from which on a power is none: the driver's words for unknown, in 16 and 32 bits."""

Ask = Callable[..., Any]
"""Asks one device by the name of a function of the binding; None if there is no answer."""


def glance(device: Device, ask: Ask, smi: Any) -> Gpu:
    """What a poll needs (see `probe.Probe.glance`); *smi* is the binding."""
    return Gpu(device, **_core(ask, smi), own_share=_share(ask("get_gpu_process_list")))


def read(device: Device, ask: Ask, smi: Any) -> Gpu:
    """Everything (see `probe.Probe.read`)."""
    running = ask("get_gpu_process_list")
    errors = ask("get_gpu_total_ecc_count") or {}
    cap = ask("get_power_cap_info") or {}
    fan, most = ask("get_gpu_fan_speed", 0), ask("get_gpu_fan_speed_max", 0)
    return Gpu(
        device,
        **_core(ask, smi),
        **_clocks(ask, smi),
        **_temperatures(ask, smi),
        power_limit=_times(MICRO, cap.get("power_cap")),
        corrected_errors=known(errors.get("correctable_count")),
        uncorrected_errors=known(errors.get("uncorrectable_count")),
        pcie_replays=known(ask("get_gpu_pci_replay_counter")),
        fan_speed=fan / most if fan is not None and most else None,
        process_memory=_memory_of_ours(running),
        own_share=_share(running),
    )


def _core(ask: Ask, smi: Any) -> dict[str, Any]:
    busy, power = ask("get_gpu_activity") or {}, ask("get_power_info") or {}
    kind = smi.AmdSmiMemoryType.VRAM
    count = ask("get_energy_count") or {}
    ticks, joules = count.get("energy_accumulator"), count.get("counter_resolution", 0) * MICRO
    return {
        "utilization": _times(PERCENT, busy.get("gfx_activity")),
        "memory_activity": _times(PERCENT, busy.get("umc_activity")),
        "memory_used": ask("get_gpu_memory_usage", kind),
        "memory_limit": ask("get_gpu_memory_total", kind),
        "power": _watts(power),
        "energy": _times(joules, ticks) if joules else None,
    }


def _watts(power: dict[str, Any]) -> float | None:
    """Now, as newer GPUs tell it, else the mean that older ones tell."""
    for key in ("current_socket_power", "average_socket_power"):
        watts: float | None = known(power.get(key))
        if watts is not None and 0 < watts < UNKNOWN:
            return watts
    return None


def _clocks(ask: Ask, smi: Any) -> dict[str, Any]:
    found = {}
    for name, kind in (("sm", smi.AmdSmiClkType.GFX), ("memory", smi.AmdSmiClkType.MEM)):
        clock = ask("get_clock_info", kind) or {}
        found[f"{name}_clock"] = _times(MEGA, clock.get("clk"))
        found[f"{name}_clock_limit"] = _times(MEGA, clock.get("max_clk"))
    return found


def _temperatures(ask: Ask, smi: Any) -> dict[str, Any]:
    """Of the hottest spot: what newest GPUs have alone, and what limits act on."""
    sensor, metric = smi.AmdSmiTemperatureType, smi.AmdSmiTemperatureMetric
    return {
        "temperature": ask("get_temp_metric", sensor.HOTSPOT, metric.CURRENT),
        "temperature_shutdown": ask("get_temp_metric", sensor.HOTSPOT, metric.EMERGENCY),
        "memory_temperature": ask("get_temp_metric", sensor.VRAM, metric.CURRENT),
    }


def _memory_of_ours(running: list[dict[str, Any]] | None) -> int | None:
    sizes = [each["memory_usage"]["vram_mem"] for each in running or () if is_ours(each["pid"])]
    return sum(sizes) if sizes else None


def _share(running: list[dict[str, Any]] | None) -> float | None:
    """All of it where nobody else is; beside others AMD SMI does not tell whose the work is."""
    if running is None or not all(is_ours(each["pid"]) for each in running):
        return None
    return 1.0


def answered(gpu: Gpu) -> bool:
    """False where a device is lost: then it answers nothing."""
    known = gpu.utilization, gpu.memory_used, gpu.power, gpu.energy
    return any(each is not None for each in known)


def known(value: Any) -> Any:
    """A number; None for ``"N/A"``."""
    return value if isinstance(value, int | float) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value != "N/A" else None


def _times(factor: float, value: Any) -> Any:
    return None if known(value) is None else value * factor
