"""Ask a view from a server: on one thread of its own, with news for whoever waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from llmwatch.view.records import View

Result = TypeVar("Result")

EVERY = 0.5
"""Seconds between two looks for what was written since, while somebody waits for it."""


class Reader:
    """Asks a view, one question at a time.

    Args:
        view: Threads may share it.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="llmwatch-view")
        self._version = 0
        self.closing = False
        """True: `news` end, so that the server can."""

    async def ask(self, question: Callable[[View], Result]) -> Result:
        """Answer a question about what is stored by now."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._answer, question)

    async def news(self) -> AsyncIterator[int | None]:
        """Once at the start and whenever something was written: a number that grows.

        None where there was nothing for a while: who sends it on finds out who has left.
        """
        told, quiet = -1, 0
        while not self.closing:
            await self.ask(lambda view: None)
            if self._version != told:
                told, quiet = self._version, 0
                yield told
            elif (quiet := quiet + 1) % 20 == 0:
                yield None
            await asyncio.sleep(EVERY)

    def close(self) -> None:
        """End the thread. Waits for the question at hand."""
        self.closing = True
        self._thread.shutdown()

    def _answer(self, question: Callable[[View], Result]) -> Result:
        if self._view.refresh():
            self._version += 1
        return question(self._view)
