"""Choose a shot file: type its path or pick one that lies here or ships with Rushes, read its quote, queue it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from appliance.text import clean
from models.errors import RushesError
from tui.dialogs import facts

OFFERS = 200  # shot files of the current folder that are offered


class Start(ModalScreen[Path | None]):
    """Returns the path of the shot to queue, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+g", "dismiss(None)", "Back", show=False),
        Binding("f9,ctrl+j", "queue", "Queue", show=False),
        Binding("tab", "app.focus_next", show=False),
    ]

    class Quoted(Message):
        """What the shot at a path would cost, or why it cannot be shot."""

        def __init__(self, path: str, rows: list[tuple[str, str]], fits: bool) -> None:
            super().__init__()
            self.path, self.rows, self.fits = path, rows, fits

    def __init__(self) -> None:
        super().__init__()
        self._offers = offers(Path.cwd())
        self._fits = ""  # the path whose quote says yes
        self._wanted = ""  # the path that enter was pressed on before its quote had come

    def compose(self) -> ComposeResult:
        """Path, offers, quote, and what to press."""
        with Vertical(id="start"):
            yield Static(Content("A new take: which shot?"), classes="title")
            yield Input(placeholder="path of a shot file (.toml)", id="path")
            yield OptionList(*(Option(Content(clean(name))) for name, _ in self._offers), id="offers")
            yield Static(Content(""), id="quote")
            yield Static(Content("enter queues it   tab types a path   esc leaves"), classes="hint")

    def on_mount(self) -> None:
        """Offers first: most people pick."""
        self.query_one("#path", Input).cursor_blink = False
        self.query_one("#offers" if self._offers else "#path").focus()

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        self.query_one("#path", Input).value = str(self._offers[event.option_index][1])

    @on(OptionList.OptionSelected)
    def _selected(self) -> None:
        self.action_queue()

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.action_queue()

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        self._fits = ""
        if event.value.strip():
            self._quote(event.value.strip())
        else:
            self.query_one("#quote", Static).update(Content(""))

    @work(thread=True, exclusive=True, group="quote", exit_on_error=False)
    def _quote(self, path: str) -> None:
        """Read and plan on a thread: it loads numpy the first time."""
        from appliance.quoting import quote

        try:
            quoted = quote(Path(path).expanduser())
            self.post_message(self.Quoted(path, quoted.rows(), quoted.fits))
        except (RushesError, OSError) as error:
            self.post_message(self.Quoted(path, [("no", str(error))], False))

    @on(Quoted)
    def _quoted(self, message: Quoted) -> None:
        if message.path != self.query_one("#path", Input).value.strip():
            return  # the quote of what was typed before
        self._fits = message.path if message.fits else ""
        if message.fits and message.path == self._wanted:
            self.dismiss(Path(message.path).expanduser())
            return
        self.query_one("#quote", Static).update(facts(message.rows, min(100, int(self.size.width * 0.96)) - 8))

    def action_queue(self) -> None:
        """Queue what has a quote that says yes; otherwise the quote already says why not."""
        self._wanted = self.query_one("#path", Input).value.strip()
        if self._fits and self._fits == self._wanted:
            self.dismiss(Path(self._fits).expanduser())


def offers(folder: Path) -> list[tuple[str, Path]]:
    """(what to show, path) of the shot files in a folder, then of those that ship with Rushes."""
    from appliance.quoting import examples

    here = sorted(path for path in folder.glob("*.toml") if path.name != "pyproject.toml")[:OFFERS]
    return [(f"./{path.name}", path) for path in here] + [(f"example  {path.stem}", path) for path in examples()]
