"""``llmwatch top``: the store in a terminal, live; or one look at it as plain text."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llmwatch import config
from llmwatch._optional import require

if TYPE_CHECKING:
    from llmwatch.view.top.frame import Look

UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
PLAIN_WIDTH = 120
"""Columns where the output is no terminal and ``COLUMNS`` does not say."""


class Back(click.ParamType[float]):
    """A time like ``15m``, in seconds; None for ``all``."""

    name = "time"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it; all time is infinite."""
        if value == "all":
            return float("inf")
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]+)", value)
        if found is None or found[2] not in UNITS or float(found[1]) <= 0:
            self.fail(
                f"{value!r} is no time: give one like 90s, 15m, 2h or 7d, or all.", param, ctx
            )
        return float(found[1]) * UNITS[found[2]]


@click.command()
@click.option(
    "--path",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the store. Default: LLMWATCH_STORE_PATH, else where programs write it.",
)
@click.option(
    "--since",
    type=Back(),
    default="15m",
    show_default=True,
    metavar="TIME",
    help="How far back to look: 90s, 15m, 2h, 7d, all.",
)
@click.option("--once", is_flag=True, help="Print one look as plain text, and end.")
def top(path: Path | None, since: float, once: bool) -> None:
    """Watch operations, machine, layers and drift in the terminal.

    Reads the local store, to which programs write that send nowhere else; while they run, what
    they do shows within seconds. ? lists the keys. Needs the extra 'top'.

    With --once, or where the output is no terminal, one look is printed as plain text.
    """
    require("textual", extra="top")
    from llmwatch.export.local_store import default_directory
    from llmwatch.view.top.frame import Look

    found = config.from_environment("store_path")
    where = path or (Path(found[1]).expanduser() if found else default_directory())
    at = Look(back=None if since == float("inf") else since)
    if once or not sys.stdout.isatty():
        print_once(where, at)
    else:
        run(where, at)


def run(where: Path, at: Look) -> None:
    """Fill the terminal until the user leaves."""
    from llmwatch.view.store import open_view
    from llmwatch.view.top.app import Top

    Top(lambda progress: open_view(where, progress), where=where, at=at).run()


def print_once(where: Path, at: Look) -> None:
    """Print one look."""
    from llmwatch.view.store import open_view
    from llmwatch.view.top import once
    from llmwatch.view.top.frame import look

    view = open_view(where)
    try:
        frame = look(view, at)
    finally:
        view.close()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without our signs shows "?"
    click.echo(once.text(frame, shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns, where))
