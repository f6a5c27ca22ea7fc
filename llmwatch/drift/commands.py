"""Commands: fit a reference on a file of embeddings, test others against it, merge replicas.

``test`` and ``merge`` exit with 1 where there is a difference, so that a pipeline can stop, and
with 2 where the question cannot be answered.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce, wraps
from pathlib import Path
from typing import ParamSpec

import click

from llmwatch.drift import files, tables
from llmwatch.drift.reference import Reference, fit_reference, usable
from llmwatch.drift.state import State, measure
from llmwatch.drift.subspace import BLOCK, Floats
from llmwatch.drift.verdict import Verdict, judge
from llmwatch.errors import ConfigError, LlmwatchError

P = ParamSpec("P")

FILE = click.Path(path_type=Path, dir_okay=False)
FALSE_ALARM = click.option(
    "--false-alarm",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=1e-3,
    show_default=True,
    help="How often the answer may be wrong while nothing has changed.",
)
NAME = click.option("--name", help="The array of the npz file, or the column of the parquet file.")


class _Failure(click.ClickException):
    exit_code = 2


def _explained(command: Callable[P, None]) -> Callable[P, None]:
    """Say what is wrong with a file or a setting, without a traceback."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (LlmwatchError, ValueError, OSError) as error:
            raise _Failure(str(error)) from None

    return run


@click.group(name="drift")
def cli() -> None:
    """Compare embeddings with a reference."""


@cli.command()
@click.argument("embeddings", type=FILE)
@click.argument("reference", type=FILE)
@click.option("--window", type=int, default=500, show_default=True, help="Items judged together.")
@click.option("--model", default="", help="What made the embeddings.")
@click.option("--seed", type=int, default=0, show_default=True)
@NAME
@_explained
def fit(
    embeddings: Path, reference: Path, window: int, model: str, seed: int, name: str | None
) -> None:
    """Make a REFERENCE of EMBEDDINGS (npy, npz or parquet)."""
    rows = tables.read(embeddings, name)
    found = fit_reference(rows, window=window, model=model, seed=seed)
    files.save(found, reference)
    click.echo(f"reference {found.hash} of {found.size} embeddings: {reference}")


@cli.command()
@click.argument("reference", type=FILE)
@click.argument("embeddings", type=FILE)
@FALSE_ALARM
@NAME
@_explained
def test(reference: Path, embeddings: Path, false_alarm: float, name: str | None) -> None:
    """Compare EMBEDDINGS with a REFERENCE, window by window.

    The rate of false alarms is that of the whole file: each of n windows has an n-th of it.
    """
    fitted, rows = files.load(reference), tables.read(embeddings, name)
    if rows.shape[1] != fitted.dimension:
        raise ConfigError(
            f"embeddings of {rows.shape[1]} dimensions cannot be compared with a reference of "
            f"{fitted.dimension}."
        )
    rows = rows[usable(rows)]
    found = verdicts(fitted, rows)
    if not found:
        raise ConfigError(f"{len(rows)} embeddings are less than one window: {fitted.window}.")
    each = false_alarm / len(found)
    for number, verdict in enumerate(found, 1):
        _tell(f"window {number}", verdict, each)
    if left := len(rows) - len(found) * fitted.window:
        click.echo(f"{left} embeddings at the end were not looked at: less than one window")
    _exit(any(verdict.p_value <= each for verdict in found))


@cli.command()
@click.argument("reference", type=FILE)
@click.argument("states", type=FILE, nargs=-1, required=True)
@FALSE_ALARM
@click.option("--output", type=FILE, help="Write the merged state there, too.")
@_explained
def merge(
    reference: Path, states: tuple[Path, ...], false_alarm: float, output: Path | None
) -> None:
    """Judge the STATES that several replicas saved as if one had seen everything."""
    fitted = files.load(reference)
    merged = reduce(State.merge, map(files.load_state, states), State.empty(fitted))
    verdict = judge(fitted, merged)
    if output is not None:
        files.save_state(merged, output)
    _tell(f"{merged.count} embeddings of {len(states)} replicas", verdict, false_alarm)
    _exit(verdict.p_value <= false_alarm)


def verdicts(reference: Reference, rows: Floats) -> list[Verdict]:
    """The verdict on each whole window of usable *rows*, in their order."""
    found = []
    for start in range(0, len(rows) - reference.window + 1, reference.window):
        state = State.empty(reference)
        for at in range(start, start + reference.window, BLOCK):
            block = rows[at : min(at + BLOCK, start + reference.window)]
            state.add(measure(reference, block)[0])
        found.append(judge(reference, state))
    return found


def _tell(what: str, verdict: Verdict, false_alarm: float) -> None:
    word = "DRIFT" if verdict.p_value <= false_alarm else "ok"
    click.echo(f"{what}: {word}, p = {verdict.p_value:.2g}, effect {verdict.effect:.1%}")


def _exit(differs: bool) -> None:
    if differs:
        click.get_current_context().exit(1)
