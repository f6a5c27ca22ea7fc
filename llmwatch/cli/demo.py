"""``llmwatch demo``: what ``python -m llmwatch.demo`` does."""

from __future__ import annotations

import sys

import click


@click.command()
def demo() -> None:
    """Watch real clients talk to a local server, offline.

    Needs the extra 'demo', no key and no network.
    """
    from llmwatch.demo.__main__ import main

    sys.exit(main())
