"""Follow takes until they end: progress bars with a countdown on a terminal, one line a change anywhere else."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from appliance.library.library import Library
from appliance.library.progress import progress
from appliance.library.take import Status, Take
from appliance.safe_text import clean
from appliance.shooting.take_words import ending_words
from appliance.text_width import cut, pad

POLL_S = 0.1  # between reads of the library's data version, which cost microseconds
REDRAW_S = 0.5  # between countdowns while nothing changed
KEEP_ALIVE_S = 5.0  # between checks that a daemon runs
LIVE_ROWS = 8


def follow(library: Library, ids: Sequence[int], keep_alive: Callable[[], object], out: TextIO) -> list[Take]:
    """Wait until every take of `ids` has ended and return them in that order.

    `keep_alive` is called every KEEP_ALIVE_S seconds to make sure that a daemon runs. On Ctrl-C (KeyboardInterrupt) the
    takes that have not ended are asked to cancel, and it is raised again.
    """
    show: _Bars | _Lines = _Bars(out) if out.isatty() else _Lines(out)
    version, drawn, alive = None, 0.0, time.monotonic()
    takes = _read(library, ids)
    try:
        while True:
            now = time.monotonic()
            changed = library.data_version()
            if changed != version or now - drawn >= REDRAW_S:
                version, drawn = changed, now
                takes = _read(library, ids)
                show.draw(takes)
                if all(take.ended for take in takes):
                    return takes
            if now - alive >= KEEP_ALIVE_S:
                alive = now
                keep_alive()
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        show.close()
        for take in takes:
            if not take.ended:
                library.request_cancel(take.id)
                print(f"cancelling {clean(take.slate)}", file=out, flush=True)
        raise


def ending(take: Take) -> str:
    """How a take ended, in one line."""
    return clean(f"{take.slate}  {ending_words(take)}")


def _read(library: Library, ids: Sequence[int]) -> list[Take]:
    return [library.take(str(id)) for id in ids]


class _Bars:
    """Progress bars at the bottom of a terminal, redrawn in place; the lines of ended takes scroll up above them."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.live = 0  # lines that the next draw replaces
        self.printed: set[int] = set()  # ids of ended takes

    def draw(self, takes: Sequence[Take]) -> None:
        """Replace the live lines."""
        columns = shutil.get_terminal_size().columns
        over = [take for take in takes if take.ended and take.id not in self.printed]
        self.printed.update(take.id for take in over)
        going = [take for take in takes if not take.ended]
        rows = [ending(take) for take in over]
        now = time.time()
        rows += [cut(self._row(take, now, columns), columns - 1) for take in going[:LIVE_ROWS]]
        if len(going) > LIVE_ROWS:
            rows.append(f"and {len(going) - LIVE_ROWS} more waiting")
        up = f"\x1b[{self.live}A" if self.live else ""
        self.out.write(f"{up}\r\x1b[J" + "".join(f"{row}\n" for row in rows))
        self.out.flush()
        self.live = len(rows) - len(over)

    def close(self) -> None:
        """Leave the lines that are shown."""
        self.live = 0

    def _row(self, take: Take, now: float, columns: int) -> str:
        at = progress(take, now)
        slate = pad(clean(take.slate), 8)
        if take.status is Status.QUEUED:
            return f"{slate} queued"
        return (
            f"{slate} {at.bar(min(40, max(12, columns - 46)))} {at.fraction:4.0%}  {pad(at.words, 16)} {at.left} left"
        )


class _Lines:
    """One line for each change, for logs, pipes and scripts."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.printed: dict[int, str] = {}  # by take, its last line

    def draw(self, takes: Sequence[Take]) -> None:
        """Print the takes that changed."""
        for take in takes:
            if take.ended:
                line = ending(take)
            else:
                line = f"{clean(take.slate)}  {clean(progress(take, time.time()).words)}"
            if self.printed.get(take.id) != line:
                self.printed[take.id] = line
                print(line, file=self.out, flush=True)

    def close(self) -> None:
        """Nothing is shown that must be left."""


def progress_stream(json: bool) -> TextIO:
    """Where progress goes: stdout, or stderr when stdout carries one JSON document."""
    return sys.stderr if json else sys.stdout
