"""One request on the whole screen: its waterfall."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import Footer

from llmwatch.view.records import Request, RequestRow
from llmwatch.view.top import keys, waterfall
from llmwatch.view.top.lines import Lines
from llmwatch.view.top.pieces import Line, Piece
from llmwatch.view.top.rows import Row
from llmwatch.view.top.status import Status

if TYPE_CHECKING:
    from llmwatch.view.top.app import Top


class Waterfall(Lines):
    """Rows of `waterfall`, each drawn when it comes in sight."""

    def __init__(self) -> None:
        super().__init__("Request", id="waterfall")
        self._request: Request | None = None
        self._rows: list[Row] = []

    def open(self, request: Request) -> None:
        """Show another request."""
        self._request = request
        self.rebuild()
        self.scroll_home(animate=False)

    def rebuild(self) -> None:
        """The rows, for the width of now."""
        self._rows = waterfall.rows(self._request, self.wide) if self._request else []
        self.resized()

    @property
    def number(self) -> int:
        """How many rows."""
        return len(self._rows)

    def line(self, number: int) -> Line:
        """One row."""
        assert self._request is not None
        return self._rows[number].line(self.wide, waterfall.length(self._request))


class Detail(Screen[None]):
    """An open request.

    Args:
        row: Which.
        rows: Those beside it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in keys.REQUEST]
    DEFAULT_CSS = """
    Detail Waterfall { height: 1fr; }
    """

    def __init__(self, row: RequestRow, rows: Callable[[], Sequence[RequestRow]]) -> None:
        super().__init__()
        self.row = row
        self._rows = rows
        self.request: Request | None = None

    def compose(self) -> ComposeResult:
        """What it is, and the waterfall."""
        yield Status(id="what")
        yield Waterfall()
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Ask for it."""
        self.query_one(Waterfall).focus()
        self._load(self.row)

    def _load(self, row: RequestRow) -> None:
        self.row = row
        self.run_worker(self._fill(row), group="request", exclusive=True)

    async def _fill(self, row: RequestRow) -> None:
        top = cast("Top", self.app)
        found = await top.ask(lambda view: view.request(row.trace_id, row.span_id))
        if found is None:
            gone = "It is gone: the store made room for newer ones, or cannot be read."
            self.query_one(Status).say([Piece(gone, "warn")])
            return
        self.request = found
        self.query_one(Status).say(waterfall.title(found))
        self.query_one(Waterfall).open(found)

    def action_other(self, by: int) -> None:
        """The next request of the table."""
        rows = self._rows()
        at = next((at for at, row in enumerate(rows) if row.span_id == self.row.span_id), None)
        if at is not None and 0 <= at + by < len(rows):
            self._load(rows[at + by])

    def action_copy(self) -> None:
        """Copy the trace id."""
        self.app.copy_to_clipboard(self.row.trace_id)
        self.notify(f"Copied {self.row.trace_id}", timeout=2)

    def action_leave(self) -> None:
        """Back to the panels."""
        self.dismiss()
