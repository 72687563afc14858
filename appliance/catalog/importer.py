"""Import a checkpoint: start the importing process, show its progress, and end it on interruption.

The process is models/importing/__main__.py; only it loads torch. Finished work is kept, and the same command resumes.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from appliance import paths, processes
from appliance.library.progress import Progress
from appliance.safe_text import one_line
from appliance.text_width import cut
from appliance.units import bytes_words
from models.errors import BadInput, RushesError

GRACE_S = 3.0  # to end by itself, before it is killed
RESUMABLE = "finished work is kept, and the same command resumes"
TENTHS = 10  # lines of progress where there is no terminal


def import_model(options: Sequence[str], files: Sequence[str], out: TextIO) -> dict[str, Any]:
    """Import files with the options of models/importing/__main__.py, and show its progress; returns its last event.

    Raises BadInput or RushesError with its message, and RushesError when it dies.
    """
    folder, log = paths.models(), paths.home() / "import.log"
    folder.mkdir(mode=0o770, parents=True, exist_ok=True)
    command = processes.module_command("models.importing", "--with-parent", *options, "--", str(folder), *files)
    with open(log, "wb") as errors:
        child = processes.start_child(command, errors.fileno())
    progress, last = ProgressView(out), {}
    try:
        for event in _events(child):
            last = event
            progress.event(event)
    except KeyboardInterrupt:
        progress.close()
        print(f"stopped: {RESUMABLE}", file=out, flush=True)
        raise
    finally:
        status = processes.end(child, GRACE_S)
    progress.close()
    if last.get("event") == "done":
        return last
    if last.get("event") == "error":
        raise (BadInput if last.get("code") == BadInput.exit_code else RushesError)(one_line(str(last["text"]), 2000))
    raise RushesError(f"the import {processes.exit_words(status)}: {RESUMABLE}; its error output is in {log}")


def _events(child: Any) -> Iterator[dict[str, Any]]:
    """The events of the process, until it ends. Raises RushesError for a line that is not an event."""
    for line in child.stdout:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise RushesError(
                "the importing process printed a line that is not an event; see import.log in RUSHES_HOME"
            )
        yield event


class ProgressView:
    """Events as lines, and progress as a bar on a terminal."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._bar = out, False
        self._began: dict[str, tuple[float, int]] = {}  # of each kind of work: its start, and the bytes done before
        self._tenths: dict[str, int] = {}

    def event(self, event: dict[str, Any]) -> None:
        """Show one event."""
        match event.get("event"):
            case "found":
                self._line(f"{event['part']}: {event['path']} ({event['layout']} layout, {event['stored']})")
            case "left out":
                self._line(f"left out: {event['text']}")
            case "resumed":
                self._line(f"resumes: {bytes_words(event['done'])} of {bytes_words(event['of'])} are already written")
            case "begun":
                distilled = event["passes"] == 1
                option = "a base model: --distilled base" if distilled else "a distilled model: --distilled METHOD"
                steps = f"{event['steps']} steps ({option})"
                self._line(f"writing {event['card']}, {bytes_words(event['bytes'])}, {steps}")
            case "progress":
                self._progress(str(event["what"]), int(event["done"]), int(event["of"]))

    def close(self) -> None:
        """End the line of the bar."""
        if self._bar:
            print(file=self._out, flush=True)
        self._bar = False

    def _progress(self, what: str, done: int, total: int) -> None:
        kind = what.split()[0] if " " in what else "converting"
        began, before = self._began.setdefault(kind, (time.monotonic(), done))
        share = done / total if total else 1.0
        if not self._out.isatty():
            tenth = int(share * TENTHS)
            if self._tenths.setdefault(kind, -1) < tenth:
                self._tenths[kind] = tenth
                self._line(f"{kind} {share:.0%}")
            return
        seconds, new = time.monotonic() - began, done - before
        state = Progress(share, seconds * (total - done) / new if new > 0 else None, what)
        columns, words = shutil.get_terminal_size().columns, one_line(state.words)
        row = f"{state.bar(min(40, max(12, columns - 50)))} {state.fraction:4.0%}  {state.left} left  {words}"
        self._out.write(f"\r\x1b[K{cut(row, columns - 1)}")
        self._out.flush()
        self._bar = True

    def _line(self, text: str) -> None:
        if self._bar:
            self._out.write("\r\x1b[K")
            self._bar = False
        print(one_line(text, 1000), file=self._out, flush=True)
