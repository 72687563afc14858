"""Rows of the library as values, and the names of takes that people type. No SQL is run here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.library.take import Status, Take, TakeEvent
from appliance.measuring.result import Measured
from appliance.safe_text import clean
from models.errors import BadInput

_TEXTS = ("scene", "setup", "action", "device", "phase", "error", "owner", "machine", "missed_place", "model")
_PLAIN = (
    "id", "take_number", "direction_json", "plan_json", "step", "steps", "seed", "sha256", "attempt", "fence",
    "lease_until", "queued_at", "started_at", "ended_at", "predicted_seconds", "seconds", "predicted_bytes",
    "peak_bytes", "prev_take", "missed_bytes", "model_sha256",
)  # fmt: skip
COLUMNS = ", ".join(
    [
        *_TEXTS,
        *_PLAIN,
        "status",
        "path",
        "cancel_requested",
        *(
            f"(SELECT count(*) FROM measures WHERE take_id = takes.id AND ok {test}) AS {name}"
            for name, test in (("axes_measured", "IS NOT NULL"), ("axes_within", "= 1"))
        ),
    ]
)
# Takes with the scene and setup of their shot and none of its other columns, so that `id` and `action` are a take's.
TAKES = "takes JOIN (SELECT id AS shot_id, scene, setup FROM shots) USING (shot_id)"


def take_of(row: Mapping, takes_folder: Path) -> Take:
    """A row of the table of takes as a Take. Text is cleaned again: another program may have written it."""
    values: dict[str, Any] = {name: row[name] for name in _PLAIN}
    values |= {name: None if row[name] is None else clean(row[name]) for name in _TEXTS}
    return Take(
        slate=slate(values["scene"], values["setup"], row["take_number"]),
        status=Status(row["status"]),
        path=None if row["path"] is None else takes_folder / clean(row["path"]),
        cancel_requested=bool(row["cancel_requested"]),
        axes_measured=row["axes_measured"],
        axes_within=row["axes_within"],
        **values,
    )


def event_of(row: Mapping) -> TakeEvent:
    """A row of the table of events."""
    return TakeEvent(row["id"], row["take_id"], row["at"], clean(row["kind"]), clean(row["text"]))


def measured_row(row: Mapping) -> Measured:
    """A row of the table of measures."""
    return Measured(
        clean(row["axis"]), clean(row["unit"]), row["asked"], row["measured"], row["error"], row["tolerance"],
        clean(row["tolerance_unit"]), clean(row["note"]),
    )  # fmt: skip


def slate(scene: str, setup: str, take_number: int) -> str:
    """The name of a take: ("12", "C", 4) is 12C T4."""
    return f"{scene}{setup} T{take_number}"


def search_words(scene: str, setup: str, take_number: int, action: str) -> str:
    """The text that `takes(words)` searches: the slate in each of its spellings and the action, case-folded."""
    return f"{slate(scene, setup, take_number)} {scene}{setup}-T{take_number} {action}".casefold()


def parse_reference(reference: str) -> tuple[int | None, str | None, int | None]:
    """(id, shot, take number) as typed: "3" is an id, "12C T4", "12C-T4" and "12ct4" are a slate, "12C" is a shot.

    A plain number is always an id. Raises BadInput for an empty text and for an id that no library can hold.
    """
    text = clean(reference).strip().lstrip("#")
    if not text:
        raise BadInput("no take was given: name one by its id (3) or slate (12C T4); `rushes takes` lists them")
    if re.fullmatch(r"[0-9]+", text):
        if len(text) > 18:  # SQLite holds 64 bits
            raise BadInput(f"there is no take {text}: ids are small numbers; `rushes takes` lists them")
        return int(text), None, None
    if match := re.fullmatch(r"(.+?)[\s_-]*T([0-9]{1,9})", text.upper()):
        return None, match[1], int(match[2])
    return None, text.upper(), None
