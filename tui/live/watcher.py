"""One thread that polls the library and the machine and posts changes, so that the desk never waits for a disk."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable

from textual.message import Message

from appliance.measuring.result import Measured
from tui.live.messages import LibraryChanged, MachineSeen, Notice, Snapshot

POLL_S = 0.1  # PRAGMA data_version costs microseconds
MACHINE_S = 5.0
HISTORY = 500  # ended takes in the list; a search finds older ones


class Watcher(threading.Thread):
    """Polls until `stop`. `post` must be safe to call from a thread, as Textual's post_message is."""

    def __init__(
        self,
        post: Callable[[Message], object],
        hung_up: Callable[[], object] | None,
        probe: Callable[[], MachineSeen],
    ) -> None:
        super().__init__(name="watcher", daemon=True)
        self._post = post
        self._probe = probe
        self._hung_up = hung_up  # called once when the terminal is gone; None: do not check
        self._words = ""
        self._measures: dict[int, tuple[Measured, ...]] = {}
        self._again = threading.Event()
        self._stopped = threading.Event()

    def search(self, words: str) -> None:
        """Show only ended takes that match every word; "" shows all."""
        self._words = words
        self._again.set()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._again.set()

    def run(self) -> None:
        """Poll until stopped. An error of the library is posted once; every 2 seconds it is tried again."""
        from appliance.library.library import (  # start-up
            Library,  # after the first paint: the database driver takes longer to import than the whole desk
        )
        from models.errors import RushesError  # start-up

        posted = ""
        while not self._stopped.is_set():
            try:
                with Library.open() as library:
                    self._watch(library)
            except RushesError as error:
                if str(error) != posted:
                    posted = str(error)
                    self._post(Notice(posted, failed=True))
                self._stopped.wait(2.0)
            except Exception as error:  # the boundary of this thread: a traceback on stderr would garble the screen
                self._post(
                    Notice(
                        f"the board stopped updating: {type(error).__name__}: {error}; restart the desk", failed=True
                    )
                )
                return

    def _watch(self, library) -> None:
        version, shown, probed = None, "", 0.0
        while not self._stopped.is_set():
            self._again.clear()
            now = library.data_version()
            words = self._words
            if now != version or words != shown:
                version, shown = now, words
                self._post(LibraryChanged(self._read(library, words)))
            if time.monotonic() - probed >= MACHINE_S or not probed:
                probed = time.monotonic()
                self._post(self._probe())
                if self._hung_up is not None and _terminal_gone():
                    self._hung_up()
                    return
            self._again.wait(POLL_S)

    def _read(self, library, words: str) -> Snapshot:
        board = library.board(recent=0 if words else HISTORY)
        ended = library.takes(words=words.split(), limit=HISTORY) if words else board
        live = tuple(take for take in board if not take.ended)
        over = tuple(take for take in ended if take.ended)
        # The measures of a delivered take never change, so they are read once.
        new = [take.id for take in over if take.axes_measured and take.id not in self._measures]
        self._measures |= library.measures(*new) if new else {}
        return Snapshot(live, over, words, dict(self._measures))


def probe_machine() -> MachineSeen:
    """The machine and its daemon, in words."""
    from appliance.daemon import instance  # start-up
    from appliance.machine.probe import probe  # start-up
    from appliance.units import bytes_words, count_words  # start-up

    device = probe()
    if device.gpus:
        gpu = device.gpus[0]
        words = gpu.name + (f", {bytes_words(gpu.free_bytes)} free" if gpu.free_bytes is not None else "")
    else:
        words = f"no GPU, {count_words(device.cores, 'core')}, {bytes_words(device.ram_free_bytes)} free"
    if device.disk_free_bytes is not None:
        words += f"   disk {bytes_words(device.disk_free_bytes)} free"
    return MachineSeen(words, "daemon running" if instance.daemon_pid() is not None else "daemon not running")


def _terminal_gone() -> bool:
    """Whether the terminal hung up without a SIGHUP: Textual's input thread would then loop for ever."""
    poll = select.poll()
    poll.register(0, select.POLLHUP)
    return os.isatty(0) is False or any(event & select.POLLHUP for _, event in poll.poll(0))
