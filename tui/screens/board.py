"""The board: what renders now, every take with its state, and the take under the cursor; start, cancel, retake."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from appliance.library.forecast import forecast
from appliance.library.take import Status, Take
from appliance.measuring.result import Measured
from appliance.safe_text import clean
from appliance.shooting import requests as doing
from appliance.text_width import cells, cut
from models.errors import RushesError
from tui.live.messages import LibraryChanged, MachineSeen, Notice, Snapshot
from tui.live.watcher import Watcher, look_at_machine
from tui.screens.dialogs import Confirm, Page
from tui.widgets.facts import facts, key_table
from tui.widgets.take_list import TakeList
from tui.wording.take_lines import details, in_full, now_line

COMPACT_CELLS = 68  # below these the keys in the footer stand closer
DETAILS_CELLS = 48  # of the pane beside the list; desk.tcss says the same
EMPTY = "No takes yet.  Press n to choose a shot; some come with Rushes."
NOTHING_FOUND = "No take holds these words.  Press esc to see all."


class Board(Screen[None]):
    """The first and main screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n,s", "start", "New take"),
        Binding("x", "cancel", "Cancel"),
        Binding("r", "retake", "Retake"),
        Binding("slash,fullwidth_solidus,f3", "find", "Find", key_display="/"),
        Binding("escape", "clear", "All takes", show=False),
        Binding("question_mark,fullwidth_question_mark,f1", "help", "Help", key_display="?"),
        Binding("q,ctrl+q,f10", "leave", "Quit", key_display="q"),
    ]

    def __init__(
        self, clock: Callable[[], float] = time.time, look: Callable[[], MachineSeen] = look_at_machine
    ) -> None:
        super().__init__()
        self._clock = clock
        self._look = look
        self._watcher: Watcher | None = None
        self._snapshot: Snapshot | None = None
        self._machine = ""
        self._engine = "..."

    def compose(self) -> ComposeResult:
        """Header, what renders, the list beside or above the details, footer."""
        yield Static(id="head")
        yield Static(id="now")
        with Container(id="middle"):
            with Vertical(id="left"):
                yield Static(id="count")
                yield Input(placeholder="words of the slate, the action or the state; esc shows all", id="find")
                yield TakeList(self._clock, id="takes")
            with VerticalScroll(id="details", can_focus=False):
                yield Static(id="facts")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Paint first; the watcher brings the library a moment later."""
        self.query_one("#find", Input).cursor_blink = False
        self.query_one("#find").display = False
        self.query_one(TakeList).focus()
        self.set_interval(1.0, self._tick)
        self._draw()
        gone = None if self.app.is_headless else lambda: self.app.call_from_thread(self.app.exit)
        self._watcher = Watcher(self.post_message, gone, self._look)
        self._watcher.start()

    def on_unmount(self) -> None:
        """The thread ends with the screen."""
        if self._watcher is not None:
            self._watcher.stop()

    def on_resize(self) -> None:
        """Bars and rules follow the width."""
        self.query_one(Footer).compact = self.size.width < COMPACT_CELLS
        self._draw()

    @on(LibraryChanged)
    def _library_changed(self, message: LibraryChanged) -> None:
        self._snapshot = message.snapshot
        self.query_one(TakeList).show(message.snapshot.takes, hint=NOTHING_FOUND if message.snapshot.words else EMPTY)
        self._draw()

    @on(MachineSeen)
    def _machine_seen(self, message: MachineSeen) -> None:
        self._machine, self._engine = message.machine, message.engine
        self._draw_head()

    @on(Notice)
    def _told(self, message: Notice) -> None:
        text = clean(message.text)
        if message.failed:
            self.notify(text, severity="error", timeout=8, markup=False)
        else:
            self.notify(text, timeout=5, markup=False)

    @on(TakeList.Highlighted)
    def _highlighted(self) -> None:
        self._draw_details()

    @on(TakeList.Opened)
    def _opened(self, message: TakeList.Opened) -> None:
        take = message.take
        self.app.push_screen(Page(f"{take.slate}  #{take.id}", in_full(take, self._clock(), self._measures(take))))

    @on(Input.Changed, "#find")
    def _words_changed(self, event: Input.Changed) -> None:
        if self._watcher is not None:
            self._watcher.search(event.value.strip())

    @on(Input.Submitted, "#find")
    def _words_done(self) -> None:
        self.query_one(TakeList).focus()

    def action_start(self) -> None:
        """Choose a shot and queue it."""
        from tui.screens.new_take import Chosen, Start  # start-up

        def chosen(shot: Chosen | None) -> None:
            if shot is not None:
                self._do(doing.queue, *shot)

        self.app.push_screen(Start(), chosen)

    def action_cancel(self) -> None:
        """Cancel the take under the cursor; one that renders is asked about first."""
        take = self._current()
        if take is None:
            return
        if take.ended:
            self._told(Notice(f"{take.slate} is {take.status} already: nothing to cancel"))
        elif take.status is Status.QUEUED:
            self._do(doing.cancel, take.id)
        else:
            question = Confirm(f"Stop {take.slate}? What it has rendered so far is lost.", "Stop it", "Render on")

            def answered(yes: bool | None) -> None:
                if yes:
                    self._do(doing.cancel, take.id)

            self.app.push_screen(question, answered)

    def action_retake(self) -> None:
        """The direction under the cursor again, with a new seed."""
        take = self._current()
        if take is not None:
            self._do(doing.retake, take.id)

    def action_find(self) -> None:
        """Type words; the list narrows with every key."""
        find = self.query_one("#find", Input)
        find.display = True
        find.focus()

    def action_clear(self) -> None:
        """Back to every take."""
        find = self.query_one("#find", Input)
        find.value = ""
        find.display = False
        self.query_one(TakeList).focus()

    def action_help(self) -> None:
        """Every key of this screen, from the bindings themselves."""
        self.app.push_screen(Page("Keys of the board", key_table(type(self), TakeList)))

    def action_leave(self) -> None:
        """Close the desk; what renders goes on."""
        self.app.exit()

    @work(thread=True, exit_on_error=False)
    def _do(self, deed: Callable[..., str], *args: object) -> None:
        """Run a deed on a thread and tell how it went."""
        try:
            self.post_message(Notice(deed(*args)))
        except (RushesError, OSError) as error:
            self.post_message(Notice(str(error), failed=True))

    def _current(self) -> Take | None:
        return self.query_one(TakeList).current

    def _tick(self) -> None:
        """Countdowns move; an idle board sends nothing."""
        if self._snapshot and any(take.status is Status.RENDERING for take in self._snapshot.live):
            self._draw_now()
            self.query_one(TakeList).tick()
            self._draw_details()

    def _draw(self) -> None:
        self._draw_head()
        self._draw_now()
        self._draw_count()
        self._draw_details()

    def _draw_head(self) -> None:
        width = self.size.width
        title = " RUSHES  the board"
        machine = clean(self._machine)
        # What does not fit is left out from its end: the disk, then the machine. The engine always shows.
        rights = (f"{machine}   {self._engine} ", f"{machine.split('   ')[0]}   {self._engine} ", f"{self._engine} ")
        right = next((text for text in rights if cells(title) + cells(text) + 2 <= width), rights[-1])
        space = " " * max(1, width - cells(title) - cells(right))
        self.query_one("#head", Static).update(
            Content.assemble((" RUSHES", "bold $primary"), "  the board", space, (right, "$quiet"))
        )

    def _draw_now(self) -> None:
        going = [take for take in self._snapshot.live if take.status is Status.RENDERING] if self._snapshot else []
        now, width = self._clock(), self.size.width
        if not going:
            waiting = len(self._snapshot.live) if self._snapshot else 0
            text = f" {waiting} waiting for the engine" if waiting else " Nothing renders."
            content = Content.styled(text if self._snapshot else " ...", "$quiet")
        else:
            take = going[0]
            slate = f" NOW  {clean(take.slate)}"
            what = cut(f"  {clean(take.action)}", width - cells(slate))  # a second line would push the bar out
            done, to_do, words = now_line(take, now, width)
            content = Content.assemble((slate, "bold"), what, "\n      ", (done, "$accent"), (to_do, "$quiet"), words)
        self.query_one("#now", Static).update(content)

    def _draw_count(self) -> None:
        snapshot = self._snapshot
        if snapshot is None:
            text = " TAKES   reading the library ..."
        else:
            waiting = sum(take.status is Status.QUEUED for take in snapshot.live)
            held = f'   with "{clean(snapshot.words)}"' if snapshot.words else ""
            left = forecast(snapshot.live, self._clock())
            done = f"   done about {left.at(self._clock())}" if left.takes and not left.unknown else ""
            text = f" TAKES   {waiting} waiting   {len(snapshot.ended)} ended{done}{held}"
        self.query_one("#count", Static).update(Content.styled(text, "bold $quiet"))

    def _draw_details(self) -> None:
        take = self._current()
        self.query_one("#details").set_class(take is None, "empty")
        if take is None:
            return
        title = Content.styled(f"{clean(take.slate)}  #{take.id}", "bold")
        width = (DETAILS_CELLS if self.has_class("-wide") else self.size.width) - 4
        rows = details(take, self._clock(), self._measures(take))
        self.query_one("#facts", Static).update(Content("\n").join([title, facts(rows, width)]))

    def _measures(self, take: Take) -> tuple[Measured, ...]:
        """What was measured on a take."""
        return self._snapshot.measures.get(take.id, ()) if self._snapshot else ()
