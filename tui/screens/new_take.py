"""Choose a shot file: type its path or pick one that lies here or ships with Rushes, read its quote, queue it.

Where the house has models of its own, another than the shot's can be chosen.
"""

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

from appliance.safe_text import clean
from models.errors import RushesError
from tui.widgets.facts import facts

Chosen = tuple[Path, str | None]  # a shot file, and the model to shoot it with; None: as it says itself
OFFERS = 200  # shot files of the current folder that are offered


class Start(ModalScreen[Chosen | None]):
    """Returns the shot to queue and with which model, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+g", "dismiss(None)", "Back", show=False),
        Binding("f9,ctrl+j", "queue", "Queue", show=False),
        Binding("f4,ctrl+t", "model", "Model", show=False),
        Binding("tab", "app.focus_next", show=False),
    ]

    class Quoted(Message):
        """What the shot at a path would cost with a model, or why it cannot be shot."""

        def __init__(self, asked: tuple[str, str | None], rows: list[tuple[str, str]], fits: bool) -> None:
            super().__init__()
            self.asked, self.rows, self.fits = asked, rows, fits

    class Models(Message):
        """The models that are here."""

        def __init__(self, names: list[str]) -> None:
            super().__init__()
            self.names = names

    def __init__(self) -> None:
        super().__init__()
        self._offers = offers(Path.cwd())
        self._models: list[str | None] = [None]
        self._model: str | None = None
        self._fits: tuple[str, str | None] = ("", None)  # the path and model whose quote says yes
        self._wanted: tuple[str, str | None] = ("", None)  # what enter was pressed on before its quote had come

    def compose(self) -> ComposeResult:
        """Path, offers, quote, and what to press."""
        with Vertical(id="start"):
            yield Static(Content("A new take: which shot?"), classes="title")
            yield Input(placeholder="path of a shot file (.toml)", id="path")
            yield OptionList(*(Option(Content(clean(name))) for name, _ in self._offers), id="offers")
            yield Static(Content(""), id="model")
            yield Static(Content(""), id="quote")
            yield Static(Content("enter queues it   tab types a path   esc leaves"), classes="hint")

    def on_mount(self) -> None:
        """Offers first: most people pick."""
        self.query_one("#path", Input).cursor_blink = False
        self.query_one("#model").display = False
        self.query_one("#offers" if self._offers else "#path").focus()
        self._look_for_models()

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
    def _changed(self) -> None:
        self._quote_again()

    def _quote_again(self) -> None:
        self._fits = ("", None)
        if self._asked[0]:
            self._quote(self._asked)
        else:
            self.query_one("#quote", Static).update(Content(""))

    @property
    def _asked(self) -> tuple[str, str | None]:
        """The path as it is typed, and the model."""
        return self.query_one("#path", Input).value.strip(), self._model

    @work(thread=True, exclusive=True, group="quote", exit_on_error=False)
    def _quote(self, asked: tuple[str, str | None]) -> None:
        """Read and plan on a thread: it loads numpy the first time."""
        from appliance.shooting.quote import quote  # start-up

        try:
            quoted = quote(Path(asked[0]).expanduser(), asked[1])
            self.post_message(self.Quoted(asked, quoted.rows(), quoted.fits))
        except (RushesError, OSError) as error:
            self.post_message(self.Quoted(asked, [("no", str(error))], False))

    @on(Quoted)
    def _quoted(self, message: Quoted) -> None:
        if message.asked != self._asked:
            return  # the quote of what was asked before
        self._fits = message.asked if message.fits else ("", None)
        if message.fits and message.asked == self._wanted:
            self._done(message.asked)
            return
        self.query_one("#quote", Static).update(facts(message.rows, min(100, int(self.size.width * 0.96)) - 8))

    def action_queue(self) -> None:
        """Queue what has a quote that says yes; otherwise the quote already says why not."""
        self._wanted = self._asked
        if self._wanted[0] and self._fits == self._wanted:
            self._done(self._fits)

    def _done(self, asked: tuple[str, str | None]) -> None:
        self.dismiss((Path(asked[0]).expanduser(), asked[1]))

    @work(thread=True, group="models", exit_on_error=False)
    def _look_for_models(self) -> None:
        """The packages of the house, on a thread: they may lie on a slow disk."""
        from appliance.catalog.model import names  # start-up

        self.post_message(self.Models(names()))

    @on(Models)
    def _models_seen(self, message: Models) -> None:
        self._models = [None, *message.names] if len(message.names) > 1 else [None]
        self._show_model()

    def action_model(self) -> None:
        """The next of the models that are here."""
        if len(self._models) > 1:
            self._model = self._models[(self._models.index(self._model) + 1) % len(self._models)]
            self._show_model()
            self._quote_again()

    def _show_model(self) -> None:
        line, count = self.query_one("#model", Static), len(self._models) - 1
        line.display = count > 0
        name = clean(self._model) if self._model else "as the shot says"
        line.update(Content.assemble("model  ", (name, "bold"), (f"   F4 takes the next of {count}", "$quiet")))


def offers(folder: Path) -> list[tuple[str, Path]]:
    """(what to show, path) of the shot files in a folder, then of those that ship with Rushes."""
    from appliance.shooting.quote import examples  # start-up

    here = sorted(path for path in folder.glob("*.toml") if path.name != "pyproject.toml")[:OFFERS]
    return [(f"./{path.name}", path) for path in here] + [(f"example  {path.stem}", path) for path in examples()]
