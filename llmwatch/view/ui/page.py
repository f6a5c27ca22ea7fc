"""The page as HTML: with links to its parts for the server, or with everything in it for a file."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

STATIC = files("llmwatch.view.ui") / "static"

STYLES = ("vendor/uPlot.min.css", "style.css")
SCRIPTS = (
    "vendor/uPlot.iife.min.js",
    "dom.js",
    "format.js",
    "source.js",
    "chart.js",
    "table.js",
    "waterfall.js",
    "tokens.js",
    "messages.js",
    "overview.js",
    "requests.js",
    "request.js",
    "layers.js",
    "machine.js",
    "drift.js",
    "app.js",
)
"""In the order in which they run: each uses only what stands before it."""

POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'"
)
"""What a browser may load for the page: nothing from elsewhere, and no script or style in it."""

_HTML = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{policy}<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="{icon}">
{head}</head>
<body>
<noscript>This page is drawn by its own script; let it run to see anything.</noscript>
{body}</body>
</html>
"""


def read(name: str) -> str:
    """One file of the front end."""
    return STATIC.joinpath(*name.split("/")).read_text(encoding="utf-8")


def linked() -> str:
    """The page of the server: it loads its parts, and asks for what it shows."""
    styles = [f'<link rel="stylesheet" href="static/{name}">\n' for name in STYLES]
    scripts = [f'<script defer src="static/{name}"></script>\n' for name in SCRIPTS]
    return _HTML.format(
        policy="",
        title="llmwatch",
        icon="static/icon.svg",
        head="".join(styles + scripts),
        body="",
    )


def inlined(title: str, data: Any) -> str:
    """One file with everything in it; its policy lets it load nothing at all, and run only this.

    Args:
        title: Of the page.
        data: What the front end shows, as JSON has it.
    """
    scripts = [read(name) for name in SCRIPTS]
    shown = f'<script type="application/json" id="data">{_json(data)}</script>\n'
    icon = "data:image/svg+xml;base64," + b64encode(read("icon.svg").encode()).decode()
    return _HTML.format(
        policy=f'<meta http-equiv="Content-Security-Policy" content="{_only(scripts)}">\n',
        title=escape(title),
        icon=icon,
        head="".join(f"<style>{read(name)}</style>\n" for name in STYLES),
        body=shown + "".join(f"<script>{script}</script>\n" for script in scripts),
    )


def _json(data: Any) -> str:
    """As text that no ``</script>`` or ``<!--`` in it can end."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _only(scripts: list[str]) -> str:
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return b64encode(sha256(script.encode()).digest()).decode()
