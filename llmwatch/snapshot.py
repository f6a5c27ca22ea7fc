"""What this process runs on, at one moment, for people and programs that ask now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from llmwatch.errors import MissingExtraError
from llmwatch.measure.machine import Allocator, Gpu, Host, Process


class Resources(NamedTuple):
    """GPUs, process and host at one moment; ``print`` shows a few of their numbers."""

    gpus: tuple[Gpu, ...] = ()
    """Those that this process may use; none where there is none."""
    process: Process | None = None
    """None without psutil; `host` too."""
    host: Host | None = None
    allocators: tuple[Allocator, ...] = ()
    """PyTorch's, of the devices that it can use; none where it has used none."""

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def resources() -> Resources:
    """Read everything once, whether or not anything is instrumented.

    What is not there (no GPU, no psutil, a reading that the driver does not give) is left out or
    None; see `Gpu`, `Process`, `Host` and `Allocator` for the fields and their units.

    Cost: some milliseconds, most of them to open the driver's library; 40 ms a GPU more where its
    PCIe traffic can only be sampled.
    """
    from llmwatch.sources.gpu.allocator import read_allocators

    process, host = _machine()
    return Resources(_gpus(), process, host, tuple(read_allocators()))


def _gpus() -> tuple[Gpu, ...]:
    from llmwatch.sources.gpu.every import Every
    from llmwatch.sources.gpu.probe import NoGpuError

    probe = Every()
    try:
        return tuple(probe.read())
    except NoGpuError:
        return ()
    finally:
        probe.close()


def _machine() -> tuple[Process | None, Host | None]:
    from llmwatch.sources.process.reading import read_host, read_process

    try:
        return read_process(), read_host()
    except MissingExtraError:
        return None, None


# --- for people --------------------------------------------------------------------------------


def _lines(resources: Resources) -> Iterator[str]:
    for gpu in resources.gpus:
        yield _line(
            gpu.device.name,
            gpu.device.model,
            _show(gpu.utilization, "{:.0%} busy"),
            _of(_gibi(gpu.memory_used), _gibi(gpu.memory_limit), "GiB"),
            _of(gpu.power, gpu.power_limit, "W"),
            _show(gpu.temperature, "{:.0f} °C"),
            _show(_gibi(gpu.process_memory), "{:.1f} GiB ours"),
        )
    for each in resources.allocators:
        yield _line(
            each.device,
            _of(_gibi(each.allocated), _gibi(each.reserved), "GiB reserved in tensors"),
            _show(_gibi(each.allocated_max), "{:.1f} GiB at most"),
            _show(each.fragmentation, "{:.0%} in fragments"),
            _show(each.ooms or None, "out of memory: {}"),
        )
    if (process := resources.process) is not None:
        cpu = [each for each in (process.cpu_user, process.cpu_system) if each is not None]
        yield _line(
            "process",
            _show(sum(cpu) if cpu else None, "{:.1f} s CPU"),
            _show(None if process.memory is None else process.memory / 1024**2, "{:.0f} MiB"),
            _show(process.threads, "{} threads"),
            _show(process.file_descriptors, "{} files"),
        )
    if (host := resources.host) is not None:
        memory = _of(_gibi(host.memory_used), _gibi(host.memory_limit), "GiB")
        yield _line("host", _show(host.cpus, "{} CPUs"), memory)


def _line(name: str, *parts: str | None) -> str:
    return f"{name + ':':9}" + ", ".join(part for part in parts if part)


def _show(value: float | None, form: str) -> str | None:
    return None if value is None else form.format(value)


def _of(value: float | None, limit: float | None, unit: str) -> str | None:
    if value is None:
        return None
    most = "" if limit is None else f" of {limit:.1f}"
    return f"{value:.1f}{most} {unit}"


def _gibi(value: float | None) -> float | None:
    return None if value is None else value / 1024**3
