"""One daemon for each installation: its lock, its log, and how it is started when there is none."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from appliance import paths, processes
from appliance.atomic_files import disk_error
from appliance.safe_text import one_line
from models.errors import RushesError

PROBE_SECONDS = 1.0  # `daemon_pid` holds the lock for a moment; a daemon that starts waits that long for it
START_SECONDS = 10.0
LONGEST_LOG_BYTES = 8 * 2**20


class InstallationLock:
    """The flock on daemon.lock. The system releases it when its holder ends, however it ends."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(mode=0o770, parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660)
        except OSError as error:
            raise disk_error(error, path) from error
        self.path = path

    def take(self, wait_s: float = PROBE_SECONDS) -> bool:
        """Tries to become the daemon of this installation; False when there is another."""
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.05)
                continue
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
            return True

    def release(self) -> None:
        """Releases the lock: another process may be the daemon now."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Closes the file, which releases the lock."""
        os.close(self._descriptor)


@contextlib.contextmanager
def only_daemon(path: Path | None = None) -> Iterator[InstallationLock]:
    """Holds the installation's lock while the block runs. Raises RushesError when another daemon holds it."""
    path = path or paths.daemon_lock()
    lock = InstallationLock(path)
    try:
        if not lock.take():
            raise RushesError(
                f"a daemon (process {daemon_pid(path) or 'unknown'}) serves {path.parent} already: stop it first, or "
                "set RUSHES_HOME to another folder"
            )
        yield lock
    finally:
        lock.close()


def daemon_pid(path: Path | None = None) -> int | None:
    """The process id of the daemon that serves the installation now; None when there is none."""
    path = path or paths.daemon_lock()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None  # no installation, or none that this account may read
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None


def ensure_running() -> int:
    """The process id of this installation's daemon; starts one, which ends when the queue has been empty for a while.

    Queue the take first: a daemon that is about to end releases its lock, then checks the queue once more.
    Raises RushesError, with the log's last line, when it does not start.
    """
    if (pid := daemon_pid()) is not None:
        return pid
    log = paths.daemon_log()
    try:
        if log.exists() and log.stat().st_size > LONGEST_LOG_BYTES:
            os.replace(log, log.with_name(f"{log.name}.1"))
        started = processes.start_detached(processes.module_command("appliance.daemon", "--until-idle"), log)
    except OSError as error:
        raise RushesError(
            f"cannot start the daemon: {error.strerror} ({error.filename}); make it writable for your account, "
            "or set RUSHES_HOME to another folder"
        ) from error
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if (pid := daemon_pid()) is not None:
            return pid
        if not processes.alive(started):
            break
        time.sleep(0.02)
    else:
        return started  # a slow disk: it is still starting
    if (pid := daemon_pid()) is not None:
        return pid  # another process started one first
    raise RushesError(f"the daemon did not start: {_last_line(log)}; see {log}")


def log(line: str) -> None:
    """One line of the daemon's log: on stderr, which is the log file of a detached daemon."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    print(f"{stamp} {one_line(line, limit=2000)}", file=sys.stderr, flush=True)


def _last_line(log: Path) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError as error:
        return one_line(str(error))
    return one_line(lines[-1]) if lines else "its log is empty"
