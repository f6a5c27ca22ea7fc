"""What commands that show the store have in common: where it is, how far back, how it is opened."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from llmwatch import config

if TYPE_CHECKING:
    from llmwatch.view.store import StoreView

    Number = click.ParamType[float]
else:
    Number = click.ParamType  # older releases of click have no type there

_Command = TypeVar("_Command", bound=Callable[..., Any])

UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}

LONGEST = 1e9
"""Seconds from which on a time is as good as all."""


class Back(Number):
    """A time like ``15m``, in seconds; infinite for ``all``."""

    name = "time"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it."""
        if value == "all":
            return float("inf")
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]+)", value)
        if found is None or found[2] not in UNITS or float(found[1]) <= 0:
            self.fail(
                f"{value!r} is no time: give one like 90s, 15m, 2h or 7d, or all.", param, ctx
            )
        seconds = float(found[1]) * UNITS[found[2]]
        return seconds if seconds < LONGEST else float("inf")


def path(command: _Command) -> _Command:
    """Give *command* the option ``--path``."""
    return click.option(
        "--path",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder of the store. Default: LLMWATCH_STORE_PATH, else where programs write it.",
    )(command)


def listen(command: _Command) -> _Command:
    """Give *command* the option ``--listen``."""
    return click.option(
        "--listen",
        type=click.IntRange(0, 65_535),
        metavar="PORT",
        help="Take OTLP over HTTP from programs on 127.0.0.1:PORT into the store; 0: a free port.",
    )(command)


@contextmanager
def listening(where: Path, port: int | None) -> Iterator[int | None]:
    """Receive into the store meanwhile; the port, None where none was asked for.

    Raises:
        ConfigError: If the port cannot be listened on.
    """
    if port is None:
        yield None
        return
    from llmwatch.view.receive import Receiver

    with Receiver(where, port) as receiver:
        yield receiver.port


def where(given: Path | None) -> Path:
    """The folder of the store."""
    if given is not None:
        return given
    if (found := config.from_environment("store_path")) is not None:
        return Path(found[1]).expanduser()
    from llmwatch.export.local_store import default_directory

    return default_directory()


@contextmanager
def opened(where: Path) -> Iterator[StoreView]:
    """The view of it, closed at the end; a bar on stderr where its index has to be made first."""
    from llmwatch.view.store import open_view

    try:
        with _progress() as progress:
            view = open_view(where, progress)
    except OSError as error:
        raise click.ClickException(f"cannot read {error.filename}: {error.strerror}.") from error
    try:
        yield view
    finally:
        view.close()


@contextmanager
def _progress() -> Iterator[Callable[[int, int], object] | None]:
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label="Reading the store", file=sys.stderr) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield progress
