"""``llmwatch store``: where the store is, and what is in it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from llmwatch.cli import stored


@click.command()
@stored.path
@click.option("--reindex", is_flag=True, help="Make its index again from its files, first.")
def store(path: Path | None, reindex: bool) -> None:
    """Tell where the store is, how large, how old, and what is in it.

    The store is a folder of files of OTLP/JSON; index.db in it can always be made again. To begin
    anew, remove the folder: programs that run make it again.
    """
    where = stored.where(path)
    if reindex:
        from llmwatch.export.index.files import remove_index

        try:
            remove_index(where)
        except OSError as error:
            raise click.ClickException(
                f"cannot remove {error.filename}: {error.strerror}."
            ) from error
    with stored.opened(where) as view:
        found = view.about()
    click.echo(f"folder      {where}")
    click.echo(f"size        {_size(found.size)} in {found.files} files")
    click.echo(f"index       {_size(found.index_size)}")
    if found.first is not None and found.last is not None:
        click.echo(f"time        {_time(found.first)} to {_time(found.last)}")
    for name in ("spans", "operations", "points", "logs"):
        click.echo(f"{name:<10}  {getattr(found, name)}")
    click.echo(f"services    {', '.join(found.services) or 'none yet'}")


def _size(size: int) -> str:
    return f"{size / 1024**2:.1f} MiB"


def _time(nanoseconds: int) -> str:
    """In the zone of whoever reads it."""
    return datetime.fromtimestamp(nanoseconds / 1e9).astimezone().strftime("%Y-%m-%d %H:%M:%S%z")
