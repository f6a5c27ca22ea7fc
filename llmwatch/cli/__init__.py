"""The command ``llmwatch``. Importing this package loads nothing: click comes with an extra."""

from __future__ import annotations

import sys

from llmwatch._optional import require
from llmwatch.errors import MissingExtraError


def main() -> None:
    """What the command runs; exits with 1 where the extra ``cli`` is not installed."""
    try:
        require("click", extra="cli")
    except MissingExtraError as error:
        sys.exit(str(error))
    from llmwatch.cli.commands import cli

    cli(prog_name="llmwatch")
