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


def check(reference: str) -> None:
    """Say at once what is wrong with a reference, before there is anything to compare with it.

    Raises:
        ConfigError: If it has no known form, is too small, or is a file that cannot be used.
    """
    from llmwatch.drift import files
    from llmwatch.drift.origin import WINDOW, parse

    if (file := parse(reference, WINDOW).file) is not None:
        try:
            files.load(file)
        except OSError as error:
            raise ConfigError(f"reference={reference!r} cannot be used: {error}.") from None


class Opened(dict[Key, "DriftMonitor | None"]):
    """Monitors by what they watch; None where there can be none.

    Args:
        most: How many there may be.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._told = False

    def of(self, key: Key, name: str, model: str, reference: str) -> DriftMonitor | None:
        """The monitor of *key*, opened where there is none yet; says so in the log."""
        if key in self:
            return self[key]
        if len(self) >= self._most:
            if not self._told:
                self._told = True
                _log.warning(
                    "no drift monitor %r for model %r, nor for what comes later: there are %d",
                    *(name, model, self._most),
                )
            return None
        self[key] = self._open(name, model, reference)
        return self[key]

    def _open(self, name: str, model: str, reference: str) -> DriftMonitor | None:
        from llmwatch.drift.monitor import DriftMonitor
        from llmwatch.drift.origin import WINDOW, parse

        try:
            if (file := parse(reference, WINDOW).file) is not None:
                monitor = DriftMonitor.load(file, name, model=model)
            else:
                monitor = DriftMonitor(name, reference, model=model)
        except (ConfigError, OSError) as error:
            _log.warning("no drift monitor %r for model %r: %s", name, model, error)
            return None
        _log.info("drift monitor %r watches model %r", name, model)
        return monitor
