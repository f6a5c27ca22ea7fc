"""``llmwatch ui``: the store on a local page."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from llmwatch._optional import require
from llmwatch.cli import stored

PORT = 4319
"""Next to those of OTLP."""


@click.command()
@stored.path
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="TCP port; 0 takes a free one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Name or address to serve on.")
@click.option("--remote", is_flag=True, help="Let other machines in: with --host, if meant.")
@click.option(
    "--listen",
    type=click.IntRange(0, 65_535),
    metavar="PORT",
    help="Take OTLP/HTTP on this port of 127.0.0.1 into the store; 4318 is where it is sent to.",
)
@click.option("--open", "opened", is_flag=True, help="Open the page in a browser.")
def ui(
    path: Path | None, port: int, host: str, remote: bool, listen: int | None, opened: bool
) -> None:
    """Show operations, requests, layers, machine and drift on a local page.

    Reads the local store, to which programs write that send nowhere else; while they run, what
    they do shows within seconds. Needs the extra 'ui', and no network.

    Whoever can connect can read: that is every user of this machine, and nobody else unless
    --host and --remote say so.
    """
    for package in ("starlette", "uvicorn"):
        require(package, extra="ui")
    from llmwatch.view.ui import serve

    where = stored.where(path)
    with ExitStack() as stack:
        taken = stack.enter_context(serve.bind(host, port, remote=remote))
        about = {"path": str(where)}
        if listen is not None:
            about["listen"] = stack.enter_context(listening(where, listen))
        view = stack.enter_context(stored.opened(where))
        url = serve.url_of(taken)
        click.echo(f"llmwatch shows {where} on {url} (Ctrl+C ends it)")
        if listen is not None:
            click.echo(f"and takes OTLP on {about['listen']}")
        if opened:
            webbrowser.open(url)
        serve.serve(view, taken, host=host, about=about)


@contextmanager
def listening(where: Path, port: int) -> Iterator[str]:
    """Take OTLP into the store; the URL to send to."""
    from llmwatch.view.receive import Receiver

    with Receiver(where, port) as receiver:
        yield f"http://{receiver.host}:{receiver.port}"
