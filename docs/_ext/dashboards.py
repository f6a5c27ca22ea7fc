"""A Sphinx directive that writes what a dashboard asks and shows, from the file that is shipped.

In a page: a fenced block named ``{dashboard}`` with the name of a file in ``llmwatch/dashboards``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from signals import table
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

import llmwatch

SHIPPED = Path(llmwatch.__file__).parent / "dashboards"


def questions(dashboard: dict[str, Any]) -> str:
    """One table: headings of rows, and the panels below them."""
    return table(["the panel asks", "and shows"], _lines(dashboard["panels"]))


def _lines(panels: list[dict[str, Any]]) -> Iterator[list[str]]:
    for panel in panels:
        if panel["type"] == "row":
            yield [f"**{panel['title']}**", ""]
        else:
            yield [panel["title"], panel["description"]]


class Dashboard(SphinxDirective):
    """The table of one dashboard."""

    required_arguments: ClassVar[int] = 1

    def run(self) -> list[nodes.Node]:
        """Parse the table as a part of the page."""
        path = SHIPPED / f"{self.arguments[0]}.json"
        self.env.note_dependency(str(path))
        return self.parse_text_to_nodes(questions(json.loads(path.read_text())))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("dashboard", Dashboard)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
