"""A lock in which a driver is asked: by one thread at a time, and with no fork meanwhile.

A child that was forked during a query would inherit a lock of the driver's that nobody opens there.
"""

from __future__ import annotations

import os
from threading import RLock
from typing import Any
from weakref import WeakSet

FORK_WAIT = 1.0
"""Seconds that a fork waits for a query under way: a driver may hang."""

CLOSE_WAIT = 1.0
"""Seconds that the end of watching waits for one; then the library is left as it is."""


class Alone:
    """To be entered; also by the thread that is in it."""

    def __init__(self) -> None:
        self._lock, self._pid = RLock(), os.getpid()
        _all.add(self)

    @property
    def lock(self) -> Any:
        """This process's: the one that was inherited may be held in the parent."""
        if self._pid != os.getpid():
            self._lock, self._pid = RLock(), os.getpid()
        return self._lock

    def enter_within(self, seconds: float) -> bool:
        """Enter, unless another is in there for so long; True asks for an `__exit__`."""
        return bool(self.lock.acquire(timeout=seconds))

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


_all: WeakSet[Alone] = WeakSet()
_held: list[Any] = []


def _before_fork() -> None:
    locks = [alone.lock for alone in list(_all)]
    _held.extend(lock for lock in locks if lock.acquire(timeout=FORK_WAIT))


def _after_fork() -> None:
    while _held:
        _held.pop().release()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_held.clear
    )
