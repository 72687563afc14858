"""Dialogs: a question, and a page of facts (a take in full, the keys)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from appliance.safe_text import clean
from tui.widgets.facts import facts


class Confirm(ModalScreen[bool]):
    """One question, asked only before what cannot be undone."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes", show=False),
        Binding("n,escape,ctrl+g,q", "answer(False)", "No", show=False),
    ]

    def __init__(self, question: str, yes: str, no: str) -> None:
        super().__init__()
        self._question, self._yes, self._no = question, yes, no

    def compose(self) -> ComposeResult:
        """The question and its two answers; focus starts on the one that changes nothing."""
        with Vertical(classes="dialog"):
            yield Static(Content(clean(self._question)))
            with Horizontal(classes="buttons"):
                yield Button(Content(f"{self._no} (n)"), id="no", compact=True)
                yield Button(Content(f"{self._yes} (y)"), id="yes", variant="error", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        """Answer by key."""
        self.dismiss(answer)


class Page(ModalScreen[None]):
    """A page of facts to read: a take in full, or the keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,ctrl+g", "dismiss", "Close", show=False),
        Binding("j,down", "scroll(1)", show=False),
        Binding("k,up", "scroll(-1)", show=False),
    ]

    def __init__(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._title, self._rows = clean(title), rows

    def compose(self) -> ComposeResult:
        """Title, rows, and the keys that close it."""
        with Vertical(classes="page"):
            yield Static(Content(self._title), classes="title")
            with VerticalScroll():
                yield Static(id="rows")
            yield Static(Content("esc or q closes"), classes="hint")

    def on_mount(self) -> None:
        """Focus the rows, so that the arrow keys scroll them."""
        self.query_one(VerticalScroll).focus()

    def on_resize(self) -> None:
        """Wrap the rows to the width of the page."""
        room = min(100, int(self.size.width * 0.96)) - 8  # width of the page without border, padding and scroll bar
        self.query_one("#rows", Static).update(facts(self._rows, room))

    def action_scroll(self, by: int) -> None:
        """A line up or down."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)
