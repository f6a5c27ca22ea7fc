"""What each key does, once: the app binds these, the help and the docs list them."""

from __future__ import annotations

from typing import NamedTuple

from textual.binding import Binding

NAMES = ("operations", "requests", "layers", "machine", "signs")
"""By their number on the keyboard, from 1 on."""


class Key(NamedTuple):
    """A key, or several that do the same."""

    keys: str
    """As textual names them, separated by commas."""
    shown: str
    action: str
    short: str
    """For the last line of the screen; empty: not there."""
    meaning: str

    def binding(self) -> Binding:
        """For textual."""
        return Binding(
            self.keys,
            self.action,
            self.short or self.meaning,
            show=bool(self.short),
            key_display=self.shown,
        )


APP = (
    Key("d", "d", "dark", "", "dark or light"),
    Key("question_mark,h,f1", "?", "help", "Help", "this list"),
    Key("q,ctrl+c", "q", "quit", "Quit", "leave"),
)
"""Everywhere."""

PANELS = (
    Key("slash", "/", "find", "Find", "show only what has a text in it: model, route, error, id"),
    Key("t", "t", "range", "Time", "choose how far back to look"),
    Key("s", "s", "service", "Service", "choose one service, or all"),
    Key("e", "e", "errors", "Errors", "show only what failed, or all"),
    Key("p,space", "p", "pause", "Pause", "stand still, or go on"),
    *(
        Key(str(number), str(number), f"only({name!r})", "", f"show only {name}, or all panels")
        for number, name in enumerate(NAMES, 1)
    ),
    Key("escape", "esc", "back", "", "back: one panel, then what is filtered, to all"),
)
"""Beside the panels."""

TABLES = (
    Key("up,k", "↑", "move(-1)", "", "up"),
    Key("down,j", "↓", "move(1)", "", "down"),
    Key("pageup", "PgUp", "page(-1)", "", "a page up"),
    Key("pagedown", "PgDn", "page(1)", "", "a page down"),
    Key("home,g", "g", "move(-1000000)", "", "to the first row"),
    Key("end,G", "G", "move(1000000)", "", "to the last row"),
    Key(
        *("enter", "↵", "choose", "Open"),
        "open a request as a waterfall; of an operation, show its requests",
    ),
    Key("less_than_sign,comma", "<", "sort(-1)", "", "sort by the column before"),
    Key("greater_than_sign,full_stop", ">", "sort(1)", "Sort", "sort by the next column"),
    Key("left", "←", "columns(-1)", "", "the columns before"),
    Key("right", "→", "columns(1)", "", "the columns that have no room"),
    Key("r", "r", "reverse", "", "turn the order round"),
)
"""In tables."""

REQUEST = (
    Key("escape,q,backspace", "esc", "leave", "Back", "back to the panels"),
    Key("left_square_bracket,p", "[", "other(-1)", "Later", "the request above it in the table"),
    Key("right_square_bracket,n", "]", "other(1)", "Earlier", "the request below it in the table"),
    Key("c", "c", "copy", "Copy id", "copy the trace id"),
)
"""In an open request, beside the keys that scroll."""
