"""``python -m llmwatch.drift``: fit a reference on a file of embeddings, test others against it.

``test`` exits with 1 where any window differs, so that a pipeline can stop.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llmwatch.drift import files
from llmwatch.drift.intake import BLOCK
from llmwatch.drift.reference import Reference, as_rows, fit_reference, usable
from llmwatch.drift.state import State, measure
from llmwatch.drift.subspace import Floats
from llmwatch.drift.verdict import Verdict, judge
from llmwatch.errors import ConfigError


def read(path: Path) -> Floats:
    """The embeddings in a ``.npy`` file, or in the only array of two axes of an ``.npz`` file.

    Raises:
        ConfigError: If there is no such array.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if isinstance(found, np.ndarray):
        return as_rows(found)
    with found:
        arrays = [found[name] for name in found.files if found[name].ndim == 2]
    if len(arrays) != 1:
        raise ConfigError(f"{path} holds {len(arrays)} arrays of two axes: give a file with one.")
    return as_rows(arrays[0])


def verdicts(reference: Reference, rows: Floats) -> list[Verdict]:
    """The verdict on each whole window of *rows*, in their order."""
    rows = rows[usable(rows)]
    found = []
    for start in range(0, len(rows) - reference.window + 1, reference.window):
        state = State.empty(reference)
        for at in range(start, start + reference.window, BLOCK):
            block = rows[at : min(at + BLOCK, start + reference.window)]
            state.add(measure(reference, block)[0])
        found.append(judge(reference, state))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m llmwatch.drift", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fit = commands.add_parser("fit", help="make a reference of embeddings")
    fit.add_argument("embeddings", type=Path, help="a .npy or .npz file")
    fit.add_argument("reference", type=Path, help="the file to write")
    fit.add_argument("--window", type=int, default=500)
    fit.add_argument("--model", default="", help="what made the embeddings")
    test = commands.add_parser("test", help="compare embeddings with a reference")
    test.add_argument("reference", type=Path)
    test.add_argument("embeddings", type=Path)
    test.add_argument("--false-alarm", type=float, default=1e-3)
    chosen = parser.parse_args(arguments)
    try:
        return _fit(chosen) if chosen.command == "fit" else _test(chosen)
    except (ConfigError, ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _fit(chosen: argparse.Namespace) -> int:
    rows = read(chosen.embeddings)
    reference = fit_reference(rows, window=chosen.window, model=chosen.model)
    files.save(reference, chosen.reference)
    what = f"reference {reference.hash} of {reference.size} embeddings"
    sys.stdout.write(f"{what}: {chosen.reference}\n")
    return 0


def _test(chosen: argparse.Namespace) -> int:
    reference, rows = files.load(chosen.reference), read(chosen.embeddings)
    if rows.shape[1] != reference.dimension:
        raise ConfigError(
            f"embeddings of {rows.shape[1]} dimensions cannot be compared with a reference of "
            f"{reference.dimension}."
        )
    found = verdicts(reference, rows)
    if not found:
        raise ConfigError(f"{len(rows)} embeddings are less than one window: {reference.window}.")
    differ = [each for each in found if each.p_value <= chosen.false_alarm]
    for number, each in enumerate(found, 1):
        word = "DRIFT" if each in differ else "ok"
        sys.stdout.write(
            f"window {number}: {word}, p = {each.p_value:.2g}, effect {each.effect:.1%}\n"
        )
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
