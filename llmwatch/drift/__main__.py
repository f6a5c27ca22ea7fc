"""``python -m llmwatch.drift``: the commands on files, as ``llmwatch drift``."""

from __future__ import annotations

import sys

from llmwatch._optional import require
from llmwatch.errors import MissingExtraError

try:
    require("click", extra="cli")
except MissingExtraError as error:
    sys.exit(str(error))

from llmwatch.drift.commands import cli

__all__ = ["cli"]

if __name__ == "__main__":
    cli(prog_name="python -m llmwatch.drift")
