"""The monitors of this process, and who listens to them. Loads no numpy.

Here the floors meet: monitors know nothing of telemetry, and what reports them finds them here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from llmwatch.drift.detector import Change
    from llmwatch.drift.monitor import DriftMonitor
    from llmwatch.drift.status import KeyStatus

monitors: WeakSet[DriftMonitor] = WeakSet()
_lock = Lock()

listeners: list[Callable[[DriftMonitor, Change, KeyStatus], None]] = []
"""Called with every alarm that is raised or cleared, on the thread that noticed it."""

trace_of: list[Callable[[], int]] = []
"""The last one says the trace id of the caller, or 0: for exemplars."""


def add(monitor: DriftMonitor) -> None:
    """Make a monitor known, for as long as somebody else holds it."""
    with _lock:
        monitors.add(monitor)


def living() -> list[DriftMonitor]:
    """The monitors that there are."""
    with _lock:  # a set must not grow while it is read
        return list(monitors)


def _forked() -> None:
    global _lock
    _lock = Lock()
    for monitor in living():
        monitor.forked()


os.register_at_fork(after_in_child=_forked)
