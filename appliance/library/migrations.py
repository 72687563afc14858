"""The library's tables as numbered migrations: each is a function that runs once, in order, and is recorded.

The format number is PRAGMA user_version. sqlite-utils' Migrations are not used: they begin a DEFERRED transaction, in
which two desks that open a new library at once fail with SQLITE_BUSY_SNAPSHOT. Here all pending steps and their record
are one BEGIN IMMEDIATE: a library has one format or the next, never half of it.
A step never changes after it has shipped; the next change is the next number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from appliance import atomic_files
from appliance.library.connection import APPLICATION_ID, explain_sqlite_errors
from models.errors import RushesError

if TYPE_CHECKING:
    from sqlite_utils import Database

    from appliance.library.connection import sqlite3


def m001_shots_takes_events_machines(db: Database) -> None:
    """Shots, takes (the queue and the history), events, and machines."""
    db.execute("""
        CREATE TABLE shots (
            id INTEGER PRIMARY KEY,
            scene TEXT NOT NULL,
            setup TEXT NOT NULL,
            action TEXT NOT NULL DEFAULT '',       -- of its latest direction
            first_queued_at REAL NOT NULL,
            print_take INTEGER REFERENCES takes (id),  -- the circled take
            UNIQUE (scene, setup)
        ) STRICT""")
    db.execute("CREATE INDEX shots_by_name ON shots (upper(scene || setup))")
    db.execute("""
        CREATE TABLE takes (
            id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice: it is in the names of films
            shot_id INTEGER NOT NULL REFERENCES shots (id),
            take_number INTEGER NOT NULL CHECK (take_number > 0),
            action TEXT NOT NULL DEFAULT '',
            direction_json TEXT NOT NULL,
            device TEXT,                           -- the one that was asked for
            plan_json TEXT,
            card TEXT,
            status TEXT NOT NULL CHECK (status IN ('queued', 'rendering', 'delivered', 'failed', 'cancelled')),
            phase TEXT NOT NULL DEFAULT '',
            step INTEGER NOT NULL DEFAULT 0,
            steps INTEGER NOT NULL DEFAULT 0,
            seed INTEGER NOT NULL,
            path TEXT,                             -- relative to the folder of takes
            sha256 TEXT,
            error TEXT,
            attempt INTEGER NOT NULL DEFAULT 0,
            fence INTEGER NOT NULL DEFAULT 0,
            owner TEXT,
            machine TEXT,                          -- that began its latest attempt, as machines has it
            lease_until REAL,
            queued_at REAL NOT NULL,
            started_at REAL,
            ended_at REAL,
            predicted_seconds REAL,
            nominal_seconds REAL,                  -- predicted before calibration: what the next is calibrated by
            seconds REAL,
            peak_bytes INTEGER,
            cancel_requested INTEGER NOT NULL DEFAULT 0,
            prev_take INTEGER REFERENCES takes (id),
            search TEXT NOT NULL DEFAULT '',       -- case-folded words that `takes(words)` looks in
            UNIQUE (shot_id, take_number)
        ) STRICT""")
    db.execute("CREATE INDEX takes_by_status ON takes (status, id)")
    db.execute("CREATE INDEX takes_by_end ON takes (ended_at)")
    db.execute("""
        CREATE TABLE events (
            id INTEGER PRIMARY KEY,
            take_id INTEGER REFERENCES takes (id),
            at REAL NOT NULL,
            kind TEXT NOT NULL,
            text TEXT NOT NULL DEFAULT ''
        ) STRICT""")
    db.execute("CREATE INDEX events_by_take ON events (take_id, id)")
    db.execute("""
        CREATE TABLE machines (
            name TEXT PRIMARY KEY,
            facts_json TEXT NOT NULL,
            first_seen REAL NOT NULL,
            last_seen REAL NOT NULL
        ) STRICT""")


def m002_rates_and_misses(db: Database) -> None:
    """Measured rates of machines, how a take was planned, and a plan that ran out of memory."""
    for column in ("rates_json TEXT", "rates_at REAL"):  # {"cpu": {...}, "cuda:0": {...}}, and when
        db.execute(f"ALTER TABLE machines ADD COLUMN {column}")
    for column in (
        "precision TEXT",  # with device_kind and card: what takes are calibrated by
        "device_kind TEXT",  # "cpu" | "cuda"
        "predicted_bytes INTEGER",
        "missed_place TEXT",  # where a plan of this take ran out of memory,
        "missed_bytes INTEGER",  # that had predicted so many
    ):
        db.execute(f"ALTER TABLE takes ADD COLUMN {column}")
    # Predictions are computed differently from here on, so ratios to the old ones are of no use.
    db.execute("UPDATE takes SET nominal_seconds = NULL")


def m003_measures(db: Database) -> None:
    """Asked and measured values of a take's film, axis by axis."""
    db.execute("""
        CREATE TABLE measures (
            take_id INTEGER NOT NULL REFERENCES takes (id),
            place INTEGER NOT NULL,      -- in the order they are told
            axis TEXT NOT NULL,
            unit TEXT NOT NULL,
            asked REAL NOT NULL,
            measured REAL,               -- NULL: it could not be, and the note says why
            error REAL,                  -- in the unit of its tolerance
            tolerance REAL NOT NULL,
            tolerance_unit TEXT NOT NULL,
            ok INTEGER,                  -- 1 within tolerance, 0 off, NULL not measured
            note TEXT NOT NULL DEFAULT '',
            PRIMARY KEY (take_id, place)
        ) STRICT, WITHOUT ROWID""")


def m004_models_and_words(db: Database) -> None:
    """The model of a take, and the cache of text embeddings."""
    for column in ("model TEXT", "model_sha256 TEXT"):  # the package's name; the hash of its data, once it was planned
        db.execute(f"ALTER TABLE takes ADD COLUMN {column}")
    db.execute("""
        CREATE TABLE embeddings (
            key TEXT PRIMARY KEY,        -- of text, encoder and length
            tokens INTEGER NOT NULL,
            data BLOB NOT NULL,          -- bf16, tokens rows of them
            used_at REAL NOT NULL
        ) STRICT""")
    db.execute("CREATE INDEX embeddings_by_use ON embeddings (used_at)")


STEPS: tuple[Callable[[Database], None], ...] = (
    m001_shots_takes_events_machines,
    m002_rates_and_misses,
    m003_measures,
    m004_models_and_words,
)


def migrate(connection: sqlite3.Connection, path: Path, steps: Sequence[Callable[[Database], None]] = STEPS) -> None:
    """Migrates the library to the newest format. Raises RushesError for one of a newer Rushes or of another program.

    An older library is first copied next to itself, as NAME-format-N.backup.
    """
    with explain_sqlite_errors(path):
        found = _format(connection, path, newest=len(steps))
        if found == len(steps):
            return
        if found:
            _backup(connection, path.with_name(f"{path.stem}-format-{found}.backup"))

        from sqlite_utils import Database  # here, because it loads numpy: see appliance/library/connection.py

        connection.execute("BEGIN IMMEDIATE")
        try:
            found = _format(connection, path, newest=len(steps))  # another process may have migrated it meanwhile
            db = Database(connection)
            if not found:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.table("migrations").create(
                    {"number": int, "name": str, "at": float}, pk="number", not_null={"name", "at"}, strict=True
                )
            for number, step in enumerate(steps[found:], start=found + 1):
                step(db)
                db.table("migrations").insert({"number": number, "name": step.__name__, "at": time.time()})
            connection.execute(f"PRAGMA user_version = {len(steps)}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _format(connection: sqlite3.Connection, path: Path, newest: int) -> int:
    """The number of migrations that were applied. Raises RushesError when the file is not a library we can use."""
    # One statement, so one snapshot: another process may be creating the tables at this moment.
    found, owner, tables = connection.execute(
        "SELECT (SELECT user_version FROM pragma_user_version), (SELECT application_id FROM pragma_application_id), "
        "(SELECT count(*) FROM sqlite_master)"
    ).fetchone()
    if owner != APPLICATION_ID and (owner or found or tables):
        raise RushesError(
            f"{path} is another program's database and was not changed: move it away, or set RUSHES_HOME elsewhere"
        )
    if found > newest:
        raise RushesError(
            f"the library {path} was written by a newer Rushes (format {found}; this one knows up to {newest}): "
            "update Rushes, or set RUSHES_HOME to another folder; it was not changed"
        )
    return found


def _backup(connection: sqlite3.Connection, copy: Path) -> None:
    """A complete copy: VACUUM INTO reads one consistent state and writes into an empty file."""
    part = atomic_files.create_part(copy)
    connection.execute("VACUUM INTO ?", (str(part),))
    atomic_files.replace(part, copy)
