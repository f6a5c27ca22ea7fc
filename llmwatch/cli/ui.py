"""``llmwatch ui``: the store on a local page."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from llmwatch._optional import require
from llmwatch.cli import stored

PORT = 4319
"""Next to those of OTLP."""


@click.command()
@stored.path
@click.option("--port", default=PORT, show_default=True, help="TCP port; 0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Name or address to serve on.")
@click.option("--remote", is_flag=True, help="Let other machines in: with --host, if meant.")
@click.option("--open", "opened", is_flag=True, help="Open the page in a browser.")
def ui(path: Path | None, port: int, host: str, remote: bool, opened: bool) -> None:
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
    with serve.bind(host, port, remote=remote) as taken, stored.opened(where) as view:
        url = serve.url_of(taken)
        click.echo(f"llmwatch shows {where} on {url} (Ctrl+C ends it)")
        if opened:
            webbrowser.open(url)
        serve.serve(view, taken, host=host, about={"path": str(where)})
