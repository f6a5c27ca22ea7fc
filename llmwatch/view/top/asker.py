"""Ask the view on a thread of its own, one question at a time, so that the screen never waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from llmwatch.view.records import View

AnswerT = TypeVar("AnswerT")

Opener = Callable[[Callable[[int, int], None]], View]
"""Opens a view; calls what it is given with what is done and what there is to do, in bytes."""


class Asker:
    """A view on one thread. Everything that the view does happens there, its opening too.

    Args:
        opener: Opens the view.
    """

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="llmwatch-top")
        self._view: View | None = None

    async def open(self, progress: Callable[[int, int], None]) -> None:
        """Open the view; *progress* is called on its thread.

        Errors: those of the opener.
        """
        loop = asyncio.get_running_loop()
        self._view = await loop.run_in_executor(self._thread, self._opener, progress)

    async def ask(self, question: Callable[[View], AnswerT]) -> AnswerT:
        """Ask a question; questions are answered in the order in which they were asked.

        Errors: those of the view.
        """
        assert self._view is not None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, question, self._view)

    def close(self) -> None:
        """Let go of the view, when it has answered what it was asked."""
        view = self._view
        if view is not None:
            self._thread.submit(view.close)
        self._thread.shutdown(wait=True)
