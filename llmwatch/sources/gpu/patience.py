"""Reads the GPUs for somebody who must not be held up: a driver that hangs never answers.

A flush, and the end of watching, collect on the caller's thread; so each reading has a thread of
its own, which is left to itself if it takes too long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Thread

from llmwatch._guard import Guard
from llmwatch.measure.machine import Gpu
from llmwatch.sources.gpu.probe import NoGpuError

_READ = Guard("gpu.read")

PATIENCE = 5.0
"""Seconds that a reading may take; eight GPUs take some milliseconds, 0.4 s at the most."""


class Patience:
    """One reading at a time, waited for no longer than `PATIENCE`.

    Args:
        read: What reads; see `probe.Probe.read`.
    """

    def __init__(self, read: Callable[[], Sequence[Gpu]]) -> None:
        self._read = read
        self._thread: Thread | None = None

    def __call__(self) -> Sequence[Gpu]:
        """What *read* gives.

        Raises:
            NoGpuError: As *read* does, and if it does not answer, at once if it did not before.

        Cost: 0.1 ms more than *read*.
        """
        if self._thread is not None and self._thread.is_alive():
            raise NoGpuError("the driver does not answer")
        answer: list[Sequence[Gpu] | NoGpuError] = []
        self._thread = Thread(
            target=self._run, args=(answer,), name="llmwatch-gpu-read", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:  # no more threads, or the interpreter ends
            self._thread = None
            return self._read()
        self._thread.join(PATIENCE)
        if not answer:
            raise NoGpuError("the driver does not answer")
        if isinstance(answer[0], NoGpuError):
            raise answer[0]
        return answer[0]

    def _run(self, answer: list[Sequence[Gpu] | NoGpuError]) -> None:
        with _READ:
            try:
                answer.append(self._read())
            except NoGpuError as missing:
                answer.append(missing)
