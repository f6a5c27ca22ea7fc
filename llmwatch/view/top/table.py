"""A table with a cursor that sorts by any column, and leaves out columns where there is no room."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from textual import events
from textual.binding import BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip

from llmwatch.view.top import keys
from llmwatch.view.top.columns import Column
from llmwatch.view.top.layout import cells, heading, ordered, pages, told
from llmwatch.view.top.lines import Lines
from llmwatch.view.top.pieces import Line

RowT = TypeVar("RowT")


class Table(Lines, Generic[RowT]):
    """Rows of one kind.

    The cursor stays on its row when others come; on the first row it stays first.

    Args:
        title: In its border.
        columns: All it can show.
        key: What makes a row the same as before.
        order: The title of the column that it is sorted by at first, falling.
        id: Its name in CSS.
    """

    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in keys.TABLES]

    class Chosen(Message):
        """A row was opened."""

        def __init__(self, table: Table[Any], row: Any) -> None:
            super().__init__()
            self.table = table
            self.row = row

        @property
        def control(self) -> Table[Any]:
            """The table."""
            return self.table

    def __init__(
        self,
        title: str,
        columns: Sequence[Column[RowT]],
        key: Callable[[RowT], Hashable],
        order: str,
        *,
        id: str,  # noqa: A002 - as in all of textual
    ) -> None:
        super().__init__(title, id=id)
        self._columns = columns
        self._key = key
        self._given: Sequence[RowT] = ()
        self.rows: list[RowT] = []
        """As they are shown."""
        self.sorted_by = next(column for column in columns if column.title == order)
        self.falling = True
        self.cursor = 0
        self.remark = ""
        """In the border."""
        self._pages: list[list[tuple[Column[RowT], int]]] = [[]]
        self._page = 0
        self._empty: list[Line] = []

    def fill(self, rows: Sequence[RowT], empty: list[Line]) -> None:
        """Show other rows; *empty* where there are none."""
        kept = self._key(self.rows[self.cursor]) if self.rows and self.cursor else None
        self._given, self._empty = rows, empty
        self._order(kept)

    def _order(self, kept: Hashable) -> None:
        self.rows = ordered(self._given, self.sorted_by, falling=self.falling)
        last = max(len(self.rows) - 1, 0)
        keys = [self._key(row) for row in self.rows] if kept is not None else []
        self.cursor = keys.index(kept) if kept in keys else min(self.cursor, last)
        self.rebuild()
        self._follow()

    def rebuild(self) -> None:
        """Lay the columns out for the width of now."""
        self._pages = pages(told(self._columns, self._given), self._given, self.wide)
        self._page = min(self._page, len(self._pages) - 1)
        more = f"→ columns {self._page + 1}/{len(self._pages)}" if len(self._pages) > 1 else ""
        self.border_subtitle = "  ".join(filter(None, (self.remark, more)))
        self.resized()

    @property
    def _layout(self) -> list[tuple[Column[RowT], int]]:
        return self._pages[self._page]

    @property
    def number(self) -> int:
        """Rows, with the heading."""
        return (len(self.rows) or len(self._empty)) + 1

    @property
    def shown(self) -> list[Column[RowT]]:
        """The columns that there is room for."""
        return [column for column, _ in self._layout]

    def line(self, number: int) -> Line:
        """The heading, or a row."""
        if number == 0:
            return heading(self._layout, self.sorted_by, falling=self.falling)
        if not self.rows:
            return self._empty[number - 1]
        return cells(self._layout, self.rows[number - 1])

    def render_line(self, y: int) -> Strip:
        """What is at a row of the screen; the heading does not scroll."""
        number = 0 if y == 0 else y + self.scroll_offset.y
        if number >= self.number:
            return self.strip([])
        lit = number == self.cursor + 1 and bool(self.rows) and self.has_focus
        return self.strip(self.line(number), lit=lit)

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self.cursor = min(max(self.cursor + by, 0), max(len(self.rows) - 1, 0))
        self._follow()
        self.refresh()

    def action_page(self, by: int) -> None:
        """Move it by what is in sight."""
        self.action_move(by * max(self.scrollable_content_region.height - 2, 1))

    def _follow(self) -> None:
        """Keep the cursor in sight; its row is below the heading, which hides one."""
        self.scroll_to_region(Region(0, self.cursor, 1, 2), animate=False, force=True)

    def action_columns(self, by: int) -> None:
        """Show the columns that had no room, or those before."""
        self._page = (self._page + by) % len(self._pages)
        self.rebuild()

    def action_choose(self) -> None:
        """Open the row under the cursor."""
        if self.rows:
            self.post_message(self.Chosen(self, self.rows[self.cursor]))

    def action_sort(self, by: int) -> None:
        """Sort by another of the columns in sight; after the last comes the first."""
        now = self.shown.index(self.sorted_by) if self.sorted_by in self.shown else -by
        self.sort(self.shown[(now + by) % len(self.shown)])

    def action_reverse(self) -> None:
        """Turn the order round."""
        self.falling = not self.falling
        self._order(None)

    def sort(self, column: Column[RowT]) -> None:
        """Sort by *column*: numbers from the largest on, words from A."""
        self.sorted_by = column
        self.falling = not any(isinstance(column.key(row), str) for row in self.rows)
        self.cursor = 0
        self._order(None)

    def on_click(self, event: events.Click) -> None:
        """On the heading: sort. On a row: go there; where one is already: open it."""
        at = event.get_content_offset(self)
        if at is None:
            return
        if at.y == 0:
            self._sort_at(at.x)
            return
        row = at.y + self.scroll_offset.y - 1
        if row >= len(self.rows):
            return
        if row == self.cursor:
            self.action_choose()
        self.action_move(row - self.cursor)

    def _sort_at(self, x: int) -> None:
        for column, width in self._layout:
            if x <= width:
                if column is self.sorted_by:
                    self.action_reverse()
                else:
                    self.sort(column)
                return
            x -= width + 1

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as there are."""
        return self.number
