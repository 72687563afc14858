"""A house's checkpoint is brought in: the importing process is started, followed and, when it must, ended.

The process is models/importing/__main__.py; torch is loaded there and nowhere here. What it had done when it was ended
is kept, and the same command goes on.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from appliance import paths
from appliance import processes as process
from appliance.library.progress import Progress
from appliance.safe_text import one_line
from appliance.text_width import cut
from appliance.units import bytes_words
from models.errors import BadInput, RushesError

GRACE_S = 3.0  # to end in, before it is killed
KEPT = "what is done is kept, and the same command goes on"
TENTHS = 10  # lines of progress where nobody looks


def bring_in(options: Sequence[str], files: Sequence[str], out: TextIO) -> dict[str, Any]:
    """Import files with options of models/importing/__main__.py, and tell of it; returns what it says at its end.

    Raises BadInput or RushesError with its sentence, and RushesError when it dies.
    """
    folder, log = paths.models(), paths.home() / "import.log"
    folder.mkdir(mode=0o770, parents=True, exist_ok=True)
    command = process.module_command("models.importing", "--with-parent", *options, "--", str(folder), *files)
    with open(log, "wb") as errors:
        child = process.start_child(command, errors.fileno())
    show, last = Shown(out), {}
    try:
        for event in _events(child):
            last = event
            show.event(event)
    except KeyboardInterrupt:
        show.close()
        print(f"stopped: {KEPT}", file=out, flush=True)
        raise
    finally:
        status = process.end(child, GRACE_S)
    show.close()
    if last.get("event") == "done":
        return last
    if last.get("event") == "error":
        raise (BadInput if last.get("code") == BadInput.exit_code else RushesError)(one_line(str(last["text"]), 2000))
    raise RushesError(f"the import {process.exit_words(status)}: {KEPT}; its last words are in {log}")


def _events(child: Any) -> Iterator[dict[str, Any]]:
    """What the process says, line by line, until it leaves. Raises RushesError for what is no event."""
    for line in child.stdout:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise RushesError("the importing process says something that is no report; see import.log in the house")
        yield event


class Shown:
    """Events as lines, and progress as a bar where there is a terminal."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._bar = out, False
        self._began: dict[str, tuple[float, int]] = {}  # of each kind of work: when, and how much was done before
        self._told: dict[str, int] = {}

    def event(self, event: dict[str, Any]) -> None:
        """Show one."""
        match event.get("event"):
            case "found":
                self._line(f"{event['part']}: {event['path']} ({event['layout']} layout, {event['stored']})")
            case "left out":
                self._line(f"left out: {event['text']}")
            case "resumed":
                self._line(f"goes on: {bytes_words(event['done'])} of {bytes_words(event['of'])} were written before")
            case "begun":
                way = "--distilled base if it was not distilled" if event["passes"] == 1 else "--distilled if it was"
                steps = f"{event['steps']} steps a film (say {way})"
                self._line(f"makes {event['card']}, {bytes_words(event['bytes'])}, {steps}")
            case "progress":
                self._progress(str(event["what"]), int(event["done"]), int(event["of"]))

    def close(self) -> None:
        """Nothing is left on a line that is not whole."""
        if self._bar:
            print(file=self._out, flush=True)
        self._bar = False

    def _progress(self, what: str, done: int, total: int) -> None:
        kind = what.split()[0] if " " in what else "converting"
        began, before = self._began.setdefault(kind, (time.monotonic(), done))
        share = done / total if total else 1.0
        if not self._out.isatty():
            tenth = int(share * TENTHS)
            if self._told.setdefault(kind, -1) < tenth:
                self._told[kind] = tenth
                self._line(f"{kind} {share:.0%}")
            return
        passed, made = time.monotonic() - began, done - before
        at = Progress(share, passed * (total - done) / made if made > 0 else None, what)
        columns = shutil.get_terminal_size().columns
        row = f"{at.bar(min(40, max(12, columns - 50)))} {at.fraction:4.0%}  {at.left} left  {one_line(at.words)}"
        self._out.write(f"\r\x1b[K{cut(row, columns - 1)}")
        self._out.flush()
        self._bar = True

    def _line(self, text: str) -> None:
        if self._bar:
            self._out.write("\r\x1b[K")
            self._bar = False
        print(one_line(text, 1000), file=self._out, flush=True)
