"""Where a monitor's reference comes from: ``"first:2000"``, ``"file:…"``, ``"sliding:24h"``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from llmwatch.drift.reference import LEAST_WINDOWS
from llmwatch.errors import ConfigError

DEFAULT_SIZE = 2000
WINDOW = 500
"""Items judged together, where nothing else is said."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Origin(NamedTuple):
    """One way to come by a reference."""

    learn: int = 0
    """Embeddings to learn it from; 0: it is given."""
    file: Path | None = None
    every: float | None = None
    """Seconds after which it is learned anew from what came meanwhile; None: never."""


def parse(text: str, window: int) -> Origin:
    """Read a reference setting.

    Raises:
        ConfigError: If it has none of the forms, or is too small for the window.
    """
    kind, _, value = text.partition(":")
    if kind == "file" and value:
        return Origin(file=Path(value))
    if kind == "first" and re.fullmatch(r"\d{1,9}", value):
        if int(value) < LEAST_WINDOWS * window:
            raise ConfigError(
                f"reference={text!r} cannot be used with windows of {window}: give at least "
                f"'first:{LEAST_WINDOWS * window}', or a smaller window."
            )
        return Origin(learn=int(value))
    if kind == "sliding" and (found := re.fullmatch(r"0*([1-9]\d{0,8})([smhd])", value)):
        period = int(found[1]) * _SECONDS[found[2]]
        return Origin(learn=max(DEFAULT_SIZE, LEAST_WINDOWS * window), every=float(period))
    raise ConfigError(
        f"reference={text!r} cannot be used: give 'first:2000', 'file:reference.npz', "
        "'sliding:24h', or an array of embeddings."
    )
