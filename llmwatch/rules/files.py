"""The files of rules: what is in each, and how they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

from llmwatch.errors import ConfigError
from llmwatch.rules import drift, gpu, requests, slo, telemetry
from llmwatch.rules.rule import Alert, Group, written
from llmwatch.rules.values import Values, load

RUNBOOKS: Final = files("llmwatch") / "dashboards" / "runbooks.md"

FILES: Final[dict[str, Callable[[Values], Iterator[Group]]]] = {
    "slo": slo.groups,
    "requests": requests.groups,
    "gpu": gpu.groups,
    "drift": drift.groups,
    "telemetry": telemetry.groups,
}

HEAD: Final = "# Written by `llmwatch rules export`: change values, and have it written anew.\n"


def groups(values: Values) -> dict[str, list[Group]]:
    """The groups of each file, without alerts that are off.

    Raises:
        ConfigError: If a value cannot be used.
    """
    found = {name: list(make(values)) for name, make in FILES.items()}
    known = {rule.name for each in found.values() for group in each for rule in alerts(group)}
    for name in values["off"]:
        if name not in known:
            raise ConfigError(f"off = {name!r} is no alert: there are {', '.join(sorted(known))}.")
    return {
        name: [_without(group, values["off"]) for group in each] for name, each in found.items()
    }


def alerts(group: Group) -> Iterator[Alert]:
    """The alerts of a group."""
    yield from (rule for rule in group.rules if isinstance(rule, Alert))


def _without(group: Group, names: list[str]) -> Group:
    rules = (each for each in group.rules if not isinstance(each, Alert) or each.name not in names)
    return Group(group.name, tuple(rules))


def render(values: Values) -> dict[str, str]:
    """The text of each file, by its name.

    Raises:
        ConfigError: If a value cannot be used.
    """
    return {
        f"llmwatch-{name}.rules.yml": HEAD + written([each for each in found if each.rules], values)
        for name, found in groups(values).items()
    }


def export(folder: Path, values: Path | None = None, *, force: bool = False) -> list[Path]:
    """Write the rules and their runbooks into a folder.

    Args:
        folder: Made if need be; rules that were written there before are written anew.
        values: A file with the values that shall differ from those that are shipped.
        force: Whether to write over runbooks that somebody changed, and over rules of others.

    Returns:
        What was written.

    Raises:
        ConfigError: If a value cannot be used, a file would be lost (nothing is written then),
            or the folder cannot be written.
    """
    texts = render(load(values))
    texts["runbooks.md"] = RUNBOOKS.read_text(encoding="utf-8")
    lost = [name for name, text in texts.items() if _is_lost(folder / name, text)]
    if lost and not force:
        raise ConfigError(
            f"{', '.join(lost)} in {folder} would be lost: somebody changed it, or it is of "
            "another release. Name another folder, or give --force."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error}") from error
    return [folder / name for name in texts]


def _is_lost(path: Path, text: str) -> bool:
    try:
        found = path.read_text(encoding="utf-8")
    except OSError:  # it is not there; or writing it will say what is wrong
        return False
    except UnicodeDecodeError:
        return True
    return found != text and not found.startswith(HEAD)
