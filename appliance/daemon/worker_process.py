"""The daemon's end of the pipes to its worker process: orders out, reports in (appliance/worker/protocol.py)."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence
from pathlib import Path

from appliance import processes
from appliance.worker.protocol import (
    LONGEST_LINE_BYTES,
    Order,
    ProtocolError,
    Ready,
    Report,
    WrongVersion,
    decode_report,
    encode,
)
from models.errors import RushesError


class WorkerDied(RushesError):
    """The worker is gone, or what it sends is no report: the text says how it ended."""


class WorkerProcess:
    """One worker process. After a fault it is ended and replaced: a CUDA fault is cured only by a new process."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """Starts it. Raises WorkerDied when the system cannot start another process."""
        try:
            with open(log, "ab") as output:
                self._process = processes.start_child(command, output.fileno())
        except OSError as error:
            raise WorkerDied(f"the worker could not be started: {error.strerror or error}") from error
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._unread = b""
        self._waiting: list[Order] = []  # for its greeting: no order goes to a worker of another version
        self.ready = False
        self.heard_at = time.monotonic()

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self._process.pid

    def order(self, order: Order) -> None:
        """Sends an order; before the worker's greeting it is held back. Raises WorkerDied when nobody reads it."""
        if not self.ready:
            self._waiting.append(order)
            return
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(encode(order))
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerDied(self._how_it_ended()) from error

    def reports(self, wait_s: float) -> list[Report]:
        """The reports that have arrived, waiting at most `wait_s` for the first. Raises WorkerDied when the worker has
        ended or sends what is no report, WrongVersion when it speaks another version of the protocol.
        """
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        if not select.select([pipe], [], [], wait_s)[0]:
            return []
        data = os.read(pipe, 1 << 16)
        if not data:
            raise WorkerDied(self._how_it_ended())
        self.heard_at = time.monotonic()
        *lines, self._unread = (self._unread + data).split(b"\n")
        if len(self._unread) > LONGEST_LINE_BYTES:
            raise WorkerDied(f"the worker sent a message longer than {LONGEST_LINE_BYTES // 2**20} MiB")
        try:
            reports = [decode_report(line) for line in lines if line.strip()]
        except WrongVersion:
            raise
        except ProtocolError as error:
            raise WorkerDied(f"the worker sent something that is no report: {error}") from error
        if reports and not self.ready:
            self._greet(reports[0])
        return reports

    def _greet(self, first: Report) -> None:
        if not isinstance(first, Ready):
            raise WorkerDied(f"the worker sent {type(first).__name__} before its greeting")
        self.ready = True
        waiting, self._waiting = self._waiting, []
        for order in waiting:
            self.order(order)

    def end(self, grace_s: float = 0.0) -> int:
        """Ends it and all that it started; its memory, the GPU's too, is free afterwards."""
        return processes.end(self._process, grace_s)

    def exited(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.returncode is not None or processes.exited(self._process)

    def _how_it_ended(self) -> str:
        """For people. The pipe closes a moment before the system knows the exit status."""
        deadline = time.monotonic() + 2.0
        while not self.exited() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not self.exited():
            self.end()
            return "the worker closed its pipe"
        return f"the worker {processes.exit_words(self.end())}"
