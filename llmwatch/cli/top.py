"""``llmwatch top``: the store in a terminal, live; or one look at it as plain text."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llmwatch._optional import require
from llmwatch.cli import stored

if TYPE_CHECKING:
    from llmwatch.view.top.frame import Look

PLAIN_WIDTH = 120
"""Columns where the output is no terminal and ``COLUMNS`` does not say."""


@click.command()
@stored.path
@click.option(
    "--since",
    type=stored.Back(),
    default="15m",
    show_default=True,
    metavar="TIME",
    help="How far back to look: 90s, 15m, 2h, 7d, all.",
)
@stored.listen
@click.option("--once", is_flag=True, help="Print one look as plain text, and end.")
def top(path: Path | None, since: float, listen: int | None, once: bool) -> None:
    """Watch operations, machine, layers and drift in the terminal.

    Reads the local store, to which programs write that send nowhere else; while they run, what
    they do shows within seconds. With --listen also what others send, in any language:
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:PORT. ? lists the keys. Needs the extra 'top'.

    With --once, or where the output is no terminal, one look is printed as plain text.
    """
    require("textual", extra="top")
    from llmwatch.view.top.frame import Look

    where = stored.where(path)
    at = Look(back=None if since == float("inf") else since)
    if once or not sys.stdout.isatty():
        if listen is not None:
            raise click.UsageError("--listen needs a terminal, and cannot go with --once.")
        print_once(where, at)
    else:
        with stored.listening(where, listen) as port:
            run(where, at, port)


def run(where: Path, at: Look, port: int | None) -> None:
    """Fill the terminal until the user leaves."""
    from llmwatch.view.store import open_view
    from llmwatch.view.top.app import Top

    app = Top(lambda progress: open_view(where, progress), where=where, at=at, port=port)
    app.run()
    sys.exit(app.return_code)


def print_once(where: Path, at: Look) -> None:
    """Print one look."""
    from llmwatch.view.top import once
    from llmwatch.view.top.frame import look

    with stored.opened(where) as view:
        frame = look(view, at)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without our signs shows "?"
    click.echo(once.text(frame, shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns, where))
