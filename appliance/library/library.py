"""The library: queue, history, and the channel between desks, commands and the daemon, in one SQLite file.

All SQL of Rushes is in this folder. A Library belongs to the thread that opened it; open another in another thread.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from appliance import paths
from appliance.library.connection import connect
from appliance.library.migrations import migrate
from appliance.library.rows import event_of, measured_row, parse_reference, search_words
from appliance.library.take import Status, Take, TakeEvent
from appliance.library.transitions import Fenced, Ledger
from appliance.safe_text import clean
from models.errors import BadInput

if TYPE_CHECKING:
    from appliance.direction.shot import ShotDirection
    from appliance.measuring.result import Measured

__all__ = ["Fenced", "Library"]

LONGEST_SEED = 2**31
OF_SHOT = "shot_id IN (SELECT id FROM shots WHERE upper(scene || setup) = ?)"  # served by the index shots_by_name


class Library(Ledger):
    """The open library. Use `Library.open()`; every method here is one short transaction."""

    @classmethod
    def open(cls, path: Path | None = None) -> Library:
        """Opens the installation's library, or the one at `path`; creates it where there is none."""
        path = (path or paths.library()).absolute()
        connection = connect(path)
        try:
            migrate(connection, path)
        except BaseException:
            connection.close()
            raise
        return cls(connection, path)

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Queueing takes

    def queue(
        self, direction: ShotDirection, prev_take: int | None = None, device: str | None = None,
        predicted_seconds: float | None = None,
    ) -> Take:  # fmt: skip
        """Appends a take to the queue. Draws a random seed where the direction states none. `predicted_seconds` is the
        quote's, if there was one.

        It becomes the next take of its slate, or the take number that the direction states (not of a retake: that
        number is `prev_take`'s). Raises BadInput when a take of that number exists.
        """
        from appliance.direction.document import to_json  # start-up

        seed = secrets.randbelow(LONGEST_SEED) if direction.seed is None else direction.seed
        direction_json = to_json(replace(direction, seed=seed))
        scene, setup, action = clean(direction.scene), clean(direction.setup), clean(direction.text.action)
        asked = direction.take if prev_take is None else None
        with self.immediate():
            shot_id = self.shot(scene, setup, action)
            used = [row[0] for row in self.rows(
                "SELECT take_number FROM takes WHERE shot_id = ? ORDER BY take_number", shot_id
            )]  # fmt: skip
            if asked in used:
                raise BadInput(
                    f"take {asked} of {scene}{setup} exists: leave `take` out of the shot for the next, {used[-1] + 1}"
                )
            number = asked or (used[-1] + 1 if used else 1)
            row = {
                "shot_id": shot_id, "take_number": number, "action": action, "device": device, "model": direction.model,
                "direction_json": direction_json, "status": Status.QUEUED, "seed": seed, "queued_at": time.time(),
                "prev_take": prev_take, "predicted_seconds": predicted_seconds,
                "search": search_words(scene, setup, number, action),
            }  # fmt: skip
            return self.insert(row)

    def request_cancel(self, take_id: int) -> Take:
        """Cancels a queued take at once; a rendering one stops as soon as its worker can.

        Raises BadInput when it has ended already.
        """
        with self.immediate():
            take = self.by_id(take_id)
            if take.status is Status.QUEUED:
                return self.move(take, Status.CANCELLED, {}, "cancelled before it began")
            if take.ended:
                raise BadInput(f"take {take.slate} is already {take.status} and cannot be cancelled")
            if not take.cancel_requested:
                self.set(take_id, {"cancel_requested": 1})
                self.announce(take_id, "note", "cancel requested")
            return self.by_id(take_id)

    # Rendering takes

    def claim(self, owner: str, lease_s: float) -> Take | None:
        """Claims the oldest queued take until the lease expires; None when the queue is empty.

        `owner` is "HOST BOOT PID" (appliance.processes.owner). Takes whose lease has expired are given up first, so
        that a dead owner blocks nothing.
        """
        now = time.time()
        with self.immediate():
            self.orphans(owner, now, "the worker stopped responding (lease expired)")
            waiting = self.find("status = 'queued' ORDER BY id LIMIT 1")
            if not waiting:
                return None
            attempt = waiting[0].attempt + 1
            take = self.move(waiting[0], Status.RENDERING, {"attempt": attempt}, f"attempt {attempt}")
            owner, lease = clean(owner), now + lease_s
            self.set(
                take.id,
                {"owner": owner, "machine": owner.split()[0], "lease_until": lease, "phase": "planning"},
            )
            return self.by_id(take.id)

    def heartbeat(self, take: Take, lease_s: float) -> bool:
        """Extends the lease; returns whether a cancel was requested. Raises Fenced."""
        with self.immediate():
            now = self.held(take)
            self.set(take.id, {"lease_until": time.time() + lease_s})
            return now.cancel_requested

    def progress(self, take: Take, phase: str, step: int, steps: int) -> None:
        """Records how far the render is. Raises Fenced."""
        self.record(take, phase=phase, step=step, steps=steps)

    def record(self, take: Take, **facts: object) -> None:
        """Records facts of a rendering take, such as its plan, without a change of state. Raises Fenced."""
        with self.immediate():
            self.held(take)
            self.write(take.id, facts)

    def change(
        self, take: Take, status: Status, note: str = "", measured: Sequence[Measured] = (), **facts: object
    ) -> Take:
        """Changes the state of a take, with facts about it and what was measured on its film. Raises Fenced when the
        caller's fence is old, RushesError when TRANSITIONS does not allow the change. A render begins only with
        `claim`, which sets a lease.
        """
        if status is Status.RENDERING:
            raise ValueError("a render begins with a lease: use Library.claim")
        with self.immediate():
            self.move(take, status, facts, note)
            if measured:
                self.write_measures(take.id, measured)
            return self.by_id(take.id)

    def release(self, take: Take, reason: str, blameless: bool = False) -> Take:
        """Ends an attempt without a film: queued once more, FAILED after a second crash, CANCELLED where requested.

        Blameless (a shutdown, a full disk) does not count as an attempt. Raises Fenced.
        """
        with self.immediate():
            return self.give_up(take, reason, blameless)

    def recover(self, owner: str, reason: str) -> list[Take]:
        """For the one daemon as it starts: no other renders here, so every rendering take was abandoned."""
        with self.immediate():
            return self.orphans(owner, float("inf"), reason)

    def note(self, take_id: int | None, text: str, kind: str = "note") -> None:
        """Adds a line to the history of a take, or of the installation (None)."""
        with self.immediate():
            self.announce(take_id, kind, text)

    # Reading

    def take(self, reference: str | int) -> Take:
        """A take by its id ("3") or slate ("12C T4", "12C-T4", "12ct4"); "12C" is its latest take. Raises BadInput."""
        take_id, shot, number = parse_reference(str(reference))
        if take_id is not None:
            found, missing = self.find("id = ?", take_id), f"there is no take {take_id}"
        elif number is not None:
            found = self.find(f"{OF_SHOT} AND take_number = ?", shot, number)
            missing = f"there is no take {shot} T{number}"
        else:
            found = self.find(f"{OF_SHOT} ORDER BY id DESC LIMIT 1", shot)
            missing = f"there is no take of {shot}"
        if not found:
            raise BadInput(f"{missing}: name one by its id (3) or slate (12C T4); `rushes takes` lists them")
        return found[0]

    def takes(self, words: Iterable[str] = (), status: Status | None = None, limit: int = 50) -> list[Take]:
        """Takes whose slate, action, status or error contain every one of the words; the newest first."""
        clauses: list[str] = ["1"]
        values: list[object] = []
        for word in words:
            clauses.append("instr(search || ' ' || status || ' ' || lower(coalesce(error, '')), ?)")
            values.append(clean(word).casefold())
        if status is not None:
            clauses.append("status = ?")
            values.append(status)
        return self.find(f"{' AND '.join(clauses)} ORDER BY id DESC LIMIT ?", *values, limit)

    def board(self, recent: int = 20) -> list[Take]:
        """The rendering take, then the queue in order, then the takes that ended last."""
        live = self.find("status IN ('rendering', 'queued') ORDER BY status = 'queued', id")
        return live + self.find("ended_at IS NOT NULL ORDER BY ended_at DESC, id DESC LIMIT ?", recent)

    def waiting(self) -> int:
        """How many takes are queued."""
        return self.rows("SELECT count(*) FROM takes WHERE status = 'queued'")[0][0]

    def events(self, take_id: int | None = None, limit: int = 200) -> list[TakeEvent]:
        """The history of a take, oldest first; without an id, of the installation and all takes."""
        where, values = ("take_id = ?", [take_id]) if take_id is not None else ("1", [])
        rows = self.rows(
            f"SELECT id, take_id, at, kind, text FROM events WHERE {where} ORDER BY id DESC LIMIT ?", *values, limit
        )
        return [event_of(row) for row in reversed(rows)]

    def measures(self, *take_ids: int) -> dict[int, tuple[Measured, ...]]:
        """What was measured on the films of takes, by take id; takes without measurements are left out."""
        marks = ", ".join("?" * len(take_ids))
        found: dict[int, list[Measured]] = {}
        for row in self.rows(f"SELECT * FROM measures WHERE take_id IN ({marks}) ORDER BY take_id, place", *take_ids):
            found.setdefault(row["take_id"], []).append(measured_row(row))
        return {take_id: tuple(rows) for take_id, rows in found.items()}

    def data_version(self) -> int:
        """A number that changes when another connection commits, not when this one does. Takes 4 microseconds."""
        return self.rows("PRAGMA data_version")[0][0]

    # Maintenance

    def checkpoint(self) -> bool:
        """Checkpoints the write-ahead log and truncates it; False when a reader or writer prevented it."""
        return self.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0

    def faults(self) -> list[str]:
        """What SQLite finds wrong with the file; empty where nothing is."""
        found = [row[0] for row in self.rows("PRAGMA quick_check(10)") if row[0] != "ok"]
        return found + [
            f"row {row[1]} of {row[0]} refers to a row that does not exist"
            for row in self.rows("PRAGMA foreign_key_check")
        ]
