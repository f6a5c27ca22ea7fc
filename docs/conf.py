"""How Sphinx builds the documentation: ``nox -s docs``."""

from __future__ import annotations

import sys
from pathlib import Path

from llmwatch._version import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "llmwatch"
author = "The llmwatch authors"
copyright = "2026, The llmwatch authors"
release = __version__

extensions = [
    "dashboards",
    "myst_parser",
    "rules",
    "settings",
    "signals",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
default_role = "code"  # `name` in docstrings
exclude_patterns = ["_build", "_generated"]  # the latter is included where it belongs

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_member_order = "bysource"
nitpick_ignore_regex = [
    # Types of other projects, whose inventories would need a network, and of our own lower floors.
    ("py:.*", r"(?!llmwatch\.\w+$).*"),
]

html_theme = "furo"
html_title = f"llmwatch {release}"
