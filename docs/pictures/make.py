"""Draw the picture of the README from a run of the demo: ``python docs/pictures/make.py``.

Needs what ``nox -s demo`` installs. What is drawn is the demo's own output, down to where it turns
to what a backend gets; nothing is staged, so the numbers differ from run to run.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from llmwatch.demo import __main__ as demo

PICTURE = Path(__file__).with_name("demo.svg")
WIDTH = 100
"""Columns."""

THEME = TerminalTheme(
    (23, 27, 34),
    (214, 221, 230),
    [
        (72, 79, 88),
        (244, 112, 103),
        (87, 171, 90),
        (218, 170, 63),
        (83, 155, 245),
        (176, 131, 240),
        (57, 197, 207),
        (144, 157, 171),
    ],
)
FORMAT = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
"""Rich's, without fonts from the network: pages do not load them for pictures anyway."""


def run() -> str:
    """The output of the demo, with ANSI codes for its colours."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    demo._console = lambda: console
    if demo.main() != 0:
        raise SystemExit("the demo could not run")
    return console.export_text(styles=True)


def picture(output: str) -> str:
    """The part of the output above what a backend gets, as SVG."""
    above, found, _ = output.partition("What a backend gets of it")
    if not found:
        raise SystemExit("the demo's output has changed: no part is called 'What a backend gets'")
    text = Text.from_ansi(above.rpartition("\n")[0])
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(text)
    return console.export_svg(
        title="nox -s demo", theme=THEME, code_format=FORMAT, unique_id="llmwatch"
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(run()))
