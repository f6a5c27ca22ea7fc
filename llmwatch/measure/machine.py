"""What a machine says of itself at one moment, in seconds, bytes, watts, joules and ratios.

Only numbers: who read them, and what they are called in a backend, is known elsewhere. None means
that it is not known; there is no zero for the unknown.
"""

from __future__ import annotations

from typing import NamedTuple


class Device(NamedTuple):
    """What a GPU, or a MIG part of one, always is."""

    id: str
    """Unique in the world: the UUID."""
    name: str
    """Its number on this machine, in words."""
    vendor: str
    model: str | None = None
    parent: str | None = None
    """Of a part: the `id` of the whole."""


class Gpu(NamedTuple):
    """One GPU at one moment. Ratios are 0 to 1; counters count from a moment of the driver's."""

    device: Device
    utilization: float | None = None
    encoder_utilization: float | None = None
    decoder_utilization: float | None = None
    memory_activity: float | None = None
    memory_used: int | None = None
    memory_limit: int | None = None
    pcie_received: int | None = None
    pcie_transmitted: int | None = None
    pcie_receiving: float | None = None
    """Bytes per second; this and the next only where there are no counters."""
    pcie_transmitting: float | None = None
    nvlink_received: int | None = None
    nvlink_transmitted: int | None = None
    energy: float | None = None
    power: float | None = None
    power_limit: float | None = None
    temperature: float | None = None
    memory_temperature: float | None = None
    temperature_slowdown: float | None = None
    temperature_shutdown: float | None = None
    temperature_max: float | None = None
    memory_temperature_max: float | None = None
    sm_clock: float | None = None
    memory_clock: float | None = None
    sm_clock_limit: float | None = None
    memory_clock_limit: float | None = None
    performance_state: int | None = None
    throttle_reasons: tuple[str, ...] | None = None
    corrected_errors: int | None = None
    uncorrected_errors: int | None = None
    pcie_replays: int | None = None
    fan_speed: float | None = None
    process_memory: int | None = None
    process_utilization: float | None = None
    own_share: float | None = None
    """This process's part of what the GPU computes for all; 1 where nobody else uses it."""

    @property
    def memory_utilization(self) -> float | None:
        """Share of the memory in use."""
        if self.memory_used is None or not self.memory_limit:
            return None
        return self.memory_used / self.memory_limit


class Allocator(NamedTuple):
    """What PyTorch's memory allocator has of one device for this process, in bytes."""

    device: str
    """As torch calls it: ``cuda:0``."""
    uuid: str | None = None
    """As torch tells it: without the ``GPU-`` of `Device.id`."""
    allocated: int | None = None
    """In tensors; the next: with what is kept to be used again."""
    reserved: int | None = None
    allocated_max: int | None = None
    """The most ever, or since the program reset torch's peaks."""
    reserved_max: int | None = None
    fragmentation: float | None = None
    """Share of what is reserved that lies free beside tensors, and can neither be given back nor
    joined to larger pieces."""
    ooms: int | None = None
    """Times that memory ran out; the next: that the cache was emptied to try again."""
    retries: int | None = None


class Process(NamedTuple):
    """This process at one moment. Counters count from its start."""

    cpu_user: float | None = None
    """Seconds of CPU in its own code; the next, in the kernel's for it."""
    cpu_system: float | None = None
    memory: int | None = None
    """Bytes of it that are in memory (RSS)."""
    memory_virtual: int | None = None
    threads: int | None = None
    file_descriptors: int | None = None
    switches_voluntary: int | None = None
    switches_involuntary: int | None = None


class Host(NamedTuple):
    """The machine, or what the system shows of it, at one moment."""

    cpus: int | None = None
    cpu_busy: float | None = None
    """Seconds, of all CPUs together, in which they did something; the next, in all."""
    cpu_total: float | None = None
    memory_used: int | None = None
    """Bytes that could not be had without swapping; the next, that could."""
    memory_available: int | None = None
    memory_limit: int | None = None
