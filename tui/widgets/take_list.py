"""The list of takes: one row each. Only visible rows are drawn, so ten thousand takes cost no more than forty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from appliance.library.take import Take
from appliance.safe_text import clean
from appliance.text_width import cells, cut, pad
from appliance.units import when
from tui.wording.take_lines import STATE_CELLS, state, time_words

STYLES = ("head", "cursor", "waiting", "render", "done", "failed", "quiet")


class TakeList(ScrollView, can_focus=True):
    """Takes with a cursor. The cursor stays on its take when rows above it are added or removed."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"takelist--{name}" for name in STYLES}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+u", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+d", "page(1)", "Page down", show=False),
        Binding("home,g", "edge(0)", "First", show=False),
        Binding("end,G", "edge(1)", "Last", show=False),
        Binding("enter", "open", "Details"),
    ]
    cursor: reactive[int] = reactive(0, repaint=False)

    class Highlighted(Message):
        """The cursor moved to another take, or the take under it changed."""

        def __init__(self, take: Take | None) -> None:
            super().__init__()
            self.take = take

    class Opened(Message):
        """The take under the cursor was opened."""

        def __init__(self, take: Take) -> None:
            super().__init__()
            self.take = take

    def __init__(self, clock: Callable[[], float], id: str | None = None) -> None:
        super().__init__(id=id)
        self._clock = clock
        self._takes: tuple[Take, ...] = ()
        self._hint = ""

    @property
    def current(self) -> Take | None:
        """The take under the cursor."""
        return self._takes[self.cursor] if self.cursor < len(self._takes) else None

    def show(self, takes: Sequence[Take], hint: str = "") -> None:
        """Replace the rows; `hint` is shown when there are none."""
        self._hint = hint
        here = self.current
        self._takes = tuple(takes)
        ids = [take.id for take in self._takes]
        if here is not None and self.cursor > 0 and here.id in ids:
            self.cursor = ids.index(here.id)
        else:  # the cursor has not been moved, or its take is gone: stay at the top, where the newest work is
            self.cursor = max(0, min(self.cursor, len(ids) - 1))
        self.virtual_size = Size(self.size.width, len(ids))
        self.refresh()
        self.post_message(self.Highlighted(self.current))

    def tick(self) -> None:
        """Redraw the rows with a countdown."""
        for y, take in enumerate(self._takes):
            if take.ended:
                break
            self._refresh_row(y)

    def on_resize(self, event: events.Resize) -> None:
        """Rows are as wide as the widget."""
        self.virtual_size = Size(event.size.width, len(self._takes))

    def watch_cursor(self, old: int, new: int) -> None:
        """Redraw the two rows and post Highlighted."""
        self._refresh_row(old)
        self._refresh_row(new)
        if self.size.height:
            self.scroll_to_region(Region(0, new, 1, 1), animate=False)
        self.post_message(self.Highlighted(self.current))

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor, a second one opens."""
        row = event.y + self.scroll_offset.y
        if row < len(self._takes):
            self.cursor = row
            if event.chain == 2:
                self.action_open()

    def action_move(self, by: int) -> None:
        """One row up or down."""
        self.cursor = max(0, min(len(self._takes) - 1, self.cursor + by))

    def action_page(self, by: int) -> None:
        """One page up or down."""
        self.action_move(by * max(1, self.size.height - 1))

    def action_edge(self, last: int) -> None:
        """The first or the last row."""
        self.cursor = (len(self._takes) - 1) * last if self._takes else 0

    def action_open(self) -> None:
        """Show the take under the cursor in full."""
        if self.current is not None:
            self.post_message(self.Opened(self.current))

    def render_line(self, y: int) -> Strip:
        """One row of the list."""
        row, width = y + self.scroll_offset.y, self.size.width
        if row >= len(self._takes):
            text = f" {cut(self._hint, width - 1)}" if y == 1 and not self._takes else ""
            return Strip([Segment(text, self.rich_style)]).adjust_cell_length(width, self.rich_style)
        take = self._takes[row]
        words, tone = state(take, self._clock())
        here = row == self.cursor
        base = self.rich_style + (self._tone("cursor") if here else Style())
        mark = ">" if here and self.has_focus else "-" if here else " "
        left = [
            (f"{mark} {pad(cut(clean(take.slate), 9), 9)} ", base),
            (f"{words:<{STATE_CELLS}} ", base + self._tone(tone)),
        ]
        time_text = time_words(take, self._clock())
        moment = when(take.ended_at or take.started_at or take.queued_at, self._clock())[-5:]
        right = f" {moment:>5} {time_text:>13} " if width >= 60 else ""
        room = max(0, width - sum(cells(text) for text, _ in left) - cells(right))
        quiet = base + self._tone("quiet") if take.ended and not here else base
        segments = [Segment(text, style) for text, style in left]
        segments += [Segment(pad(cut(clean(take.action), room), room), quiet), Segment(right, quiet)]
        return Strip(segments).adjust_cell_length(width, base)

    def on_focus(self) -> None:
        """Redraw the row: the mark before it shows the focus, for terminals without colour."""
        self._refresh_row(self.cursor)

    def on_blur(self) -> None:
        """See on_focus."""
        self._refresh_row(self.cursor)

    def _tone(self, name: str) -> Style:
        return self.get_component_rich_style(f"takelist--{name}", partial=True)

    def _refresh_row(self, row: int) -> None:
        self.refresh(Region(0, row - self.scroll_offset.y, self.size.width, 1))
