"""Choose a shot file by its path, from the current folder or from the examples, read its quote, and queue it.

Where models have been imported, another than the shot's can be chosen.
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

Chosen = tuple[Path, str | None]  # a shot file, and the model to shoot it with; None: the one it states
OFFERS = 200  # shot files of the current folder that are listed


class Start(ModalScreen[Chosen | None]):
    """Returns the shot to queue and its model, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+g", "dismiss(None)", "Back", show=False),
        Binding("f9,ctrl+j", "queue", "Queue", show=False),
        Binding("f4,ctrl+t", "model", "Model", show=False),
        Binding("tab", "app.focus_next", show=False),
    ]

    class Quoted(Message):
        """The quote of a shot file with a model, or why it cannot be shot."""

        def __init__(self, asked: tuple[str, str | None], rows: list[tuple[str, str]], fits: bool) -> None:
            super().__init__()
            self.asked, self.rows, self.fits = asked, rows, fits

    class Models(Message):
        """Names of the models that are installed."""

        def __init__(self, names: list[str]) -> None:
            super().__init__()
            self.names = names

    def __init__(self) -> None:
        super().__init__()
        self._offers = offers(Path.cwd())
        self._models: list[str | None] = [None]
        self._model: str | None = None
        self._fits: tuple[str, str | None] = ("", None)  # the path and model whose quote fits
        self._wanted: tuple[str, str | None] = ("", None)  # enter was pressed on these before their quote came

    def compose(self) -> ComposeResult:
        """Path, shot files to pick, model, quote, keys."""
        with Vertical(id="start"):
            yield Static(Content("New take: choose a shot"), classes="title")
            yield Input(placeholder="path of a shot file (.toml)", id="path")
            yield OptionList(*(Option(Content(clean(name))) for name, _ in self._offers), id="offers")
            yield Static(Content(""), id="model")
            yield Static(Content(""), id="quote")
            yield Static(Content("enter queues it   tab moves to the path   esc closes"), classes="hint")

    def on_mount(self) -> None:
        """Focus the list: most people pick from it."""
        self.query_one("#path", Input).cursor_blink = False
        self.query_one("#model").display = False
        self.query_one("#offers" if self._offers else "#path").focus()
        self._find_models()

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
        """Read and plan on a thread: the first time it loads the planner, which takes a moment."""
        from appliance.shooting.requests import Overrides, quote  # start-up

        try:
            (quoted,) = quote([Path(asked[0]).expanduser()], Overrides(model=asked[1]))
            self.post_message(self.Quoted(asked, quoted.rows(), quoted.fits))
        except (RushesError, OSError) as error:
            self.post_message(self.Quoted(asked, [("refused", str(error))], False))

    @on(Quoted)
    def _quoted(self, message: Quoted) -> None:
        if message.asked != self._asked:
            return  # an older request
        self._fits = message.asked if message.fits else ("", None)
        if message.fits and message.asked == self._wanted:
            self._done(message.asked)
            return
        self.query_one("#quote", Static).update(facts(message.rows, min(100, int(self.size.width * 0.96)) - 8))

    def action_queue(self) -> None:
        """Queue the shot if its quote fits; otherwise the quote already shows why not."""
        self._wanted = self._asked
        if self._wanted[0] and self._fits == self._wanted:
            self._done(self._fits)

    def _done(self, asked: tuple[str, str | None]) -> None:
        self.dismiss((Path(asked[0]).expanduser(), asked[1]))

    @work(thread=True, group="models", exit_on_error=False)
    def _find_models(self) -> None:
        """List the installed models on a thread: they may be on a slow disk."""
        from appliance.catalog.model import names  # start-up

        self.post_message(self.Models(names()))

    @on(Models)
    def _models_seen(self, message: Models) -> None:
        self._models = [None, *message.names] if len(message.names) > 1 else [None]
        self._show_model()

    def action_model(self) -> None:
        """Switch to the next installed model."""
        if len(self._models) > 1:
            self._model = self._models[(self._models.index(self._model) + 1) % len(self._models)]
            self._show_model()
            self._quote_again()

    def _show_model(self) -> None:
        line, count = self.query_one("#model", Static), len(self._models) - 1
        line.display = count > 0
        name = clean(self._model) if self._model else "as the shot states"
        line.update(Content.assemble("model  ", (name, "bold"), (f"   F4 switches to the next of {count}", "$quiet")))


def offers(folder: Path) -> list[tuple[str, Path]]:
    """(label, path) of the shot files in a folder, then of the examples that ship with Rushes."""
    from appliance.shooting.quote import examples  # start-up

    here = sorted(path for path in folder.glob("*.toml") if path.name != "pyproject.toml")[:OFFERS]
    return [(f"./{path.name}", path) for path in here] + [(f"example  {path.stem}", path) for path in examples()]
