"""What the daemon and the worker say to each other: one JSON document a line."""

from __future__ import annotations

import base64
import json
import os
import queue
import sys
import threading
from typing import Any, BinaryIO

from models.errors import RushesError
from models.events import Embedding


def packed(embedding: Embedding) -> dict[str, Any]:
    """As the wire to the worker has it."""
    return {"text": embedding.text, "tokens": embedding.tokens, "data": base64.b64encode(embedding.data).decode()}


def unpacked(document: Any) -> Embedding:
    """An embedding from the wire. Raises RushesError for what is none."""
    try:
        text, tokens, data = document["text"], document["tokens"], base64.b64decode(document["data"], validate=True)
    except (TypeError, KeyError, ValueError) as error:
        raise RushesError(f"words came from the renderer in no form that can be kept: {error}") from error
    if not isinstance(text, str) or type(tokens) is not int:
        raise RushesError("words came from the renderer without their text or their number")
    return Embedding(text, tokens, data)


Order = dict[str, Any]


class Cancelled(Exception):
    """Somebody asked to stop this take."""


class Line:
    """Both ends of the pipe to the daemon, guarded against whatever a library may print."""

    def __init__(self) -> None:
        self._out = _guard_stdout()
        self.renders: queue.Queue[Order] = queue.Queue()
        self._cancelled: set[int] = set()
        threading.Thread(target=self._read_orders, args=(sys.stdin.buffer,), daemon=True).start()

    def report(self, report: str, **facts: Any) -> None:
        """Sends one report, whole."""
        self._out.write(json.dumps({"report": report, **facts}).encode() + b"\n")
        self._out.flush()

    def check(self, take: int) -> None:
        """Raises Cancelled when this take is no longer wanted."""
        if take in self._cancelled:
            raise Cancelled

    def _read_orders(self, orders: BinaryIO) -> None:
        for text in orders:
            order = json.loads(text)
            if order["order"] == "cancel":
                self._cancelled.add(order["take"])
            else:
                self.renders.put(order)
        os._exit(0)  # the daemon is gone or has let us go; what was half written is swept away by the next one


def _guard_stdout() -> BinaryIO:
    """The real standard output, for reports alone; what Python or C code prints from now on goes to the log."""
    reports = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return reports
