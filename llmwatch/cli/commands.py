"""The commands by name. Each lives in a module of its own, which is loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from llmwatch._version import __version__
from llmwatch.errors import LlmwatchError

COMMANDS = {
    "dashboards": (
        "llmwatch.cli.dashboards:dashboards",
        "Write dashboards for Grafana, and rules.",
    ),
    "demo": ("llmwatch.cli.demo:demo", "Watch real clients talk to a local server, offline."),
    "doctor": (
        "llmwatch.cli.doctor:doctor",
        "Check what is installed, and that telemetry arrives.",
    ),
    "drift": ("llmwatch.drift.__main__:cli", "Compare embeddings with a reference."),
    "report": ("llmwatch.cli.report:report", "Write what was recorded to one HTML file."),
    "rules": ("llmwatch.cli.rules:rules", "Write rules for Prometheus, with runbooks."),
    "run": ("llmwatch.cli.run:run", "Run a program and watch it, without a change of its code."),
    "store": ("llmwatch.cli.store:store", "Tell where the local store is, and what is in it."),
    "top": ("llmwatch.cli.top:top", "Watch operations live, in the terminal."),
    "ui": ("llmwatch.cli.ui:ui", "Show what was recorded on a local page."),
}
"""Where each command is, and its line in the help."""


class Lazy(click.Group):
    """A group whose commands are imported one by one: ``run`` must not load numpy."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, loaded or not."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in sorted(COMMANDS.items())])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names of commands without loading them: an extra may be missing."""
        named = [
            CompletionItem(name, help=line)
            for name, (_, line) in sorted(COMMANDS.items())
            if name.startswith(incomplete)
        ]
        return named + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run; what llmwatch raises on purpose is a message, not a traceback."""
        try:
            return super().invoke(ctx)
        except LlmwatchError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """See what happens inside programs that call or run language models.

    Each command explains itself: llmwatch COMMAND --help.
    """
