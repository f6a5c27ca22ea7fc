"""``llmwatch run``: start a program in which `instrument` was called before its first line.

The program takes the place of this process, so that its exit code, signals, arguments and streams
are its own. A folder with a ``sitecustomize`` goes before ``PYTHONPATH``: every Python that starts
from here, workers and sub-processes included, runs it first (see `llmwatch.cli.startup`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from llmwatch.cli import options, startup

_PYTHON = {".py", ".pyw", ".pyc", ".pyz"}


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    options_metavar="[OPTIONS]",
)
@options.settings
@click.argument(
    "program",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="FILE.py | -m MODULE | COMMAND [ARGS]...",
    shell_complete=lambda ctx, parameter, begun: [CompletionItem(begun, type="file")],
)
def run(program: tuple[str, ...], **given: Any) -> None:
    """Run a program and watch it, without a change of its code.

    \b
      llmwatch run app.py --port 8000
      llmwatch run --console -m package.module
      llmwatch run --backend datadog gunicorn -w 2 app:app

    Options of llmwatch go before the program; what comes after it is the program's own. Every
    Python process that it starts is watched too. Keys are read from the environment only.

    The program's exit code is this command's. It is 2, and nothing is run, where an option cannot
    be used; 127 where the program is not found, 126 where it cannot be run.
    """  # noqa: D301 - click's mark for text that is not to be wrapped
    if not program:
        raise click.UsageError("give a file, -m MODULE or a command to run.")
    command = _command(program)
    options.put(options.given(given))
    os.environ["PYTHONPATH"] = startup.first_on(os.environ.get("PYTHONPATH", ""))
    _become(command)


def _command(program: tuple[str, ...]) -> list[str]:
    first = program[0]
    if first in ("-m", "-c"):
        if len(program) == 1:
            raise click.UsageError(f"give what is to be run after {first}.")
        return [sys.executable, *program]
    if first.startswith("-"):
        raise click.UsageError(f"llmwatch run has no option {first!r}; see llmwatch run --help.")
    if Path(first).suffix in _PYTHON or (Path(first) / "__main__.py").is_file():
        return [sys.executable, *program]
    if (found := shutil.which(first)) is not None:
        return [found, *program[1:]]
    if Path(first).is_file():
        return [sys.executable, *program]
    click.echo(f"llmwatch run: {first!r} is neither a file nor a command on the path.", err=True)
    sys.exit(127)


def _become(command: list[str]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "nt":  # where exec starts another process, and ends this one at once
        sys.exit(subprocess.call(command))  # noqa: S603 - the user's own command
    try:
        os.execv(command[0], command)  # noqa: S606 - the user's own command
    except OSError as error:  # a script without a first line that says what runs it
        click.echo(f"llmwatch run: {command[0]} cannot be run: {error.strerror}.", err=True)
        sys.exit(126)
