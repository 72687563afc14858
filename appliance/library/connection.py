"""Opening the library's SQLite file the one safe way, and telling people what is wrong with it in one line.

Which SQLite: Debian's 3.40 and every version before 3.51.3 can corrupt a WAL file when two connections checkpoint
while a third commits; the pysqlite3 wheel carries a fixed one, and sqlite-utils picks it up. Two SQLite libraries in
one process would cancel each other's file locks, so nobody else imports a driver: they take `sqlite3` from here.

What it costs: `import sqlite_utils` loads numpy where numpy is installed (measured: 0.21 s against 0.015 s for the
driver alone), and `rushes takes` is a process that only reads. So the driver that sqlite-utils would choose is taken
directly, with the choice left to sqlite-utils where there is no pysqlite3, and sqlite-utils itself is loaded
when there is a table to make or change (appliance/library/migrations.py). A test holds that both name the same module.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.atomic_files import disk_error, fsync
from appliance.safe_text import one_line
from models.errors import RushesError

try:
    import pysqlite3 as sqlite3
except ImportError:  # no wheel for this platform: whatever sqlite-utils decides, at the cost named above
    from sqlite_utils.utils import sqlite3

# SQLite's primary result codes (sqlite.org/rescode.html).
SQLITE_PERM, SQLITE_BUSY, SQLITE_LOCKED, SQLITE_READONLY, SQLITE_IOERR = 3, 5, 6, 8, 10
SQLITE_CORRUPT, SQLITE_FULL, SQLITE_CANTOPEN, SQLITE_AUTH, SQLITE_NOTADB = 11, 13, 14, 23, 26

APPLICATION_ID = 0x52555348  # "RUSH", in the header of the file
BUSY_SECONDS = 10.0


class LibraryFull(RushesError):
    """No room left for the library to write; what was written before is whole."""


class LibraryBusy(RushesError):
    """Somebody held the library for longer than we wait."""


def sqlite_version_ok(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> bool:
    """Whether a SQLite is free of the WAL-reset bug: 3.51.3 and later, 3.50.7 and 3.44.6 of their own series."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def connect(path: Path) -> sqlite3.Connection:
    """A connection with every promise switched on; makes the folder and the empty file where they are missing.

    WAL with synchronous=FULL: what is acknowledged survives a power cut (measured: NORMAL lost commits in 119 of 180
    cuts, FULL in none). Transactions are ours to begin and end. One connection belongs to one thread.
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
    """The file must exist with group permission before SQLite sees it: SQLite would make it 0644 and lock out the
    second operator, and its -wal and -shm copy the mode. Never opened when it exists: closing that descriptor would
    drop the locks of this process's other connections.
    """
    path.parent.mkdir(mode=0o770, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o660)
    except FileExistsError:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path)) from None
        return
    try:
        os.fchmod(descriptor, 0o660)  # the umask may not narrow it: the folder decides who gets in
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
            # Changing the mode does not wait on the busy timeout, so two first-time openers meet here.
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
    """Turns what SQLite and the system say about the library's file into one readable line with the way out."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(error, path) from error
    except OSError as error:
        raise disk_error(error, path, "open the library") from error


def _explain(error: Exception, path: Path) -> RushesError:
    code = _code(error)
    if code == SQLITE_FULL or (code == SQLITE_IOERR and not shutil.disk_usage(path.parent).free):
        return LibraryFull(f"no room to write the library {path}: free some space on that disk; nothing was lost")
    if code == SQLITE_IOERR:  # also a file-size limit or a quota, which SQLite sees as a failed write
        return LibraryFull(
            f"the disk refused a write or a read of the library {path} ({error}): check its space, quota and "
            "health; what was written before is whole"
        )
    if code in (SQLITE_READONLY, SQLITE_CANTOPEN, SQLITE_PERM, SQLITE_AUTH):
        return RushesError(
            f"cannot write the library {path}: your account lacks write permission to it or to its folder; "
            "join the group that owns it, or set RUSHES_HOME to a folder of your own"
        )
    if code == SQLITE_NOTADB:
        return RushesError(
            f"{path} is not a Rushes library, or is damaged (it is no SQLite file): move it away, restore a backup, or "
            "set RUSHES_HOME to another folder"
        )
    if code == SQLITE_CORRUPT:
        return RushesError(
            f"the library {path} is damaged ({error}): copy its folder away before anything else, then restore a "
            "backup or start a new library; the films under takes/ do not depend on it"
        )
    if code in (SQLITE_BUSY, SQLITE_LOCKED):
        return LibraryBusy(
            f"the library {path} is busy: another program has held it for {BUSY_SECONDS:.0f} s; try again in a moment"
        )
    return RushesError(f"the library {path} cannot be used: {one_line(str(error))}")
