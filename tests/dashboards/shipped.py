"""The dashboards that llmwatch ships, as Grafana reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import llmwatch

FOLDER = Path(llmwatch.__file__).parent / "dashboards"
NAMES = ("requests", "local-models", "gpu-host", "drift-quality")


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return loaded


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """All panels but the rows' headings."""
    return [each for each in dashboard["panels"] if each["type"] != "row"]


class Query(NamedTuple):
    """One expression of a panel."""

    dashboard: str
    panel: str
    letter: str
    expression: str
    instant: bool


def queries() -> Iterator[Query]:
    for name in NAMES:
        for panel in panels(load(name)):
            for each in panel["targets"]:
                instant = bool(each.get("instant"))
                yield Query(name, panel["title"], each["refId"], each["expr"], instant)


def variables(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard["templating"]["list"]
    return found


def interpolated(text: str, values: Mapping[str, str]) -> str:
    """Text with its variables replaced, as Grafana does it; none may be left."""
    for name in sorted(values, key=len, reverse=True):
        text = text.replace(f"${{{name}}}", values[name]).replace(f"${name}", values[name])
    assert not re.search(r"\$[a-zA-Z_{]", text.replace("$1", "")), text
    return text


def chosen(values: list[str]) -> str:
    """Several values of a variable in an expression, as Grafana writes them for Prometheus."""
    escaped = [re.sub(r"([\\^$*+?.()|{}\[\]])", r"\\\\\1", value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
