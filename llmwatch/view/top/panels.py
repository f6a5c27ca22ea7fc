"""The screen with all panels, and what its keys do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import Footer, Input

from llmwatch.view.records import Filter, OperationRow, RequestRow
from llmwatch.view.top import hints, keys, layers, machine, signs, status
from llmwatch.view.top.columns import OPERATIONS, REQUESTS
from llmwatch.view.top.detail import Detail
from llmwatch.view.top.frame import RANGES, Frame, Look
from llmwatch.view.top.lines import Lines
from llmwatch.view.top.pickers import Pick
from llmwatch.view.top.pieces import Line, Piece, clean
from llmwatch.view.top.status import Status
from llmwatch.view.top.table import Table

if TYPE_CHECKING:
    from llmwatch.view.top.app import Top

WIDE, TALL, TALLER = 120, 34, 52
"""Cells from which on panels stand side by side; lines from which on there is room for all of them,
side by side, and one below the other."""

SIDE = {"machine": hints.MACHINE, "layers": hints.LAYERS, "signs": hints.SIGNS}
"""Panels that are there only if they have something to show, and what they say if asked for."""

ALL = "all services"


class Panels(Screen[None]):
    """Everything at a glance.

    Args:
        where: Folder of the store, for hints.
        port: Where telemetry arrives, if it does.
    """

    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in keys.PANELS]

    def __init__(self, where: Path | None, port: int | None) -> None:
        super().__init__()
        self._where = where
        self._port = port
        self._alone: str | None = None

    def compose(self) -> ComposeResult:
        """The panels."""
        yield Status(id="top")
        yield Status(id="strip")
        yield Table("Operations", OPERATIONS, _same_operation, "count", id="operations")
        with Horizontal(id="middle"):
            yield Lines("Machine", id="machine")
            yield Lines("Layers", id="layers")
            yield Lines("Drift and findings", id="signs")
        yield Table("Requests", REQUESTS, _same_request, "began", id="requests")
        yield Input(id="finder", placeholder="model, route, error, id …", compact=True)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Nothing has been read yet."""
        for name in SIDE:
            self._panel(name, False, lambda width: [])
        self.requests.focus()
        self.say()
        self.top.begin()

    def on_resize(self, event: Resize) -> None:
        """Choose which panels there is room for."""
        narrow = event.size.width < WIDE
        self.set_class(narrow, "-narrow")
        self.set_class(not narrow, "-wide")
        self.set_class(event.size.height < (TALLER if narrow else TALL), "-few")
        self._level()

    @property
    def top(self) -> Top:
        """The app."""
        return cast("Top", self.app)

    @property
    def operations(self) -> Table[OperationRow]:
        """The table of operations."""
        return self.query_one("#operations", Table)

    @property
    def requests(self) -> Table[RequestRow]:
        """The table of requests."""
        return self.query_one("#requests", Table)

    # --- showing -------------------------------------------------------------------------------

    def show(self, frame: Frame) -> None:
        """Show one look."""
        if frame.latest is None:
            empty = hints.nothing_yet(self._where, self._port)
        else:
            empty = hints.nothing_now(frame)
        self.operations.fill(frame.operations, [[Piece("none", "dim")]])
        self.requests.remark = f"latest {len(frame.requests)}" if frame.requests else ""
        self.requests.fill(frame.requests, empty)
        self._panel("machine", bool(frame.machine), lambda width: machine.lines(frame, width))
        self._panel("layers", bool(frame.layers), lambda width: layers.lines(frame.layers, width))
        self._panel(
            "signs",
            bool(frame.drift or frame.findings),
            lambda width: signs.lines(frame.drift, frame.findings, frame.time, width),
        )
        self._level()
        self.query_one("#strip", Status).say(status.strip(frame))
        self.say()

    def _level(self) -> None:
        """Side by side, the panels in the middle are as high as the highest of them."""
        panels = [self.query_one(f"#{name}", Lines) for name in SIDE]
        there = [panel.number for panel in panels if not panel.has_class("-nothing")]
        middle = self.query_one("#middle")
        beside = bool(there) and self._alone is None and not self.has_class("-narrow")
        middle.styles.height = max(there) + 2 if beside else None

    def _panel(self, name: str, there: bool, build: Callable[[int], list[Line]]) -> None:
        panel = self.query_one(f"#{name}", Lines)
        panel.set_class(not there, "-nothing")
        panel.show(build if there else lambda width: SIDE[name])

    def say(self) -> None:
        """Say what is looked at."""
        top = self.top
        self.query_one("#top", Status).say(status.top(top.look_at, top.frame, top.state))

    def opening(self, done: int, of: int) -> None:
        """Say how far the index is, in bytes."""
        if of:
            share = min(done / of, 1.0)
            bar = ("█" * int(share * 40)).ljust(40, "░")
            self.requests.fill(
                [],
                [
                    [Piece("Reading what the store holds; from then on it is quick.")],
                    [Piece(bar, "bar"), Piece(f" {share:.0%} of {of / 1e6:,.0f} MB")],
                ],
            )

    def failed(self, said: str) -> None:
        """Say that the store cannot be read; what was read stays."""
        self.say()
        if self.top.frame is None:
            where = "" if self._where is None else clean(str(self._where))
            self.requests.fill([], [[Piece(clean(said), "bad")], [Piece(where)]])
        else:
            self.requests.remark = clean(said)
            self.requests.rebuild()

    # --- keys ----------------------------------------------------------------------------------

    def _look(self, at: Look) -> None:
        self.top.look_again(at)
        self.say()

    def _only(self, **filters: object) -> None:
        at = self.top.look_at
        self._look(replace(at, by=replace(at.by, **filters)))  # type: ignore[arg-type]

    def action_find(self) -> None:
        """Open the line for a text to find."""
        finder = self.query_one(Input)
        finder.add_class("-open")
        finder.value = self.top.look_at.by.text
        finder.focus()

    @on(Input.Changed)
    def _find(self, event: Input.Changed) -> None:
        if event.value != self.top.look_at.by.text:
            self._only(text=event.value)

    @on(Input.Submitted)
    def _found(self) -> None:
        self.query_one(Input).remove_class("-open")
        self.requests.focus()

    @work
    async def action_range(self) -> None:
        """Choose how far back to look."""
        now = next((name for name, back in RANGES.items() if back == self.top.look_at.back), "")
        chosen = await self.app.push_screen_wait(Pick("How far back", list(RANGES), now))
        if chosen is not None:
            self._look(replace(self.top.look_at, back=RANGES[chosen]))

    @work
    async def action_service(self) -> None:
        """Choose a service."""
        services = list(self.top.frame.services) if self.top.frame else []
        now = self.top.look_at.by.service or ALL
        chosen = await self.app.push_screen_wait(Pick("Service", [ALL, *services], now))
        if chosen is not None:
            self._only(service=None if chosen == ALL else chosen)

    def action_errors(self) -> None:
        """Only what failed, or all."""
        self._only(errors=not self.top.look_at.by.errors)

    def action_pause(self) -> None:
        """Stand still, or go on."""
        self.top.pause()
        self.say()

    def action_only(self, name: str) -> None:
        """One panel alone, or all of them."""
        self._show_alone(None if self._alone == name else name)

    def _show_alone(self, name: str | None) -> None:
        self._alone = name
        self.set_class(name is not None, "-one")
        for panel in keys.NAMES:
            self.query_one(f"#{panel}").set_class(panel == name, "-shown")
        self.query_one("#middle").set_class(name in SIDE, "-shown")
        self._level()
        self.query_one(f"#{name or 'requests'}").focus()

    def action_back(self) -> None:
        """Leave what was opened last: the line to find, one panel, what is filtered."""
        finder = self.query_one(Input)
        if finder.has_class("-open"):
            finder.remove_class("-open")
            self.requests.focus()
        elif self._alone is not None:
            self._show_alone(None)
        elif self.top.look_at.narrowed:
            self._look(replace(self.top.look_at, by=Filter()))

    @on(Table.Chosen, "#requests")
    def _open_request(self, event: Table.Chosen) -> None:
        self.app.push_screen(Detail(event.row, self.rows))

    def rows(self) -> Sequence[RequestRow]:
        """The requests, as their table has them."""
        return self.requests.rows

    @on(Table.Chosen, "#operations")
    def _open_operation(self, event: Table.Chosen) -> None:
        row: OperationRow = event.row
        self._only(operation=row.operation, model=row.model, route=row.route)
        self.requests.focus()


def _same_operation(row: OperationRow) -> tuple[str, str | None, str | None]:
    return row.operation, row.model, row.route


def _same_request(row: RequestRow) -> tuple[str, str]:
    return row.trace_id, row.span_id
