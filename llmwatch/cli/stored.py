"""What commands that show the store have in common: where it is, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from llmwatch import config

if TYPE_CHECKING:
    from llmwatch.view.records import View

_Command = TypeVar("_Command", bound=Callable[..., Any])


def path(command: _Command) -> _Command:
    """Give *command* the option ``--path``."""
    return click.option(
        "--path",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder of the store. Default: LLMWATCH_STORE_PATH, else where programs write it.",
    )(command)


def where(given: Path | None) -> Path:
    """The folder of the store."""
    if given is not None:
        return given
    if (found := config.from_environment("store_path")) is not None:
        return Path(found[1]).expanduser()
    from llmwatch.export.local_store import default_directory

    return default_directory()


def opened(where: Path) -> View:
    """The view of it; a bar on stderr where its index has to be made first."""
    from llmwatch.view.store import open_view

    return open_view(where)
