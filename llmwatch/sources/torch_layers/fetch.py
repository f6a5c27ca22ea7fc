"""Bring numbers from a device to the host without waiting for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

import torch
from torch import Tensor

MOST_WAITING = 64
"""Numbers that wait for a device; then the oldest are given up."""

T = TypeVar("T")


class Fetch:
    """A copy of a tensor that is on its way to the host.

    Args:
        tensor: On any device. Of one on the CPU no copy is made.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.Event | None = None
        if tensor.device.type == "cpu":
            self.host = tensor
            return
        self.host = _beside(tensor)
        self.host.copy_(tensor, non_blocking=True)
        self._event = torch.Event(tensor.device)
        self._event.record()

    @property
    def ready(self) -> bool:
        """Whether it has come. Asks, and never waits."""
        return self._event is None or bool(self._event.query())

    def wait(self) -> Tensor:
        """Wait until it has come."""
        if self._event is not None:
            self._event.synchronize()
        return self.host


def _beside(tensor: Tensor) -> Tensor:
    """Memory of the host that a device can write to by itself, where there is such."""
    try:
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    except RuntimeError:
        return torch.empty(tensor.shape, dtype=tensor.dtype)


class Queue(Generic[T]):
    """Numbers on their way, taken up in the order in which they were sent.

    Args:
        take: Given what was sent along with the numbers, and the numbers.
    """

    def __init__(self, take: Callable[[T, Tensor], None]) -> None:
        self._take = take
        self._waiting: deque[tuple[T, Fetch]] = deque(maxlen=MOST_WAITING)
        self._turn = Lock()

    def put(self, what: T, tensor: Tensor) -> None:
        """Send *tensor* on its way, and take up what has come. Never waits."""
        self._waiting.append((what, Fetch(tensor)))
        if self._turn.acquire(blocking=False):
            try:
                while self._waiting and self._waiting[0][1].ready:
                    what, fetch = self._waiting.popleft()
                    self._take(what, fetch.host)
            finally:
                self._turn.release()

    def wait(self) -> None:
        """Take up everything. Waits for the device: never on the thread of a request."""
        with self._turn:
            while self._waiting:
                what, fetch = self._waiting.popleft()
                self._take(what, fetch.wait())
