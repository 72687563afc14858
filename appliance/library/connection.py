"""Opens the library's SQLite file with safe settings, and explains SQLite's errors in one line.

Which SQLite: Debian's 3.40 and every version before 3.51.3 can corrupt a WAL file when two connections checkpoint
while a third commits; the pysqlite3 wheel has a fixed one, and sqlite-utils uses it. Two SQLite libraries in one
process would cancel each other's file locks, so every other module imports `sqlite3` from here.

Start-up time: `import sqlite_utils` loads numpy where numpy is installed (measured: 0.21 s against 0.015 s for the
driver alone), and `rushes takes` only reads. So the driver that sqlite-utils would choose is imported directly;
sqlite-utils chooses where there is no pysqlite3, and is itself imported only to create or change tables
(appliance/library/migrations.py). A test checks that both are the same module.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.atomic_files import disk_error
from appliance.safe_text import one_line
from models.atomic_write import fsync
from models.errors import RushesError

try:
    import pysqlite3 as sqlite3
except ImportError:  # no wheel for this platform: sqlite-utils decides, and its import takes the 0.2 s
    from sqlite_utils.utils import sqlite3

# SQLite's primary result codes (sqlite.org/rescode.html).
SQLITE_PERM, SQLITE_BUSY, SQLITE_LOCKED, SQLITE_READONLY, SQLITE_IOERR = 3, 5, 6, 8, 10
SQLITE_CORRUPT, SQLITE_FULL, SQLITE_CANTOPEN, SQLITE_AUTH, SQLITE_NOTADB = 11, 13, 14, 23, 26

APPLICATION_ID = 0x52555348  # "RUSH", in the header of the file
BUSY_SECONDS = 10.0


class LibraryFull(RushesError):
    """The library cannot be written for want of disk space; what was written before is intact."""


class LibraryBusy(RushesError):
    """Another program has held the library for longer than BUSY_SECONDS."""


def sqlite_version_ok(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> bool:
    """Whether a SQLite is free of the WAL-reset bug: 3.51.3 and later, 3.50.7 and 3.44.6 of their own series."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def connect(path: Path) -> sqlite3.Connection:
    """A connection with every safety setting on; creates the folder and the empty file where they are missing.

    WAL with synchronous=FULL: what is acknowledged survives a power cut (measured: NORMAL lost commits in 119 of 180
    cuts, FULL in none). The caller begins and ends transactions. A connection belongs to one thread.
    """
    with explain_sqlite_errors(path):
        _create_empty(path)
        connection = sqlite3.connect(str(path), timeout=BUSY_SECONDS, isolation_level=None)
    try:
        with explain_sqlite_errors(path):
            connection.row_factory = sqlite3.Row
            _use_wal(connection, path)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def _create_empty(path: Path) -> None:
    """Creates the file with group permission before SQLite does: SQLite would make it 0644 and lock out a second
    operator, and its -wal and -shm copy the mode. An existing file is not opened: closing that descriptor would drop
    the locks of this process's other connections.
    """
    path.parent.mkdir(mode=0o770, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o660)
    except FileExistsError:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path)) from None
        return
    try:
        os.fchmod(descriptor, 0o660)  # whatever the umask: the folder decides who has access
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fsync(path.parent)


def _use_wal(connection: sqlite3.Connection, path: Path) -> None:
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            # Changing the mode does not wait for the busy timeout, so two processes that open a new library race here.
            if _code(error) != SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
            continue
        if mode != "wal":
            raise RushesError(
                f"the folder {path.parent} cannot hold the library: its file system has no shared memory for SQLite's "
                "write-ahead log (a network share?); set RUSHES_HOME to a folder on a local disk"
            )
        return


def _code(error: Exception) -> int:
    """SQLite's primary result code; extended codes carry it in their low byte."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextlib.contextmanager
def explain_sqlite_errors(path: Path) -> Iterator[None]:
    """Turns errors of SQLite and the system about the library's file into one readable line with the way out."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(error, path) from error
    except OSError as error:
        raise disk_error(error, path, "open the library") from error


def _explain(error: Exception, path: Path) -> RushesError:
    code = _code(error)
    if code == SQLITE_FULL or (code == SQLITE_IOERR and not shutil.disk_usage(path.parent).free):
        return LibraryFull(
            f"the disk is full, the library {path} cannot be written: free some space on that disk; nothing was lost"
        )
    if code == SQLITE_IOERR:  # also a file-size limit or a quota, which SQLite sees as a failed write
        return LibraryFull(
            f"the disk refused to read or write the library {path} ({error}): check its space, quota and health; what "
            "was written before is intact"
        )
    if code in (SQLITE_READONLY, SQLITE_CANTOPEN, SQLITE_PERM, SQLITE_AUTH):
        return RushesError(
            f"cannot write the library {path}: your account has no write permission for it or its folder; join the "
            "group that owns it, or set RUSHES_HOME to a folder of your own"
        )
    if code == SQLITE_NOTADB:
        return RushesError(
            f"{path} is not a Rushes library, or is damaged (it is not a SQLite file): move it away, restore a backup, "
            "or set RUSHES_HOME to another folder"
        )
    if code == SQLITE_CORRUPT:
        return RushesError(
            f"the library {path} is damaged ({error}): first copy its folder, then restore a backup or start a new "
            "library; the films under takes/ do not depend on it"
        )
    if code in (SQLITE_BUSY, SQLITE_LOCKED):
        return LibraryBusy(
            f"the library {path} is busy: another program has held it for {BUSY_SECONDS:.0f} s; try again in a moment"
        )
    return RushesError(f"the library {path} cannot be used: {one_line(str(error))}")
