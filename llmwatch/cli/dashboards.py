"""``llmwatch dashboards``: the dashboards for Grafana, and with them the rules for Prometheus."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import click

SHIPPED = files("llmwatch") / "dashboards"


@click.group()
def dashboards() -> None:
    """Dashboards for Grafana, on metrics that Prometheus has."""


@dashboards.command("list")
def show() -> None:
    """Say which dashboards there are, and what each is about."""
    for name, text in sorted(_texts(".json").items()):
        dashboard = json.loads(text)
        click.echo(f"{name}\n    {dashboard['title']}\n    {dashboard['description']}")


@dashboards.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Write over files that are not as they are shipped.")
def export(folder: Path, force: bool) -> None:
    """Write dashboards, rules for Prometheus and runbooks into FOLDER.

    Import each *.json in Grafana, or provision the folder. The *.rules.yml are for Prometheus; for
    rules with thresholds of your own, use "llmwatch rules export".

    The exit code is 1, and nothing is written, where a file would be lost.
    """
    texts = _texts(".json", ".rules.yml", "runbooks.md")
    lost = [name for name, text in texts.items() if _differs(folder / name, text)]
    if lost and not force:
        again = " Rules from values of your own: write them anew with llmwatch rules export."
        raise click.ClickException(
            f"{', '.join(lost)} in {folder} would be lost: they are not as they are shipped. "
            "Name another folder, or give --force."
            + again
            * any(name.endswith(".rules.yml") for name in lost)
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
            click.echo(folder / name)
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be written: {error}") from error


def _texts(*endings: str) -> dict[str, str]:
    """The files that are shipped, by name."""
    found = sorted(SHIPPED.iterdir(), key=lambda file: file.name)
    return {
        file.name: file.read_text(encoding="utf-8") for file in found if file.name.endswith(endings)
    }


def _differs(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") != text
    except FileNotFoundError:
        return False
    except (OSError, UnicodeDecodeError):
        return True
