"""The daemon's end of the line to its worker: orders out, reports in, one JSON document a line.

Orders:  {"order": "render", "take": 31, "slate": "12C T4", "direction": {...}, "plan": {...},
          "model": NAME, "package": PATH, "film": PATH, "checkpoints": PATH or null,
          "words": {"positive": "...", "negative": "...", "known": [EMBEDDING, ...]},
          "pictures": {"first": PATH or null, "last": PATH or null, "keys": [[FRAME, PATH], ...]}}
         {"order": "cancel", "take": 31}
         {"order": "film", "take": 1, "direction": {...}, "plan": {...}, "package": PATH, "film": PATH}
Reports: {"report": "ready"}  ·  {"report": "progress", "take": 31, "phase": "rendering", "step": 5, "steps": 8}
         {"report": "note", "take": 31, "text": "..."}
         {"report": "words", "take": 31, "embedding": EMBEDDING}: of appliance/library/embeddings.py, once it was read
         {"report": "done", "take": 31, "parts": {SUFFIX: PATH, ...}, "sha256": HEX,
          "seconds": 21.4, "peak_bytes": 900000000, "measured": [{...}, ...]}  ·  {"report": "cancelled", "take": 31}
         {"report": "done", "take": 1, "shape": [17, 128, 224, 3]}: of a film, 8-bit RGB in that shape
         {"report": "error", "take": 31, "kind": "bad_input" | "failed" | "disk" | "memory" | "fault", "error": "...",
          "place": "cpu" | "cuda:0" (of "memory": what ran out)}
The end of its orders tells a worker to leave.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appliance import processes as process
from models.errors import RushesError

LONGEST_LINE_BYTES = 8 * 2**20  # an embedding of 512 tokens of 4096 numbers is 5.6 million characters


class WorkerDied(RushesError):
    """The worker is gone, or makes no sense: its text says how it ended."""


class WorkerProcess:
    """One worker process. It is ended, never mended: a fault of CUDA is cured only by a new process."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """Starts it. Raises RendererDied when the system has no room for another process."""
        try:
            with open(log, "ab") as output:
                self._process = process.start_child(command, output.fileno())
        except OSError as error:
            raise WorkerDied(f"the renderer could not be started: {error.strerror or error}") from error
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._unread = b""
        self.heard_at = time.monotonic()

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self._process.pid

    def order(self, **order: Any) -> None:
        """Sends one order. Raises RendererDied when nobody reads it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerDied(self._last_words()) from error

    def reports(self, wait_s: float) -> list[dict[str, Any]]:
        """What it has said, waiting at most so long for the first word. Raises RendererDied at its end."""
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        if not select.select([pipe], [], [], wait_s)[0]:
            return []
        data = os.read(pipe, 1 << 16)
        if not data:
            raise WorkerDied(self._last_words())
        self.heard_at = time.monotonic()
        *lines, self._unread = (self._unread + data).split(b"\n")
        if len(self._unread) > LONGEST_LINE_BYTES:
            raise WorkerDied("the renderer says something endless")
        try:
            reports = [json.loads(line) for line in lines if line.strip()]
        except ValueError as error:
            raise WorkerDied("the renderer says something that is no report") from error
        if not all(isinstance(report, dict) for report in reports):
            raise WorkerDied("the renderer says something that is no report")
        return reports

    def end(self, grace_s: float = 0.0) -> int:
        """Ends it and all that it started; its memory, the GPU's too, is free afterwards."""
        return process.end(self._process, grace_s)

    def exited(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.returncode is not None or process.exited(self._process)

    def _last_words(self) -> str:
        """How it ended. Its pipe closes a moment before the system knows its status."""
        deadline = time.monotonic() + 2.0
        while not self.exited() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not self.exited():
            self.end()
            return "the renderer closed its line"
        return f"the renderer {process.exit_words(self.end())}"
