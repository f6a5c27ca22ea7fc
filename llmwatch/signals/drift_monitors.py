"""Drift monitors that are opened as watched calls need them, a bounded number of them."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import TYPE_CHECKING, TypeVar

from llmwatch.errors import ConfigError

if TYPE_CHECKING:
    from llmwatch.drift.monitor import DriftMonitor

_log = logging.getLogger("llmwatch")
Key = TypeVar("Key", bound=Hashable)


class Opened(dict[Key, "DriftMonitor | None"]):
    """Monitors by what they watch; None where there can be none.

    Args:
        most: How many there may be.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def of(self, key: Key, name: str, model: str, reference: str) -> DriftMonitor | None:
        """The monitor of *key*, opened where there is none yet; says so in the log."""
        if key not in self:
            self[key] = self._open(name, model, reference)
        return self[key]

    def _open(self, name: str, model: str, reference: str) -> DriftMonitor | None:
        from llmwatch.drift.monitor import DriftMonitor

        if len(self) >= self._most:
            _log.warning("no drift monitor %r for model %r: there are %d", name, model, self._most)
            return None
        try:
            monitor = DriftMonitor(name, reference, model=model)
        except (ConfigError, OSError) as error:
            _log.warning("no drift monitor %r for model %r: %s", name, model, error)
            return None
        _log.info("drift monitor %r watches model %r", name, model)
        return monitor
