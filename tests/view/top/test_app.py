"""``llmwatch top`` shows what the view says, and its keys do what the help says."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import sleep, time_ns
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from llmwatch.view.numbers import dollars, per, rate, seconds
from llmwatch.view.records import Filter, View
from llmwatch.view.top import keys, palette
from llmwatch.view.top.app import Top
from llmwatch.view.top.columns import OPERATIONS
from llmwatch.view.top.detail import Detail
from llmwatch.view.top.frame import RANGES, Look
from llmwatch.view.top.layout import ordered
from llmwatch.view.top.pickers import Help, Pick
from tests.view.top.made import Made, row

SMALL, MIDDLE, LARGE = (80, 24), (130, 36), (200, 60)
WAITED = 10.0
"""Seconds until a test gives up."""


def screen(app: Top) -> list[str]:
    """The lines that a user sees."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips]


def seen(app: Top, text: str) -> bool:
    """Whether a user sees *text*."""
    return any(text in line for line in screen(app))


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """Wait for something, a while."""
    for _ in range(int(WAITED / 0.02)):
        if true():
            await pilot.pause()
            return
        await pilot.pause(0.02)
    raise AssertionError("it never came:\n" + "\n".join(screen(pilot.app)))  # type: ignore[arg-type]


@asynccontextmanager
async def running(
    view: View, size: tuple[int, int] = MIDDLE, **more: Any
) -> AsyncIterator[tuple[Top, Pilot[None]]]:
    """The app on a screen of that size, when something is shown."""
    app = Top(lambda progress: view, every=0.1, **more)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.frame is not None or app.state == "error")
        yield app, pilot


# --- what is shown -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SMALL, LARGE, (120, 34), (79, 60), (20, 6)])
async def test_it_fits_the_screen_and_shows_the_rows_of_the_view(size: tuple[int, int]) -> None:
    """All rows, and no line too long, on any screen."""
    view = Made.of(40)
    async with running(view, size) as (app, pilot):
        await until(pilot, lambda: len(app.panels.requests.rows) == 40)
        assert app.panels.operations.rows == view.operations(Filter())
        assert app.panels.requests.rows == view.requests(Filter())
        lines = screen(app)
        assert len(lines) == size[1]
        assert all(len(line) <= size[0] for line in lines)


async def test_every_number_of_an_operation_is_on_the_screen() -> None:
    """In the forms that all views share."""
    view = Made.of(40)
    async with running(view, LARGE) as (app, pilot):
        await until(pilot, lambda: seen(app, "40 operations"))
        for found in view.operations(Filter()):
            (line,) = [
                line
                for line in screen(app)
                if f" {found.model or '·'} " in line
                and f" {found.route or '·'} " in line
                and per(found.rate) in line
            ]
            shown = line.split("│")[1]
            assert f" {found.count} " in shown
            for value in (found.ttft_p50, found.ttft_p95, found.itl_p50, found.duration_p95):
                assert value is not None
                assert seconds(value) in shown
            assert found.tokens_per_second is not None
            assert rate(found.tokens_per_second) in shown
            assert str(found.input_tokens) in shown
            if found.cost is not None:
                assert dollars(found.cost) in shown
            assert (f"{found.errors / found.count:.0%}" in shown) == bool(found.errors)


async def test_the_sums_are_those_of_the_operations() -> None:
    """Count, failures and cost, in the first line."""
    view = Made.of(40)
    async with running(view) as (app, pilot):
        await until(pilot, lambda: seen(app, "40 operations"))
        failed = sum(each.outcome == "error" for each in view.rows)
        cost = sum(each.cost or 0 for each in view.operations(Filter()))
        assert f"{failed} failed, {failed / 40:.1%}" in screen(app)[0]
        assert f"${dollars(cost)}" in screen(app)[0]


async def test_another_size_is_another_layout() -> None:
    """Panels come and go with the room; the strip stands for those that went."""
    view = Made.of(5)
    view.machine = [gauge()]
    async with running(view, LARGE) as (app, pilot):
        await until(pilot, lambda: seen(app, "─ Machine"))
        await pilot.resize_terminal(*SMALL)
        await until(pilot, lambda: not seen(app, "─ Machine"))
        assert "CPU 42%" in screen(app)[1]
        await pilot.resize_terminal(*LARGE)
        await until(pilot, lambda: seen(app, "─ Machine"))
        assert not seen(app, "─ Layers")  # nobody timed any


def gauge() -> Any:
    from llmwatch.view.records import Series

    now = time_ns()
    return Series("process.cpu.utilization", "1", {}, "shop", [now - 10**9, now], [0.2, 0.42])


async def test_an_empty_store_says_what_to_do_next(tmp_path: Path) -> None:
    """With the path where a program must write."""
    async with running(Made(), where=tmp_path) as (app, pilot):
        await until(pilot, lambda: seen(app, "Nothing is stored yet."))
        assert seen(app, f"llmwatch run --store-path {tmp_path}")
        assert seen(app, "llmwatch demo")


async def test_an_empty_time_says_when_the_latest_was() -> None:
    """And which key looks further back."""
    view = Made([row(7200, time_ns())])
    async with running(view) as (app, pilot):
        await until(pilot, lambda: seen(app, "began 2 h ago"))
        assert seen(app, "t looks further back")
        await pilot.press("t", "end", "enter")
        await until(pilot, lambda: seen(app, "1 operation"))
        assert app.look_at.back is None


async def test_what_no_view_may_show_does_not_reach_the_terminal() -> None:
    """A route in the store may hold anything, also what would clear a screen."""
    evil = "\x1b[2J\x1b]0;x\x07route"
    view = Made([row(1, time_ns(), route=evil, error="\x9b31m", outcome="error")])
    async with running(view) as (app, pilot):
        await until(pilot, lambda: seen(app, "route"))
        text = "".join(screen(app))
        assert text.isprintable()
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Detail))
        await until(pilot, lambda: seen(app, "Trace"))
        assert "".join(screen(app)).isprintable()


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [OSError(13, "Permission denied"), sqlite3.DatabaseError("file is not a database")]
)
async def test_a_store_that_cannot_be_read_is_told_and_tried_again(error: Exception) -> None:
    """What was read stays on the screen."""
    view = Made.of(3)
    view.broken = error
    async with running(view, where=Path("/store")) as (app, pilot):
        await until(pilot, lambda: seen(app, str(error)))
        assert "cannot read" in screen(app)[0]
        view.broken = None
        await until(pilot, lambda: seen(app, "3 operations"))
        view.broken = error
        await until(pilot, lambda: seen(app, str(error)))
        assert len(app.panels.requests.rows) == 3


async def test_one_that_cannot_be_opened_is_told() -> None:
    """Instead of a traceback."""

    def opener(progress: object) -> View:
        raise PermissionError(13, "Permission denied", "/store")

    app = Top(opener, where=Path("/store"))
    async with app.run_test(size=SMALL) as pilot:
        await until(pilot, lambda: seen(app, "Permission denied"))


async def test_opening_shows_how_far_it_is() -> None:
    """A store without an index is read first; the screen is alive meanwhile."""
    go_on = threading.Event()

    def opener(progress: Callable[[int, int], None]) -> View:
        progress(30_000_000, 120_000_000)
        assert go_on.wait(60)
        return Made.of(2)

    app = Top(opener, every=0.02)
    async with app.run_test(size=SMALL) as pilot:
        await until(pilot, lambda: seen(app, "25% of 120 MB"))
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)
        await pilot.press("escape")
        go_on.set()
        await until(pilot, lambda: seen(app, "2 operations"))


async def test_the_view_is_closed_at_the_end() -> None:
    """On the thread that asked it."""
    view = Made.of(1)
    async with running(view):
        pass
    assert view.closed


async def test_it_rests_for_longer_than_a_look_took() -> None:
    """A large store is not read again and again without an end; a key is answered at once."""
    view = Made.of(1)
    refresh = view.refresh

    def slow() -> bool:
        sleep(0.5)
        return refresh()

    view.refresh = slow  # type: ignore[method-assign]
    async with running(view) as (app, pilot):
        frame = app.frame
        await pilot.pause(1.0)
        assert app.frame is frame, "it looked again although its rest is of two seconds"
        await pilot.press("e")
        await until(pilot, lambda: app.frame is not frame)


async def test_a_slow_view_neither_blocks_the_keys_nor_is_asked_twice_at_once() -> None:
    """While it answers, the cursor moves; whatever the keys ask for waits for its turn."""
    view = Made.of(20)
    async with running(view) as (app, pilot):
        await until(pilot, lambda: len(app.panels.requests.rows) == 20)
        asked = len(view.asked)
        gate = view.gate = threading.Event()
        await until(pilot, lambda: len(view.asked) > asked)  # it waits now
        asked = len(view.asked)
        await pilot.press("down", "down", "e", "e", "e")
        assert app.panels.requests.cursor == 2
        await pilot.pause(0.3)
        assert len(view.asked) == asked
        view.gate = None
        gate.set()
        await until(pilot, lambda: app.frame is not None and app.frame.look.by.errors)


# --- live ----------------------------------------------------------------------------------------


async def test_new_requests_come_on_top_and_the_cursor_stays_on_its_row() -> None:
    """On the first row it stays first, as the tail of a file does."""
    view = Made.of(5)
    async with running(view) as (app, pilot):
        await until(pilot, lambda: len(app.panels.requests.rows) == 5)
        view.rows.append(row(1000, time_ns(), start=time_ns()))
        await until(pilot, lambda: len(app.panels.requests.rows) == 6)
        assert app.panels.requests.cursor == 0
        await pilot.press("down")
        chosen = app.panels.requests.rows[1]
        view.rows.append(row(1001, time_ns(), start=time_ns()))
        await until(pilot, lambda: len(app.panels.requests.rows) == 7)
        assert app.panels.requests.rows[app.panels.requests.cursor] == chosen


async def test_paused_it_stands_still() -> None:
    """Until it goes on; what is filtered meanwhile is shown all the same."""
    view = Made.of(5)
    async with running(view) as (app, pilot):
        await until(pilot, lambda: seen(app, "5 operations"))
        await pilot.press("p")
        await until(pilot, lambda: seen(app, "paused"))
        await app.ask(lambda view: None)  # what was asked before has been answered
        await pilot.pause()
        view.rows.append(row(1000, time_ns(), start=time_ns()))
        await pilot.pause(0.2)
        assert len(app.panels.requests.rows) == 5
        await pilot.press("e")
        await until(pilot, lambda: len(app.panels.requests.rows) == 1)
        assert seen(app, "paused")
        await pilot.press("e", "p")
        await until(pilot, lambda: seen(app, "6 operations"))
        assert seen(app, "live")


# --- keys ----------------------------------------------------------------------------------------


async def test_sorting_goes_through_the_columns_and_turns_round() -> None:
    """The heading says by which."""
    view = Made.of(30)
    async with running(view) as (app, pilot):
        table = app.panels.requests
        await until(pilot, lambda: len(table.rows) == 30)
        for _ in table.shown:
            await pilot.press("greater_than_sign")
            for _ in range(2):
                expected = ordered(view.requests(Filter()), table.sorted_by, falling=table.falling)
                assert table.rows == expected
                arrow = "▼" if table.falling else "▲"
                shown = f"{table.sorted_by.title}{arrow}"
                assert seen(app, shown) or seen(app, shown.replace(" ", ""))
                await pilot.press("r")
        assert table.sorted_by.title == "began"
        await pilot.press("less_than_sign", "greater_than_sign")
        assert table.sorted_by.title == "began"


async def test_a_click_on_a_heading_sorts_and_one_on_a_row_opens_it() -> None:
    """The second click, that is; the first one goes there."""
    view = Made.of(30)
    async with running(view) as (app, pilot):
        table = app.panels.operations
        await until(pilot, lambda: len(table.rows) == 6)
        x = 2  # border and padding
        for column, width in table._layout:
            if column.title == "count":
                break
            x += width + 1
        await pilot.click("#operations", offset=(x + 1, 1))
        assert not table.falling
        await pilot.click("#operations", offset=(5, 4))
        assert table.cursor == 2
        await pilot.click("#operations", offset=(5, 4))
        await until(pilot, lambda: app.look_at.narrowed)


async def test_all_columns_can_be_seen_on_a_small_screen() -> None:
    """Some after the others; what names a row stays."""
    async with running(Made.of(30), SMALL) as (app, pilot):
        table = app.panels.operations
        table.focus()
        await until(pilot, lambda: seen(app, "→ columns 1/"))
        titles: list[str] = []
        for _ in table._pages:
            titles += [column.title for column in table.shown]
            assert "model" in [column.title for column in table.shown]
            await pilot.press("right")
        wanted = [column.title for column in OPERATIONS]
        assert {title: titles.count(title) for title in wanted if title != "route"} | {
            "model": 1
        } == {title: wanted.count(title) for title in wanted if title != "route"}
        assert table._page == 0


async def test_finding_narrows_while_typing() -> None:
    """To what the view says; escape closes the line, then shows all again."""
    view = Made.of(30)
    async with running(view) as (app, pilot):
        await until(pilot, lambda: seen(app, "30 operations"))
        await pilot.press("slash", *"FERRY")
        found = view.requests(Filter(text="ferry"))
        await until(pilot, lambda: app.panels.requests.rows == found)
        assert app.query_one(Input).has_focus
        await pilot.press("enter")
        assert app.panels.requests.has_focus
        assert seen(app, "/ FERRY")
        await pilot.press("escape")
        await until(pilot, lambda: seen(app, "30 operations"))


async def test_nothing_that_fits_is_told() -> None:
    """With the way back."""
    async with running(Made.of(5)) as (app, pilot):
        await pilot.press("slash", *"zzz", "enter")
        await until(pilot, lambda: seen(app, "No operation fits."))
        assert seen(app, "escape shows all again")


async def test_an_operation_opens_to_its_requests() -> None:
    """Only those of its kind, model and route."""
    view = Made.of(30)
    async with running(view) as (app, pilot):
        await until(pilot, lambda: len(app.panels.operations.rows) == 6)
        app.panels.operations.focus()
        await pilot.press("down", "enter")
        chosen = view.operations(Filter())[1]
        by = Filter(operation=chosen.operation, model=chosen.model, route=chosen.route)
        await until(pilot, lambda: app.panels.requests.rows == view.requests(by))
        assert app.look_at.by == by
        assert app.panels.requests.has_focus


async def test_only_errors_and_one_service() -> None:
    """Both at once, and the range of time."""
    view = Made.of(60)
    async with running(view) as (app, pilot):
        await until(pilot, lambda: seen(app, "60 operations"))
        await pilot.press("e", "s")
        await until(pilot, lambda: isinstance(app.screen, Pick))
        assert [str(each.prompt) for each in app.screen.query_one(OptionList).options] == [
            "all services",
            "desk",
            "shop",
        ]
        await pilot.press("down", "down", "enter")
        by = Filter(errors=True, service="shop")
        await until(pilot, lambda: app.panels.requests.rows == view.requests(by))
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, Pick))
        await pilot.press("home", "enter")
        assert app.look_at == Look(RANGES["1m"], by)
        await until(pilot, lambda: seen(app, "last 1m"))


async def test_panels_can_be_alone() -> None:
    """Also those that have nothing to show: they say how to get it."""
    async with running(Made.of(5), SMALL) as (app, pilot):
        await until(pilot, lambda: seen(app, "5 operations"))
        for number, name in enumerate(keys.NAMES, 1):
            await pilot.press(str(number))
            await until(pilot, lambda name=name: app.panels.query_one(f"#{name}").has_focus)  # type: ignore[misc]
            assert app.panels.query_one(f"#{name}").region.height >= 20
        assert seen(app, "instrument(drift=…)")
        await pilot.press("escape")
        await until(pilot, lambda: seen(app, "─ Operations") and seen(app, "─ Requests"))


async def test_the_help_tells_of_every_key() -> None:
    """As the bindings have them; it fits a small screen by scrolling."""
    async with running(Made.of(1), SMALL) as (app, pilot):
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Help))
        lines = [
            "".join(piece.text for piece in line)
            for line in app.screen.query_one("#keys")._lines  # type: ignore[attr-defined]
        ]
        for key in (*keys.APP, *keys.PANELS, *keys.TABLES, *keys.REQUEST):
            if not key.action.startswith("only"):
                assert any(
                    line.split()[:1] == [key.shown] and key.meaning in line for line in lines
                )
        await pilot.press("escape")
        assert not isinstance(app.screen, Help)


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_it_can_be_left(key: str) -> None:
    """Also as programs in a terminal are left since ever."""
    async with running(Made.of(1)) as (app, pilot):
        await pilot.press(key)
        await until(pilot, lambda: not app.is_running or app._exit)
        assert app.return_code == 0


@pytest.mark.parametrize("where", [keys.APP, keys.PANELS, keys.TABLES, keys.REQUEST])
def test_no_key_does_two_things(where: tuple[keys.Key, ...]) -> None:
    """Where both would hold."""
    others = () if where is keys.APP else keys.APP
    names = [name for key in (*where, *others) for name in key.keys.split(",")]
    allowed = {"q", "escape"} if where is keys.REQUEST else set()  # closes the request alone
    assert {name for name in names if names.count(name) > 1} <= allowed


async def test_dark_and_light() -> None:
    """In colours that are not the same; the choice of a user's own stays."""
    async with running(Made.of(1)) as (app, pilot):
        assert app.theme == palette.DARK.name
        await pilot.press("d")
        assert app.theme == palette.LIGHT.name
        await pilot.pause()


@pytest.mark.parametrize(
    "theme", ["llmwatch-dark", "llmwatch-light", "textual-light", "nord", "ansi-dark", "ansi-light"]
)
def test_every_theme_has_a_colour_for_every_role(theme: str) -> None:
    """Themes of sixteen colours too; heat goes from one end to another."""
    app = Top(lambda progress: Made())
    app.theme = theme
    styles = palette.styles(app.theme_variables)
    assert styles["hot0"] != styles["hot7"]
    assert styles["ok"] != styles["bad"]
    assert styles["cursor"].bgcolor is not None or styles["cursor"].reverse


# --- one request ---------------------------------------------------------------------------------


async def test_a_request_opens_and_its_neighbours_too() -> None:
    """By enter; brackets go to those above and below; escape goes back."""
    view = Made.of(5)
    async with running(view) as (app, pilot):
        await until(pilot, lambda: len(app.panels.requests.rows) == 5)
        await pilot.press("p", "down", "enter")
        await until(pilot, lambda: seen(app, "Trace 1 span"))
        detail = app.screen
        assert isinstance(detail, Detail)
        assert detail.row == app.panels.requests.rows[1]
        assert seen(app, detail.row.trace_id)
        for key, number in (("right_square_bracket", 2), ("left_square_bracket", 1)):
            wanted = app.panels.requests.rows[number].trace_id
            await pilot.press(key)
            await until(pilot, lambda wanted=wanted: seen(app, wanted))  # type: ignore[misc]
        await pilot.press("left_square_bracket", "left_square_bracket", "left_square_bracket")
        assert detail.row == app.panels.requests.rows[0]  # the first has none above it
        await pilot.press("c")
        assert app.clipboard == detail.row.trace_id
        await pilot.press("escape")
        assert app.screen is app.panels


async def test_a_request_that_is_gone_is_told() -> None:
    """The store made room meanwhile."""
    view = Made.of(2)
    async with running(view) as (app, pilot):
        await until(pilot, lambda: len(app.panels.requests.rows) == 2)
        await pilot.press("p")
        view.rows.clear()
        await pilot.press("enter")
        await until(pilot, lambda: seen(app, "It is gone"))


async def test_keys_of_the_panels_do_nothing_in_a_request() -> None:
    """They would change what is not seen."""
    async with running(Made.of(2)) as (app, pilot):
        await until(pilot, lambda: len(app.panels.requests.rows) == 2)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Detail))
        await pilot.press("e", "p", "1", "s")
        assert app.look_at == Look()
        assert not app.paused


async def test_many_rows_cost_what_is_in_sight() -> None:
    """A stream of 20,000 chunks opens; only the lines on the screen are drawn."""
    from tests.view.top.made import opened

    one = row(1, time_ns(), duration=200.0)
    tokens = [0.01 * number for number in range(1, 20_001)]
    view = Made([one], {one.span_id: opened(one, tokens=tokens)})
    async with running(view) as (app, pilot):
        await until(pilot, lambda: len(app.panels.requests.rows) == 1)
        await pilot.press("enter")
        await until(pilot, lambda: seen(app, "20000 chunks"))
        await pilot.press("end")
        await until(pilot, lambda: seen(app, "chunk 20000") or seen(app, "Attributes"))


def test_what_is_filtered_is_no_business_of_the_range() -> None:
    """A look is narrowed by what it leaves out, not by how far it goes back."""
    assert not Look(60.0).narrowed
    assert Look(None, Filter(text="x")).narrowed
    now = time_ns()
    assert Look(60.0).filter(now).since == now - 60 * 10**9
    assert Look(None).filter(now) == Filter()
