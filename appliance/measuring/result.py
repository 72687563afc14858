"""The measured axes of a take, as values and words; measured by appliance/measuring/take.py."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

MOST_ROWS, MOST_FRAMES = (
    256,
    129,
)  # at most measured of a take: larger pictures are averaged down, of longer films frames are left out


@dataclass(frozen=True, slots=True)
class Measured:
    """One axis of one take."""

    axis: str  # "pan" | "tilt" | ... | "mara place"
    unit: str
    asked: float
    measured: float | None  # None: it could not be measured
    error: float | None  # in the unit of `tolerance`
    tolerance: float
    tolerance_unit: str
    note: str = ""  # why it was not measured

    @property
    def ok(self) -> bool | None:
        """Whether it is within tolerance; None where it was not measured."""
        return None if self.error is None else abs(self.error) <= self.tolerance

    @property
    def verdict(self) -> str:
        """One word: ok, OFF, not measured."""
        return {True: "ok", False: "OFF", None: "not measured"}[self.ok]

    def cells(self) -> tuple[str, str, str, str, str, str]:
        """The cells of a table row under HEAD."""
        if self.measured is None or self.error is None:
            seen, off, verdict = "", "", f"{self.verdict}: {self.note}" if self.note else self.verdict
        else:
            seen, off, verdict = _with_unit(self.measured, self.unit), _signed(self.error), self.verdict
        return (
            self.axis,
            _with_unit(self.asked, self.unit),
            seen,
            off,
            _with_unit(self.tolerance, self.tolerance_unit),
            verdict,
        )

    def words(self) -> str:
        """One line: "ok  pan 19.2, 20 asked: off by -0.8 of 1.5 deg"."""
        if self.measured is None or self.error is None:
            return f"{self.axis} not measured" + (f": {self.note}" if self.note else "")
        off = f"off by {_signed(self.error)} of {_with_unit(self.tolerance, self.tolerance_unit)}"
        return f"{self.verdict:<3} {self.axis} {_number(self.measured)}, {_number(self.asked)} asked: {off}"

    def to_json(self) -> dict[str, Any]:
        """As in the page of a take and the worker's messages; a value that is not finite counts as not measured."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {name: float(value) if isinstance(value, float) else value for name, value in found.items()}
        for name in ("measured", "error"):
            if plain[name] is not None and not math.isfinite(plain[name]):
                plain["measured"] = plain["error"] = None
        return plain | {"ok": None if plain["error"] is None else self.ok}


HEAD = ("axis", "asked", "measured", "off by", "allowed", "")  # of `Measured.cells`


def measured_of(document: object) -> tuple[Measured, ...]:
    """The rows in a list of JSON objects, which may be untrusted; anything else is left out."""
    rows = document if isinstance(document, list) else []
    return tuple(row for item in rows if isinstance(item, Mapping) and (row := _row(item)) is not None)


def verdict_words(within: int, measured: int) -> str:
    """ "7/9"; "" where nothing was measured."""
    return f"{within}/{measured}" if measured else ""


def _row(item: Mapping[str, Any]) -> Measured | None:
    texts = {name: item.get(name) for name in ("axis", "unit", "tolerance_unit", "note")}
    numbers = {name: item.get(name) for name in ("asked", "measured", "error", "tolerance")}
    if not all(isinstance(text, str) for text in texts.values()):
        return None
    if not all(value is None or _is_number(value) for value in numbers.values()):
        return None
    if numbers["asked"] is None or numbers["tolerance"] is None:
        return None
    return Measured(**texts, **numbers)  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: float) -> str:
    """Three significant digits; 0 below 0.0005."""
    if abs(value) < 5e-4:
        return "0"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _signed(value: float) -> str:
    text = _number(value)
    return text if text.startswith("-") or text == "0" else f"+{text}"


def _with_unit(value: float, unit: str) -> str:
    return f"{_number(value)} {unit}".rstrip()
