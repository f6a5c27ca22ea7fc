"""Small windows above the panels: choose one of a few, and the list of keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from llmwatch.view.top import keys
from llmwatch.view.top.lines import Lines
from llmwatch.view.top.pieces import Line, Piece


class Pick(ModalScreen[str | None]):
    """Choose one; None if nothing was chosen.

    Args:
        title: The question.
        choices: Names to choose among.
        now: The one that holds.
    """

    BINDINGS: ClassVar[list[BindingType]] = [("escape,q", "dismiss(None)", "Back")]
    DEFAULT_CSS = """
    Pick { align: center middle; background: $background 60%; }
    Pick Vertical {
        width: auto; min-width: 30; max-width: 60; height: auto; max-height: 80%;
        border: round $primary; border-title-style: bold; background: $background;
    }
    Pick OptionList {
        width: 100%; min-width: 28; height: auto; border: none; background: $background;
    }
    """

    def __init__(self, title: str, choices: Sequence[str], now: str) -> None:
        super().__init__()
        self._title = title
        self._choices = choices
        self._now = now

    def compose(self) -> ComposeResult:
        """A list."""
        with Vertical() as box:
            box.border_title = self._title
            yield OptionList(*map(Option, self._choices), markup=False)

    def on_mount(self) -> None:
        """Begin at what holds."""
        options = self.query_one(OptionList)
        options.highlighted = self._choices.index(self._now) if self._now in self._choices else 0
        options.focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Chosen."""
        self.dismiss(self._choices[event.option_index])


class Help(ModalScreen[None]):
    """All keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q,question_mark,h,f1", "dismiss(None)", "Back")
    ]
    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help Lines { width: 76; max-width: 100%; height: auto; max-height: 100%; }
    """

    def compose(self) -> ComposeResult:
        """One panel."""
        yield Lines("Keys", id="keys")

    def on_mount(self) -> None:
        """Fill it."""
        panel = self.query_one(Lines)
        panel.border_subtitle = "esc closes"
        panel.show(lambda width: help_lines())
        panel.focus()


def help_lines() -> list[Line]:
    """The keys, and what the signs mean."""
    parts = (
        ("In tables", keys.TABLES),
        ("What is shown", keys.PANELS),
        ("In a request", keys.REQUEST),
        ("Everywhere", keys.APP),
    )
    lines: list[Line] = []
    for title, found in parts:
        lines += [[Piece(title, "title")], *_keys(found), []]
    signs: Line = [Piece("✓", "ok"), Piece(" whole  "), Piece("✗", "bad"), Piece(" failed  ")]
    signs += [Piece("○", "warn"), Piece(" left by the program  "), Piece("·", "dim")]
    lines.append([*signs, Piece(" not known")])
    lines.append([Piece("tab goes to the next panel; a click on a heading sorts by it.", "dim")])
    return lines


def _keys(found: Iterable[keys.Key]) -> list[Line]:
    lines: list[Line] = []
    panels = [key for key in found if key.action.startswith("only")]
    for key in found:
        if key in panels:
            if key is panels[0]:
                names = "show only operations, requests, layers, machine, signs"
                lines.append([Piece("  1 … 5 ", "name"), Piece(f" {names}")])
            continue
        lines.append([Piece(f"  {key.shown:<6}", "name"), Piece(f" {key.meaning}")])
    return lines
