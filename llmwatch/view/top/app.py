"""``llmwatch top``: looks at the store, and hands what it sees to the screen.

One coroutine looks, again and again: a look is never doubled, and a slow one delays the next
instead of the screen.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import ClassVar, TypeVar

from textual.app import App
from textual.binding import BindingType

from llmwatch.errors import LlmwatchError
from llmwatch.view.records import View
from llmwatch.view.top import keys, palette
from llmwatch.view.top.asker import Asker, Opener
from llmwatch.view.top.frame import Frame, Look, look
from llmwatch.view.top.panels import Panels
from llmwatch.view.top.pickers import Help
from llmwatch.view.top.status import State

AnswerT = TypeVar("AnswerT")

EVERY = 1.0
"""Seconds from the end of one look to the next, at least."""

REST = 4
"""It rests this many times as long as the look took: at most a fifth of a core is spent."""

UNREADABLE = (OSError, sqlite3.Error, LlmwatchError)
"""What a store that cannot be read raises."""


class Top(App[None]):
    """The app.

    Args:
        opener: Opens the view.
        where: Folder of the store, for hints.
        at: What to look at first.
        port: Where telemetry arrives, if it does.
        every: Seconds between two looks.
    """

    TITLE = "llmwatch top"
    CSS_PATH = "top.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in keys.APP]

    def __init__(
        self,
        opener: Opener,
        *,
        where: Path | None = None,
        at: Look | None = None,
        port: int | None = None,
        every: float = EVERY,
    ) -> None:
        super().__init__()
        self.look_at = at or Look()
        self.frame: Frame | None = None
        """The latest look."""
        self.state: State = "opening"
        self.paused = False
        self._asker = Asker(opener)
        self._every = every
        self._wanted = asyncio.Event()
        self.panels = Panels(where, port)
        for theme in (palette.DARK, palette.LIGHT):
            self.register_theme(theme)

    def get_default_screen(self) -> Panels:
        """The panels."""
        return self.panels

    def begin(self) -> None:
        """Begin to look: the panels are there."""
        self.run_worker(self._watch(), group="watch")

    def on_mount(self) -> None:
        """Choose the colours."""
        if self.theme == "textual-dark":  # nobody has asked for another one
            self.theme = palette.DARK.name

    def on_unmount(self) -> None:
        """Close the view."""
        self._asker.close()

    async def _watch(self) -> None:
        if not await self._open():
            return
        while self.is_running:
            began = monotonic()
            if not self.paused or self._wanted.is_set():
                self._wanted.clear()
                await self._look()
            rest = max(self._every, REST * (monotonic() - began))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), rest)

    async def _open(self) -> bool:
        loop = asyncio.get_running_loop()

        def progress(done: int, of: int) -> None:
            loop.call_soon_threadsafe(self._opening, done, of)

        try:
            await self._asker.open(progress)
        except UNREADABLE as error:
            self._failed(error)
            return False
        return True

    def _opening(self, done: int, of: int) -> None:
        if self.is_running and self.frame is None:
            self.panels.opening(done, of)

    async def _look(self) -> None:
        frame = await self.ask(partial(look, at=self.look_at, last=self.frame))
        if frame is not None and self.is_running:  # else its panels are gone
            self.frame = frame
            self.state = "paused" if self.paused else "live"
            self.panels.show(frame)

    async def ask(self, question: Callable[[View], AnswerT]) -> AnswerT | None:
        """Ask the view; None if it cannot read, which the screen then says."""
        try:
            return await self._asker.ask(question)
        except UNREADABLE as error:
            self._failed(error)
            return None

    def _failed(self, error: Exception) -> None:
        if not self.is_running:
            return
        self.state = "error"
        self.panels.failed(str(error) or type(error).__name__)

    def look_again(self, at: Look) -> None:
        """Look at something else, at once."""
        self.look_at = at
        self._wanted.set()

    def pause(self) -> None:
        """Stand still, or go on at once."""
        self.paused = not self.paused
        if self.state in ("live", "paused"):
            self.state = "paused" if self.paused else "live"
        if not self.paused:
            self._wanted.set()

    def action_dark(self) -> None:
        """Dark or light."""
        dark = self.theme == palette.DARK.name
        self.theme = palette.LIGHT.name if dark else palette.DARK.name

    def action_help(self) -> None:
        """The keys."""
        self.push_screen(Help())
