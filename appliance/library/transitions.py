"""The base of Library: transactions, and the one function through which a take's state changes.

`Ledger.move` checks the fence and TRANSITIONS, writes the row, then announces it as an event, in one
BEGIN IMMEDIATE: a DEFERRED read-then-write would fail at once when somebody else commits between the two.
No cursor is left open: one unfinished reader would keep the write-ahead log growing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.library.connection import explain_sqlite_errors
from appliance.library.rows import COLUMNS, TAKES, take_of
from appliance.library.take import TRANSITIONS, Status, Take
from appliance.measuring.result import Measured
from appliance.safe_text import clean, one_line
from models.errors import BadInput, RushesError

if TYPE_CHECKING:
    from appliance.library.connection import sqlite3

MAX_ATTEMPTS = 2  # a take whose worker crashes is tried once more; the second crash fails it
MAX_CLAIMS = 6  # with restarts that do not count as attempts: a take that crashes the whole machine must end too

# The columns that `write` may set: column names never come from outside.
FACTS = frozenset({
    "phase", "step", "steps", "plan_json", "card", "path", "sha256", "error", "attempt", "predicted_seconds",
    "nominal_seconds", "seconds", "predicted_bytes", "peak_bytes", "precision", "device_kind", "missed_place",
    "missed_bytes", "model", "model_sha256",
})  # fmt: skip


class Fenced(RushesError):
    """Another daemon has claimed this take since, or it has ended: nothing was written."""


class Ledger:
    """A connection and the state changes of takes. The methods, except `rows`, run inside `immediate`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self.takes_folder = path.parent / "takes"
        self._db = connection

    @contextlib.contextmanager
    def immediate(self) -> Iterator[None]:
        """One write transaction: all of it, or nothing."""
        with explain_sqlite_errors(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # on a full disk SQLite has rolled back by itself
                    self._db.execute("ROLLBACK")
                raise

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Every row, read to the end."""
        with explain_sqlite_errors(self.path):
            return self._db.execute(sql, values).fetchall()

    def find(self, where: str, *values: object) -> list[Take]:
        """The takes that a WHERE clause (and what follows it) selects."""
        rows = self.rows(f"SELECT {COLUMNS} FROM {TAKES} WHERE {where}", *values)
        return [take_of(row, self.takes_folder) for row in rows]

    def by_id(self, take_id: int) -> Take:
        """The take as it is now. Raises BadInput when there is none."""
        found = self.find("id = ?", take_id)
        if not found:
            raise BadInput(f"there is no take {take_id}: `rushes takes` lists them")
        return found[0]

    def held(self, take: Take) -> Take:
        """The rendering take as it is now. Raises Fenced when the caller's claim on it is over."""
        now = self.by_id(take.id)
        if now.fence != take.fence or now.status is not Status.RENDERING:
            raise Fenced(f"take {take.slate} is {now.status}; this attempt is over: its result is discarded")
        return now

    def move(self, take: Take, status: Status, facts: dict[str, object], note: str = "") -> Take:
        """Changes the state. Raises Fenced for an old fence, RushesError where TRANSITIONS does not allow it."""
        now = self.by_id(take.id)
        if now.fence != take.fence:
            raise Fenced(f"take {take.slate} is {now.status}; this attempt is over: its result is discarded")
        if status not in TRANSITIONS[now.status]:
            allowed = " or ".join(sorted(TRANSITIONS[now.status])) or "nothing else"
            raise RushesError(f"take {now.slate} is {now.status}: it can become {allowed}, not {status}")
        moved: dict[str, object] = {"status": status, "owner": None, "lease_until": None}
        if status is Status.RENDERING:
            moved |= {"fence": now.fence + 1, "started_at": time.time()}
        elif status is Status.QUEUED:
            # The fence grows here too: the worker that rendered this take may be alive, and must not write any more.
            moved |= {"fence": now.fence + 1, "started_at": None, "phase": "", "step": 0}
        else:
            moved |= {"ended_at": time.time()}
        self.write(take.id, facts)
        self.set(take.id, moved)
        self.announce(take.id, status, note or str(facts.get("error", "")))
        return self.by_id(take.id)

    def write_measures(self, take_id: int, rows: Sequence[Measured]) -> None:
        """Records what was measured on a take's film; replaces what was recorded before."""
        self._db.execute("DELETE FROM measures WHERE take_id = ?", (take_id,))
        for position, row in enumerate(rows):
            self._db.execute(
                "INSERT INTO measures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (take_id, position, clean(row.axis), clean(row.unit), row.asked, row.measured, row.error, row.tolerance,
                 clean(row.tolerance_unit), row.ok, one_line(row.note, limit=300)),
            )  # fmt: skip

    def shot(self, scene: str, setup: str, action: str) -> int:
        """The id of a shot, added where it is new; its action becomes that of its latest direction."""
        rows = self.rows(
            "INSERT INTO shots (scene, setup, action, first_queued_at) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (scene, setup) DO UPDATE SET action = excluded.action RETURNING id",
            scene, setup, action, time.time(),
        )  # fmt: skip
        return rows[0][0]

    def insert(self, row: dict[str, object]) -> Take:
        """Adds a queued take, with a line of history."""
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        take_id = self.rows(f"INSERT INTO takes ({columns}) VALUES ({marks}) RETURNING id", *row.values())[0][0]
        self.announce(take_id, Status.QUEUED, "")
        return self.by_id(take_id)

    def write(self, take_id: int, facts: dict[str, object]) -> None:
        """Sets columns by name: only those in FACTS, text cleaned, the path made relative."""
        unknown = facts.keys() - FACTS
        if unknown:
            raise TypeError(f"not a fact of a take: {', '.join(sorted(unknown))}")
        self.set(take_id, {name: self._stored(name, value) for name, value in facts.items()})

    def set(self, take_id: int, columns: dict[str, object]) -> None:
        """Sets columns of a take."""
        if columns:
            assignments = ", ".join(f"{column} = ?" for column in columns)
            self._db.execute(f"UPDATE takes SET {assignments} WHERE id = ?", (*columns.values(), take_id))

    def announce(self, take_id: int | None, kind: str, text: str) -> None:
        """Adds a line to the history."""
        self._db.execute(
            "INSERT INTO events (take_id, at, kind, text) VALUES (?, ?, ?, ?)",
            (take_id, time.time(), clean(kind), one_line(text, limit=1000)),
        )

    def give_up(self, take: Take, reason: str, blameless: bool = False) -> Take:
        """Ends an attempt that made no film: the take is queued again, fails, or is cancelled where that was asked.

        Blameless (a power cut, a shutdown) does not count as an attempt.
        """
        now = self.held(take)
        if now.cancel_requested:
            return self.move(take, Status.CANCELLED, {}, f"{reason}; a cancel had been requested")
        claims = (now.fence + 1) // 2  # a claim and a release each add one to the fence
        if blameless and claims < MAX_CLAIMS:
            return self.move(take, Status.QUEUED, {"attempt": max(0, now.attempt - 1)}, reason)
        if now.attempt < MAX_ATTEMPTS and claims < MAX_CLAIMS:
            return self.move(take, Status.QUEUED, {}, f"{reason}; it will be tried once more")
        remedy = f"see daemon.log next to the library for the reason, then `rushes retake {take.id}`"
        return self.move(take, Status.FAILED, {"error": f"{reason} (attempt {now.attempt}): {remedy}"})

    def orphans(self, owner: str, leases_before: float, reason: str) -> list[Take]:
        """Gives up every rendering take whose lease ended before then. `owner` is the caller, "HOST BOOT PID"."""
        found = self.find("status = 'rendering' AND coalesce(lease_until, 0) < ? ORDER BY id", leases_before)
        returned = []
        for take in found:
            if same_boot(take.owner, owner):
                returned.append(self.give_up(take, reason))
            else:
                returned.append(self.give_up(take, "the machine was restarted while it rendered", blameless=True))
        return returned

    def _stored(self, name: str, value: object) -> object:
        if value is None:
            return None
        if name == "path":
            # Relative to the folder of takes, so that an installation can move to a larger disk.
            return str(Path(str(value)).relative_to(self.takes_folder))
        if name in ("error", "phase"):
            return one_line(str(value), limit=1000)
        return value


def same_boot(one: str | None, other: str | None) -> bool:
    """Whether two owners ("HOST BOOT PID") are of one host since one start of it."""
    return one is not None and other is not None and one.split()[:2] == other.split()[:2]
