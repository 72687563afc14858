"""The daemon: claims takes, plans them, hands them to its warm worker, publishes what comes back. Never loads torch.

One daemon serves a house. What it promises:
  a take is in the library or on the disk at every moment, and so is each step of its render: a power cut, a crash or a
  shutdown costs the step that ran and what comes before the first one, and the film comes out the same;
  a crash of the worker costs one attempt, a second crash costs the take, and neither costs the queue;
  shutdown is not failure: a rendering take goes back to the queue;
  an idle box has its memory back: the worker leaves after a while, and with --until-idle the daemon too.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from types import FrameType

from appliance import paths
from appliance import processes as process
from appliance.daemon import checkpoints
from appliance.daemon.attempt import RenderTake, StopFlag, Timeouts
from appliance.daemon.instance import HouseLock, log, only_daemon
from appliance.daemon.recovery import note_published
from appliance.daemon.worker_process import WorkerProcess
from appliance.library.connection import LibraryBusy, LibraryFull
from appliance.library.library import Fenced, Library
from appliance.library.machines import note_machine
from appliance.library.take import Take
from appliance.machine.probe import probe
from models.errors import RushesError


def serve(
    until_idle: bool = False, worker_command: Sequence[str] | None = None, patience: Timeouts | None = None
) -> None:
    """Serves this house's queue until SIGTERM or SIGINT, or until it is idle where asked.

    `worker_command` runs another worker than ours; it must speak appliance/daemon/worker_process.py's lines.
    Raises RushesError when another daemon serves the house, or the library cannot be used.
    """
    with stop_signals() as orders, only_daemon() as lock, Library.open() as library:
        command = worker_command or process.module_command("appliance.worker")
        daemon = _Daemon(lock, library, command, patience or Timeouts(), orders, until_idle)
        try:
            daemon.run()
        finally:
            daemon.end_worker()


@contextlib.contextmanager
def stop_signals() -> Iterator[StopFlag]:
    """While the block runs, SIGTERM and SIGINT ask: finish what must be finished now, give the take back, leave."""
    orders = StopFlag()

    def stop(number: int, frame: FrameType | None) -> None:
        orders.stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield orders
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Daemon:
    """What the loop knows between two takes."""

    def __init__(
        self,
        lock: HouseLock,
        library: Library,
        command: Sequence[str],
        patience: Timeouts,
        orders: StopFlag,
        until_idle: bool,
    ) -> None:
        self.lock = lock
        self.library = library
        self.command = command
        self.patience = patience
        self.until_idle = until_idle
        self.owner = process.owner()
        self.orders = orders
        self.worker: WorkerProcess | None = None
        self.idle_since = time.monotonic()
        self.kept_up_at = time.monotonic()
        self.short_of_disk = False

    def run(self) -> None:
        """The loop."""
        log(f"serving {self.library.path.parent}")
        self.put_in_order()
        while not self.orders.stopping:
            try:
                checkpoints.sweep(self.library)
                take = self.next_take()
                if take is not None:
                    self.render(take)
                    self.idle_since = time.monotonic()
                elif self.may_leave():
                    break
                else:
                    time.sleep(self.patience.poll_s)
                self.keep_up()
            except (LibraryFull, LibraryBusy) as error:
                # The library is whole, and whatever was to be written is found again from its rows and files.
                log(str(error))
                self.end_worker()
                time.sleep(min(2.0, self.patience.beat_s))
                self.put_in_order()
        log("leaving")

    def put_in_order(self) -> None:
        """What an earlier daemon, or a full disk, left half done: films published but not noted are noted, orphaned
        takes queued again, half-written files swept away. And this machine is entered among those that render.
        """
        from appliance.atomic_files import sweep  # start-up

        try:
            for take in note_published(self.library):
                log(f"take {take.slate} had been published: noted")
            for take in self.library.recover(self.owner, "the daemon ended while it rendered"):
                log(f"take {take.slate} was left rendering: {take.status}")
            note_machine(self.library, process.machine_name(), asdict(probe()))
        except (LibraryFull, LibraryBusy) as error:
            log(str(error))
        if self.library.takes_folder.is_dir():
            sweep(self.library.takes_folder)

    def next_take(self) -> Take | None:
        """Claims the oldest take; None when none waits, or the disk is too full to begin one."""
        if not self.library.waiting():
            return None
        free = shutil.disk_usage(self.library.path.parent).free
        if free < self.patience.disk_floor_bytes:
            if not self.short_of_disk:
                self.short_of_disk = True
                needed, have = self.patience.disk_floor_bytes // 2**20, free // 2**20
                text = f"takes wait: {have} MiB free where {needed} MiB are kept in reserve; free some space to go on"
                log(text)
                self.library.note(None, text, kind="warning")
            return None
        if self.short_of_disk:
            self.short_of_disk = False
            self.library.note(None, "there is room on the disk again")
        return self.library.claim(self.owner, self.patience.lease_s)

    def render(self, take: Take) -> None:
        """One take, to whatever end. A worker that failed it is not used again."""
        log(f"take {take.slate}: attempt {take.attempt}")
        rendering = RenderTake(self.library, take, self.patience, self.orders)
        try:
            if rendering.plan():
                if self.worker is None or self.worker.exited():
                    self.end_worker()
                    self.worker = WorkerProcess(self.command, paths.daemon_log())
                rendering.with_worker(self.worker)
        except Fenced as error:
            log(str(error))
            rendering.worker_is_spent = True
        if rendering.worker_is_spent:
            self.end_worker()
        ended = self.library.take(take.id)
        log(f"take {take.slate}: {ended.status}{f': {ended.error}' if ended.error else ''}")

    def may_leave(self) -> bool:
        """Whether an idle daemon is to end. Its lock is let go before the last look at the queue: whoever queues a take
        after that look finds the lock free and starts another daemon, so that no take is left between two.
        """
        if not self.until_idle or self.short_of_disk or time.monotonic() - self.idle_since < self.patience.leave_s:
            return False
        self.lock.let_go()
        if not self.library.waiting():
            return True
        if not self.lock.take(wait_s=0.2):
            return True  # the new one renders it
        self.idle_since = time.monotonic()
        return False

    def keep_up(self) -> None:
        """Between takes: an idle worker gives its memory back, the write-ahead log is folded in."""
        now = time.monotonic()
        if self.worker is not None and now - self.idle_since > self.patience.worker_idle_s:
            log("the worker has been idle: its memory is free again")
            self.end_worker()
        if now - self.kept_up_at > self.patience.upkeep_s:
            self.kept_up_at = now
            if not self.library.checkpoint():
                log("the library's write-ahead log could not be emptied: somebody is reading; it will be tried again")

    def end_worker(self) -> None:
        """Ends the worker, if there is one."""
        if self.worker is not None:
            self.worker.end()
            self.worker = None


def main(arguments: Sequence[str]) -> int:
    """`python -m appliance.daemon [--until-idle]`: what `ensure_running` starts. Its log is its stderr."""
    try:
        serve(until_idle="--until-idle" in arguments)
    except RushesError as error:
        log(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
