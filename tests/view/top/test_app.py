"""``llmwatch top`` shows what the view says, and its keys do what the help says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot

from llmwatch.view.records import View
from llmwatch.view.top.app import Top
from tests.view.top.made import Made


def screen(app: Top) -> list[str]:
    """The lines that a user sees."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips]


@asynccontextmanager
async def running(
    view: View, size: tuple[int, int] = (200, 60), **more: Any
) -> AsyncIterator[tuple[Top, Pilot[None]]]:
    """The app on a screen of that size, after its first look."""
    app = Top(lambda progress: view, every=0.02, **more)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.frame is not None or app.state == "error")
        yield app, pilot


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """Wait for something, a while."""
    for _ in range(300):
        if true():
            await pilot.pause()
            return
        await pilot.pause(0.02)
    raise AssertionError("it never came")


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_what_is_shown_is_what_the_view_says(size: tuple[int, int]) -> None:
    """Row by row, in its order; the sums above too."""
    async with running(Made.of(40), size) as (app, _):
        assert app.frame is not None
        assert app.panels.operations.rows == app.frame.operations
        assert app.panels.requests.rows == app.frame.requests
        lines = screen(app)
        assert "40 operations" in lines[0]
        assert len(lines) == size[1]
        assert all(len(line) <= size[0] for line in lines)
