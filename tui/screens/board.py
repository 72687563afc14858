"""The board: what renders now, every take with its state, and the details of the take under the cursor."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
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
from appliance.shooting.take_words import cancel_words
from appliance.text_width import cells, cut
from models.errors import RushesError
from tui.live.messages import LibraryChanged, MachineSeen, Notice, Snapshot
from tui.live.watcher import Watcher, probe_machine
from tui.screens.dialogs import Confirm, Page
from tui.widgets.facts import facts, key_table
from tui.widgets.take_list import TakeList
from tui.wording.take_lines import details, in_full, now_line

COMPACT_CELLS = 68  # in narrower terminals the footer's keys are set closer
DETAILS_CELLS = 48  # width of the details pane next to the list, as in desk.tcss
EMPTY = "No takes yet.  Press n to choose a shot; Rushes ships with examples."
NOTHING_FOUND = "No take matches.  Press esc to see all takes."


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
        self, clock: Callable[[], float] = time.time, probe: Callable[[], MachineSeen] = probe_machine
    ) -> None:
        super().__init__()
        self._clock = clock
        self._probe = probe
        self._watcher: Watcher | None = None
        self._snapshot: Snapshot | None = None
        self._machine = ""
        self._daemon = "..."

    def compose(self) -> ComposeResult:
        """Header, rendering take, list, details next to or below it, footer."""
        yield Static(id="head")
        yield Static(id="now")
        with Container(id="middle"):
            with Vertical(id="left"):
                yield Static(id="count")
                yield Input(placeholder="words in the slate, action or state; esc shows all takes", id="find")
                yield TakeList(self._clock, id="takes")
            with VerticalScroll(id="details", can_focus=False):
                yield Static(id="facts")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Start the watcher thread after the first paint; it posts the library a moment later."""
        self.query_one("#find", Input).cursor_blink = False
        self.query_one("#find").display = False
        self.query_one(TakeList).focus()
        self.set_interval(1.0, self._tick)
        self._draw()
        gone = None if self.app.is_headless else lambda: self.app.call_from_thread(self.app.exit)
        self._watcher = Watcher(self.post_message, gone, self._probe)
        self._watcher.start()

    def on_unmount(self) -> None:
        """Stop the watcher thread."""
        if self._watcher is not None:
            self._watcher.stop()

    def on_resize(self) -> None:
        """Fit the footer and the progress bar to the width."""
        self.query_one(Footer).compact = self.size.width < COMPACT_CELLS
        self._draw()

    @on(LibraryChanged)
    def _library_changed(self, message: LibraryChanged) -> None:
        self._snapshot = message.snapshot
        self.query_one(TakeList).show(message.snapshot.takes, hint=NOTHING_FOUND if message.snapshot.words else EMPTY)
        self._draw()

    @on(MachineSeen)
    def _machine_seen(self, message: MachineSeen) -> None:
        self._machine, self._daemon = message.machine, message.daemon
        self._draw_head()

    @on(Notice)
    def _notice(self, message: Notice) -> None:
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
                self._queue(*shot)

        self.app.push_screen(Start(), chosen)

    def action_cancel(self) -> None:
        """Cancel the take under the cursor; if it renders, ask first."""
        take = self._current()
        if take is None:
            return
        if take.ended:
            self._notice(Notice(f"{take.slate} is already {take.status}: there is nothing to cancel"))
        elif take.status is Status.QUEUED:
            self._cancel(take.id)
        else:
            question = Confirm(
                f"Stop {take.slate}? What it has rendered so far is lost.", "Stop it", "Continue rendering"
            )

            def answered(yes: bool | None) -> None:
                if yes:
                    self._cancel(take.id)

            self.app.push_screen(question, answered)

    def action_retake(self) -> None:
        """Queue the direction of the take under the cursor again, with a new seed."""
        take = self._current()
        if take is not None:
            self._retake(take.id)

    def action_find(self) -> None:
        """Search: the list narrows with every key."""
        find = self.query_one("#find", Input)
        find.display = True
        find.focus()

    def action_clear(self) -> None:
        """End the search and show every take."""
        find = self.query_one("#find", Input)
        find.value = ""
        find.display = False
        self.query_one(TakeList).focus()

    def action_help(self) -> None:
        """Every key of this screen, from its bindings."""
        self.app.push_screen(Page("Keys of the board", key_table(type(self), TakeList)))

    def action_leave(self) -> None:
        """Close the desk; the daemon continues to render."""
        self.app.exit()

    @work(thread=True, exit_on_error=False)
    def _queue(self, path: Path, model: str | None) -> None:
        from appliance.shooting import requests  # start-up

        with self._reported():
            (queued,) = requests.queue([path], requests.Overrides(model=model))
            self.post_message(Notice(f"{queued.take.slate}  queued"))

    @work(thread=True, exit_on_error=False)
    def _retake(self, take_id: int) -> None:
        from appliance.shooting import requests  # start-up

        with self._reported():
            self.post_message(Notice(f"{requests.retake(take_id).take.slate}  queued, with a new seed"))

    @work(thread=True, exit_on_error=False)
    def _cancel(self, take_id: int) -> None:
        from appliance.shooting import requests  # start-up

        with self._reported():
            take = requests.cancel(take_id)
            self.post_message(Notice(f"{take.slate}  {cancel_words(take)}"))

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """An error of a request is shown as a notice. Requests run on threads, because they wait for the disk."""
        try:
            yield
        except (RushesError, OSError) as error:
            self.post_message(Notice(str(error), failed=True))

    def _current(self) -> Take | None:
        return self.query_one(TakeList).current

    def _tick(self) -> None:
        """Redraw countdowns; an idle board sends nothing to the terminal."""
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
        # In a narrow terminal the disk is left out, then the machine; the daemon is always shown.
        rights = (f"{machine}   {self._daemon} ", f"{machine.split('   ')[0]}   {self._daemon} ", f"{self._daemon} ")
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
            text = f" {waiting} queued, waiting for the daemon" if waiting else " Nothing is rendering."
            content = Content.styled(text if self._snapshot else " ...", "$quiet")
        else:
            take = going[0]
            slate = f" NOW  {clean(take.slate)}"
            what = cut(
                f"  {clean(take.action)}", width - cells(slate)
            )  # one line only: a second one would hide the bar
            done, to_do, words = now_line(take, now, width)
            content = Content.assemble((slate, "bold"), what, "\n      ", (done, "$accent"), (to_do, "$quiet"), words)
        self.query_one("#now", Static).update(content)

    def _draw_count(self) -> None:
        snapshot = self._snapshot
        if snapshot is None:
            text = " TAKES   reading the library ..."
        else:
            waiting = sum(take.status is Status.QUEUED for take in snapshot.live)
            search = f'   matching "{clean(snapshot.words)}"' if snapshot.words else ""
            left = forecast(snapshot.live, self._clock())
            done = f"   done at about {left.at(self._clock())}" if left.takes and not left.unknown else ""
            text = f" TAKES   {waiting} queued   {len(snapshot.ended)} ended{done}{search}"
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
