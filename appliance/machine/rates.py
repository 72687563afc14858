"""Measured rates of a machine: FLOP/s and bytes/s of its devices, and corrections learned from takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

Document = dict[str, Any]


def rates_of(document: Document) -> Rates:
    """The rates of a document; a value that cannot be a rate is left out."""
    found = document.get("rates", {})
    names = [field.name for field in fields(Rates)]
    return Rates(**{name: float(found[name]) for name in names if _is_rate(found.get(name))})


def _is_rate(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Seconds and memory of delivered takes of one model on this machine, over what had been predicted."""

    ratio: float  # the median
    takes: int  # behind that median
    memory: float = 1.0  # the most that one of them took over its predicted peak; 1.0 where none took more


@dataclass(frozen=True, slots=True)
class Rates:
    """Measured rates of one device; None was not measured.

    FLOPs count a multiply-add as 2; bytes of a copy are counted once read and once written.
    """

    flops_int8: float | None = None  # of an int8 matrix product of the blocks' shapes
    flops_bf16: float | None = None
    copy_bytes_s: float | None = None  # inside the device's memory
    upload_bytes_s: float | None = None  # pinned host memory to the device
    disk_bytes_s: float | None = None  # reading the model store, not from the page cache


@dataclass(frozen=True, slots=True)
class MachineHistory:
    """What is known of one machine with one model: measured rates, and how its takes compared with plans."""

    rates: Mapping[str, Rates] = field(default_factory=dict)  # by device: "cpu", "cuda:0"
    calibrations: Mapping[tuple[str, str], Calibration] = field(default_factory=dict)  # by precision and device kind
