"""``llmwatch report``: what was recorded, as one HTML file."""

from __future__ import annotations

import os
from pathlib import Path
from time import time_ns

import click

from llmwatch.cli import stored
from llmwatch.view.records import Filter


@click.command()
@stored.path
@click.option(
    "--since",
    type=stored.Back(),
    default="all",
    show_default=True,
    metavar="TIME",
    help="How far back to look: 90s, 15m, 2h, 7d, all.",
)
@click.option("--service", help="Only of the service of this name.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="llmwatch-report.html",
    show_default=True,
    help="The file to write; - is the standard output.",
)
@click.option("--content", is_flag=True, help="Leave prompts, answers, logs in, where recorded.")
def report(
    path: Path | None, since: float, service: str | None, output: Path, content: bool
) -> None:
    """Write what was recorded to one HTML file, to attach to a ticket.

    It is the page of `llmwatch ui` with its data in it, and asks the network for nothing. It has
    tables and charts of everything, and the latest, slowest and failed requests one by one: 10 MB
    at most.

    What was said to models and by them, log messages and attributes of your own are left out
    without --content.
    """
    from llmwatch.view.ui.report import report as written

    where = stored.where(path)
    begin = None if since == float("inf") else time_ns() - round(since * 1e9)
    with stored.opened(where) as view:
        if not view.requests(Filter(), limit=1):
            raise click.ClickException(f"there is no request in {where}.")
        text = written(view, Filter(since=begin, service=service), content=content)
    if str(output) == "-":
        click.echo(text)
        return
    _write(output, text)
    click.echo(f"{output} ({len(text.encode()) / 1e6:.1f} MB)")


def _write(output: Path, text: str) -> None:
    """For its owner alone, as the store is; into a device or a pipe as it is."""
    try:
        if output.exists() and not output.is_file():
            output.write_text(text, encoding="utf-8")
            return
        output.unlink(missing_ok=True)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise click.ClickException(f"cannot write {output}: {error.strerror}.") from error
