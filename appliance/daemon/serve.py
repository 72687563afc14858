"""The daemon: claims takes, plans them, has its warm worker render them, publishes their files. Never loads torch.

One daemon serves an installation. What it guarantees:
  every take, and every finished denoising step of it, is on disk at every moment: a power cut, a crash or a shutdown
  costs the step that was running and the work before the first step, and the film comes out the same;
  a crash of the worker costs one attempt, a second crash fails the take, and neither stops the queue;
  a shutdown is not a failure: a rendering take goes back to the queue;
  an idle machine gets its memory back: the worker ends after a while, and with --until-idle the daemon too.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from types import FrameType

from appliance import paths, processes
from appliance.atomic_files import sweep
from appliance.daemon import checkpoints
from appliance.daemon.attempt import RenderTake, StopFlag, Timeouts
from appliance.daemon.instance import InstallationLock, log, only_daemon
from appliance.daemon.recovery import note_published
from appliance.daemon.worker_process import WorkerDied, WorkerProcess
from appliance.library.connection import LibraryBusy, LibraryFull
from appliance.library.library import Fenced, Library
from appliance.library.machines import note_machine
from appliance.library.take import Take
from appliance.machine.probe import probe
from appliance.worker.protocol import WrongVersion
from models.errors import RushesError


def serve(
    until_idle: bool = False, worker_command: Sequence[str] | None = None, timeouts: Timeouts | None = None
) -> None:
    """Serves this installation's queue until SIGTERM or SIGINT; with `until_idle`, until it has been empty for a while.

    `worker_command` runs another worker than ours; it must speak the protocol of appliance/worker/protocol.py.
    Raises RushesError when another daemon serves the installation, or the library cannot be used.
    """
    # The library first: whoever sees the lock held (`ensure_running`) may rely on a daemon that can read the queue.
    with stop_signals() as stop, Library.open() as library, only_daemon() as lock:
        command = worker_command or processes.module_command("appliance.worker")
        daemon = _Daemon(lock, library, command, timeouts or Timeouts(), stop, until_idle)
        try:
            daemon.run()
        finally:
            daemon.end_worker()


@contextlib.contextmanager
def stop_signals() -> Iterator[StopFlag]:
    """While the block runs, SIGTERM and SIGINT only set a flag: the loop then requeues its take and ends."""
    flag = StopFlag()

    def stop(number: int, frame: FrameType | None) -> None:
        flag.stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Daemon:
    """The loop over takes, and its state between two of them."""

    def __init__(
        self,
        lock: InstallationLock,
        library: Library,
        command: Sequence[str],
        timeouts: Timeouts,
        stop: StopFlag,
        until_idle: bool,
    ) -> None:
        self.lock = lock
        self.library = library
        self.command = command
        self.timeouts = timeouts
        self.until_idle = until_idle
        self.owner = processes.owner()
        self.stop = stop
        self.worker: WorkerProcess | None = None
        self.idle_since = time.monotonic()
        self.upkeep_at = time.monotonic()
        self.short_of_disk = False
        self.wrong_version_at: float | None = None  # when a worker of another protocol version was last met

    def run(self) -> None:
        """The loop."""
        log(f"serving {self.library.path.parent}")
        self.recover()
        while not self.stop.stopping:
            try:
                checkpoints.sweep(self.library)
                take = self.next_take()
                if take is not None:
                    self.render(take)
                    self.idle_since = time.monotonic()
                elif self.may_leave():
                    break
                else:
                    time.sleep(self.timeouts.poll_s)
                self.keep_up()
            except (LibraryFull, LibraryBusy) as error:
                # Nothing is lost: what was to be written is found again from the library's rows and the files.
                log(str(error))
                self.end_worker()
                time.sleep(min(2.0, self.timeouts.beat_s))
                self.recover()
        log("stopped")

    def recover(self) -> None:
        """Finishes what an earlier daemon, or a full disk, left half done: published films are recorded, orphaned takes
        are queued again, half-written files are removed. Also records the facts of this machine.
        """
        try:
            for take in note_published(self.library):
                log(f"take {take.slate}: its film was already published; recorded as delivered")
            for take in self.library.recover(self.owner, "the daemon ended while it rendered"):
                log(f"take {take.slate}: was rendering when the last daemon ended; now {take.status}")
            note_machine(self.library, processes.machine_name(), asdict(probe()))
        except (LibraryFull, LibraryBusy) as error:
            log(str(error))
        if self.library.takes_folder.is_dir():
            sweep(self.library.takes_folder)

    def next_take(self) -> Take | None:
        """Claims the oldest take; None when none is queued, the disk is too full, or the worker cannot be used."""
        if not self.library.waiting():
            return None
        free = shutil.disk_usage(self.library.path.parent).free
        if free < self.timeouts.disk_floor_bytes:
            if not self.short_of_disk:
                self.short_of_disk = True
                needed, have = self.timeouts.disk_floor_bytes // 2**20, free // 2**20
                self.warn(f"takes wait: {have} MiB free, {needed} MiB are kept in reserve; free some disk space")
            return None
        if self.short_of_disk:
            self.short_of_disk = False
            self.library.note(None, "there is disk space again: takes are rendered")
        if not self.worker_fits():
            return None
        return self.library.claim(self.owner, self.timeouts.lease_s)

    def render(self, take: Take) -> None:
        """Makes one attempt at a take. A worker that failed is not used again."""
        log(f"take {take.slate}: attempt {take.attempt}")
        attempt = RenderTake(self.library, take, self.timeouts, self.stop)
        try:
            if attempt.plan():
                if self.worker is None or self.worker.exited():
                    self.end_worker()
                    self.worker = WorkerProcess(self.command, paths.daemon_log())
                attempt.with_worker(self.worker)
        except Fenced as error:
            log(str(error))
            attempt.worker_is_spent = True
        if attempt.worker_is_spent:
            self.end_worker()
        if attempt.wrong_version:
            self.wrong_version_at = time.monotonic()
            self.warn(f"takes wait: {attempt.wrong_version}")
        ended = self.library.take(take.id)
        log(f"take {take.slate}: {ended.status}{f': {ended.error}' if ended.error else ''}")

    def worker_fits(self) -> bool:
        """Whether the worker speaks our protocol, as far as is known. After one that did not, no take is claimed until
        another has sent the right greeting: starting one costs no take an attempt.
        """
        if self.wrong_version_at is None:
            return True
        if time.monotonic() - self.wrong_version_at < self.timeouts.version_s:
            return False
        self.wrong_version_at = time.monotonic()
        try:
            self.worker = WorkerProcess(self.command, paths.daemon_log())
            while not self.worker.ready:
                if self.stop.stopping:
                    return False
                self.worker.reports(self.timeouts.poll_s)
                if time.monotonic() - self.wrong_version_at > self.timeouts.silence_s:
                    raise WorkerDied("the worker stopped responding before its greeting")
        except (WrongVersion, WorkerDied) as error:
            log(str(error))
            self.end_worker()
            return False
        self.wrong_version_at = None
        self.library.note(None, "the worker fits this daemon again: takes are rendered")
        return True

    def warn(self, text: str) -> None:
        """A line in the log and in the installation's history."""
        log(text)
        self.library.note(None, text, kind="warning")

    def may_leave(self) -> bool:
        """Whether an idle daemon is to end. It releases its lock before its last check of the queue: whoever queues a
        take after that check finds the lock free and starts another daemon, so no take is left without one.
        """
        if (
            not self.until_idle
            or self.short_of_disk
            or self.wrong_version_at is not None
            or time.monotonic() - self.idle_since < self.timeouts.leave_s
        ):
            return False
        self.lock.release()
        if not self.library.waiting():
            return True
        if not self.lock.take(wait_s=0.2):
            return True  # another daemon has the lock and renders it
        self.idle_since = time.monotonic()
        return False

    def keep_up(self) -> None:
        """Between takes: ends a worker that has been idle, and checkpoints the library's write-ahead log."""
        now = time.monotonic()
        if self.worker is not None and now - self.idle_since > self.timeouts.worker_idle_s:
            log("idle: the worker was ended to free its memory")
            self.end_worker()
        if now - self.upkeep_at > self.timeouts.upkeep_s:
            self.upkeep_at = now
            if not self.library.checkpoint():
                log(
                    "the library's write-ahead log could not be emptied while another program reads; trying again later"
                )

    def end_worker(self) -> None:
        """Ends the worker, if there is one."""
        if self.worker is not None:
            self.worker.end()
            self.worker = None


def main(arguments: Sequence[str]) -> int:
    """`python -m appliance.daemon [--until-idle]`, as `ensure_running` starts it. Logs to stderr."""
    try:
        serve(until_idle="--until-idle" in arguments)
    except RushesError as error:
        log(str(error))
        return error.exit_code
    return 0
