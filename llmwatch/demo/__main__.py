"""The demo: a language model answers in this process, real OpenAI clients talk to a local server.

No key, no network: ``python -m llmwatch.demo``. What is shown is read back from the files that
llmwatch wrote, in ``LLMWATCH_STORE_PATH`` or a new temporary directory.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import llmwatch
from llmwatch._optional import require

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 100
"""Columns where the output is no terminal and ``COLUMNS`` does not say."""


def main() -> int:
    """Play all parts, and say after each what was seen; 1 where the extra is missing."""
    try:
        for package in ("rich", "openai"):
            require(package, extra="demo")
    except llmwatch.MissingExtraError as error:
        print(error, file=sys.stderr)
        return 1
    from llmwatch.demo import parts
    from llmwatch.demo.show import Show

    where = Path(os.environ.get("LLMWATCH_STORE_PATH") or tempfile.mkdtemp(prefix="llmwatch-demo-"))
    _forget_settings()
    with Show(_console(), where) as show:
        show.print(
            f"[bold]llmwatch {llmwatch.__version__}[/] watches; what it says is read back from its "
            "local store."
        )
        for part in parts.PARTS:
            part(show)
    parts.ending(show)
    return 0


def _console() -> Console:
    from rich.console import Console

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without our signs shows "?"
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=PIPED_WIDTH if piped else None, highlight=False)


def _forget_settings() -> None:
    """Take no settings from the environment: they may send what we want to read elsewhere."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "LLMWATCH_")):
            del os.environ[name]


if __name__ == "__main__":
    sys.exit(main())
