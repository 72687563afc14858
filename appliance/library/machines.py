"""Machines in the library: facts, measured rates, and how long takes took compared with their plans."""

from __future__ import annotations

import json
import time
from statistics import median

from appliance import processes
from appliance.library.transitions import Ledger
from appliance.machine.rates import Calibration, MachineHistory, Rates, rates_of
from appliance.safe_text import clean
from models.card import Card


def note_machine(library: Ledger, name: str, facts: dict[str, object]) -> None:
    """Records the facts of a machine, and that it was seen now."""
    now = time.time()
    with library.immediate():
        library.rows(
            "INSERT INTO machines (name, facts_json, first_seen, last_seen) VALUES (?, ?, ?, ?) ON CONFLICT (name) "
            "DO UPDATE SET facts_json = excluded.facts_json, last_seen = excluded.last_seen",
            clean(name),
            json.dumps(facts),
            now,
            now,
        )


def machines(library: Ledger) -> list[tuple[str, dict[str, object], float]]:
    """(name, facts, last seen) of every machine, the latest first."""
    rows = library.rows("SELECT name, facts_json, last_seen FROM machines ORDER BY last_seen DESC")
    return [(clean(name), json.loads(facts), seen) for name, facts, seen in rows]


def store_rates(library: Ledger, name: str, documents: dict[str, dict[str, object]]) -> None:
    """Records the measured rates of a machine: device ("cpu", "cuda:0") -> document of models/bench/device_rates.py."""
    now = time.time()
    with library.immediate():
        library.rows(
            "INSERT INTO machines (name, facts_json, first_seen, last_seen, rates_json, rates_at) "
            "VALUES (?, '{}', ?, ?, ?, ?) ON CONFLICT (name) "
            "DO UPDATE SET rates_json = excluded.rates_json, rates_at = excluded.rates_at",
            clean(name),
            now,
            now,
            json.dumps(documents),
            now,
        )


def measured_rates(library: Ledger, name: str) -> dict[str, Rates]:
    """The measured rates of a machine by device; empty before `rushes doctor --calibrate`."""
    rows = library.rows("SELECT rates_json FROM machines WHERE name = ? AND rates_json IS NOT NULL", clean(name))
    return {device: rates_of(document) for row in rows for device, document in json.loads(row[0]).items()}


def calibrations(library: Ledger, card: str, machine: str, last: int = 20) -> dict[tuple[str, str], Calibration]:
    """By precision and kind of device ("cpu" | "cuda"), of a card's last delivered takes on a machine: the median of
    measured over nominal seconds, and the largest ratio of peak memory to predicted memory (at least 1).

    Nominal seconds are the prediction before calibration: else each calibration would correct the one before. Takes
    with more than one attempt do not count: the last attempt may have resumed. Nor do takes that began before the
    machine's rates were measured: they were predicted from other rates.
    """
    rows = library.rows(
        "SELECT precision, device_kind, seconds / nominal_seconds, "
        "max(1.0, coalesce(1.0 * peak_bytes / predicted_bytes, 1.0)) FROM takes WHERE card = ? AND machine = ? "
        "AND status = 'delivered' AND fence = 1 AND seconds > 0 AND nominal_seconds > 0 AND precision IS NOT NULL "
        "AND device_kind IS NOT NULL AND started_at > "
        "coalesce((SELECT rates_at FROM machines WHERE name = takes.machine), 0) ORDER BY id DESC LIMIT 1000",
        card,
        clean(machine),
    )
    takes: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for precision, kind, took, memory in rows:
        takes.setdefault((precision, kind), []).append((took, memory))
    found = {}
    for key, ratios in takes.items():
        times, memories = zip(*ratios[:last], strict=True)
        found[key] = Calibration(median(times), len(times), max(memories))
    return found


def machine_history(library: Ledger, card: Card) -> MachineHistory:
    """Rates and calibrations of this machine, for plans of a card."""
    here = processes.machine_name()
    return MachineHistory(measured_rates(library, here), calibrations(library, card.name, here))
