"""A panel of lines. Only those in sight are drawn, so it may hold any number."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from llmwatch.view.top import palette
from llmwatch.view.top.pieces import Line, Role

if TYPE_CHECKING:
    from textual.app import App

Build = Callable[[int], list[Line]]
"""Lines for a width in cells."""


class Lines(ScrollView, can_focus=True):
    """A panel with a title. What it shows is built anew when its width changes.

    Args:
        title: In its border.
        id: Its name in CSS.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", "Down", show=False),
        Binding("k", "scroll_up", "Up", show=False),
        Binding("g", "scroll_home", "First", show=False),
        Binding("G", "scroll_end", "Last", show=False),
    ]

    DEFAULT_CSS = """
    Lines {
        border: round $foreground 25%;
        border-title-color: $foreground;
        border-title-style: bold;
        border-subtitle-color: $foreground 60%;
        padding: 0 1;
        background: $background;
        scrollbar-size-vertical: 1;
        overflow-x: hidden;
        &:focus { border: round $primary; border-title-color: $primary; }
    }
    """

    def __init__(self, title: str, *, id: str) -> None:  # noqa: A002 - as in all of textual
        super().__init__(id=id)
        self.border_title = title
        self._build: Build = lambda width: []
        self._lines: list[Line] = []

    def show(self, build: Build) -> None:
        """Show other lines from now on."""
        self._build = build
        self.rebuild()

    def rebuild(self) -> None:
        """Build the lines again, for the width of now."""
        self._lines = self._build(self.wide)
        self.resized()

    @property
    def wide(self) -> int:
        """Cells of a line."""
        return max(self.scrollable_content_region.width, 1)

    @property
    def number(self) -> int:
        """How many lines there are."""
        return len(self._lines)

    def line(self, number: int) -> Line:
        """One of them."""
        return self._lines[number]

    def resized(self) -> None:
        """There are more or fewer lines now, or others."""
        size = Size(self.wide, self.number)
        if size != self.virtual_size:
            self.virtual_size = size
        self.refresh()

    def on_resize(self, event: Resize) -> None:
        """Another width."""
        self.rebuild()

    def render_line(self, y: int) -> Strip:
        """What is at a row of the screen."""
        number = y + self.scroll_offset.y
        return self.strip(self.line(number) if number < self.number else [])

    def strip(self, line: Line, *, lit: bool = False) -> Strip:
        """A line in the colours of the theme, as wide as the panel; *lit*: the cursor is there."""
        styles = styles_of(self.app)
        base = self.rich_style + styles["cursor"] if lit else self.rich_style
        segments = [Segment(text, base + styles[role]) for text, role in line]
        return Strip(segments).adjust_cell_length(self.size.width, base)


def styles_of(app: App[Any]) -> dict[Role, Style]:
    """The styles of the theme that is set, made once for each theme."""
    made: dict[str, dict[Role, Style]] = app.__dict__.setdefault("_llmwatch_styles", {})
    if app.theme not in made:
        made[app.theme] = palette.styles(app.theme_variables)
    return made[app.theme]
