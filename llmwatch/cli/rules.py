"""``llmwatch rules``: write the rules for Prometheus with thresholds of one's own."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def rules() -> None:
    """Recording and alert rules for Prometheus, with runbooks."""


@rules.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--values",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Thresholds and windows, as TOML: those that shall differ from `llmwatch rules values`.",
)
@click.option("--force", is_flag=True, help="Write over runbooks and rules that others changed.")
def export(folder: Path, values: Path | None, force: bool) -> None:
    """Write rules and runbooks into FOLDER.

    Rules that this command wrote before are written anew. The exit code is 1, and nothing is
    written, where another file would be lost.
    """
    from llmwatch.rules.files import export as write

    for path in write(folder, values, force=force):
        click.echo(path)


@rules.command()
def values() -> None:
    """Print all thresholds and windows with their meanings: the file to begin with."""
    from llmwatch.rules.values import SHIPPED

    click.echo(SHIPPED.read_text(encoding="utf-8"), nl=False)
