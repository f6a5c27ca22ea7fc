"""A Sphinx directive that writes tables about the rules for Prometheus, from the rules themselves.

In a page: a fenced block named ``{rules}`` with one word, the name of a function below.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import ClassVar

from docutils import nodes
from signals import table
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from llmwatch.rules.files import alerts as alerts_of
from llmwatch.rules.files import groups
from llmwatch.rules.rule import Alert, anchor
from llmwatch.rules.values import SHIPPED, load, meanings


def values() -> str:
    """Every value, its default and its meaning."""
    return table(
        ["value", "default", "meaning"],
        (
            [f"`{key}`", f"`{_cell(json.dumps(value, ensure_ascii=False))}`", meaning]
            for key, value, meaning in meanings()
        ),
    )


def burn() -> str:
    """The windows that budgets burn in."""
    return table(
        ["severity", "long", "short", "rate"],
        ([each.severity, each.long, each.short, f"{each.rate:g}"] for each in load()["burn"]),
    )


def alerts() -> str:
    """Every alert, in the order of the files: its severities and whose it is."""
    found: dict[str, list[Alert]] = {}
    for each in groups(load()).values():
        for group in each:
            for alert in alerts_of(group):
                found.setdefault(alert.name, []).append(alert)
    return table(
        ["alert", "severity", "lasts", "says"],
        (
            [
                f"[{name}](runbooks.md{anchor(name)})",
                ", ".join(dict.fromkeys(each.severity for each in same)),
                same[0].hold if same[0].hold != "0s" else "at once",
                "; ".join(dict.fromkeys(_plain(each.summary) for each in same)),
            ]
            for name, same in found.items()
        ),
    )


def _cell(text: str) -> str:
    """Text within one cell: patterns have bars."""
    return text.replace("|", "\\|")


def _plain(summary: str) -> str:
    """A summary as one reads it: labels by their names."""
    return summary.replace("{{ $labels.", "*").replace(" }}", "*")


TABLES: dict[str, Callable[[], str]] = {each.__name__: each for each in (values, burn, alerts)}


class Rules(SphinxDirective):
    """The table that the one argument names."""

    required_arguments: ClassVar[int] = 1

    def run(self) -> list[nodes.Node]:
        """Parse the table as a part of the page."""
        self.env.note_dependency(str(SHIPPED))
        return self.parse_text_to_nodes(TABLES[self.arguments[0]]())


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("rules", Rules)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
