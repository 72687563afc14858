"""The worker's ends of its two pipes: orders from standard input, reports to what was standard output."""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import BinaryIO

from appliance.worker.protocol import (
    LONGEST_LINE_BYTES,
    CancelOrder,
    FilmOrder,
    KnownEmbedding,
    ProtocolError,
    RenderOrder,
    Report,
    decode_order,
    encode,
)
from models.events import Embedding


class StopRequested(Exception):
    """This take was ordered to stop."""


class WorkerPipe:
    """Sends reports and collects orders. A thread reads orders, so that a cancel arrives while a take renders."""

    def __init__(self) -> None:
        self._out = _guard_stdout()
        self.renders: queue.Queue[RenderOrder | FilmOrder] = queue.Queue()
        self._known: dict[int, list[Embedding]] = {}
        self._cancelled: set[int] = set()
        threading.Thread(target=self._read_orders, args=(sys.stdin.buffer,), daemon=True).start()

    def report(self, report: Report) -> None:
        """Sends one report, whole."""
        self._out.write(encode(report))
        self._out.flush()

    def check(self, take: int) -> None:
        """Raises StopRequested when the take was cancelled."""
        if take in self._cancelled:
            raise StopRequested

    def known(self, take: int) -> tuple[Embedding, ...]:
        """The cached embeddings that came before the take's render order; they are handed out once."""
        return tuple(self._known.pop(take, ()))

    def _read_orders(self, orders: BinaryIO) -> None:
        while line := orders.readline(LONGEST_LINE_BYTES + 2):
            try:
                order = decode_order(line)
            except ProtocolError as error:
                print(f"the daemon sent an order that cannot be read: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            match order:
                case CancelOrder():
                    self._cancelled.add(order.take)
                case KnownEmbedding():
                    self._known.setdefault(order.take, []).append(order.embedding)
                case _:
                    self.renders.put(order)
        os._exit(0)  # the daemon is gone or has let us go; the next one removes what was half written


def _guard_stdout() -> BinaryIO:
    """The real standard output, for reports alone; what Python or C code prints from now on goes to the log."""
    reports = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return reports
