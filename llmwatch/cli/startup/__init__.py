"""The folder that ``llmwatch run`` puts before ``PYTHONPATH``, for the sake of its `sitecustomize`.

Python imports the first module of that name at the start of every process.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import llmwatch
from llmwatch._guard import Guard

_log = logging.getLogger("llmwatch")
_START = Guard("cli.start")
FOLDER = str(Path(__file__).parent)


def first_on(path: str) -> str:
    """*path*, a value of ``PYTHONPATH``, with the folder at its head."""
    others = [each for each in path.split(os.pathsep) if each != FOLDER] if path else []
    return os.pathsep.join([FOLDER, *others])


def start() -> None:
    """`llmwatch.instrument`, as the environment says; what goes wrong is one line in the log."""
    with _START:
        try:
            llmwatch.instrument()
        except llmwatch.LlmwatchError as error:
            _log.error("llmwatch is off: %s", error)
