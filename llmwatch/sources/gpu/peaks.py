"""The highest that polls saw between two collections, which see only their own moment."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import TypeVar

from llmwatch.measure.machine import Gpu

Number = TypeVar("Number", int, float)


class Peaks:
    """Of utilisation, memory and power; noted by the poller, taken by whoever collects."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._highest: dict[str, Gpu] = {}

    def note(self, gpus: Iterable[Gpu]) -> None:
        """This is what a poll saw."""
        with self._lock:
            for gpu in gpus:
                before = self._highest.get(gpu.device.id, Gpu(gpu.device))
                self._highest[gpu.device.id] = before._replace(
                    utilization=_higher(before.utilization, gpu.utilization),
                    memory_used=_higher(before.memory_used, gpu.memory_used),
                    power=_higher(before.power, gpu.power),
                )

    def take(self) -> list[Gpu]:
        """The highest of each device since this was last asked; none that no poll has seen."""
        with self._lock:
            highest, self._highest = self._highest, {}
        return list(highest.values())


def _higher(one: Number | None, other: Number | None) -> Number | None:
    return max((each for each in (one, other) if each is not None), default=None)
