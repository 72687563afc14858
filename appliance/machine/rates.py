"""What a machine was measured to do: FLOPs and bytes a second of its devices, and corrections learned from takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

Document = dict[str, Any]


def rates_of(document: Document) -> Rates:
    """The figures of a document; one that is no rate, whoever wrote it, is none."""
    found = document.get("rates", {})
    names = [field.name for field in fields(Rates)]
    return Rates(**{name: float(found[name]) for name in names if _is_rate(found.get(name))})


def _is_rate(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What delivered takes of a card on this machine took, over what arithmetic alone had estimated."""

    ratio: float  # the median
    takes: int  # that it is the median of
    memory: float = 1.0  # the most that one of them took over its predicted peak; 1.0 where none took more


@dataclass(frozen=True, slots=True)
class Rates:
    """What this machine was measured to do, each figure for itself; None is what was not measured.

    FLOPs count a multiply-add as 2; bytes of a copy are counted once read and once written.
    """

    flops_int8: float | None = None  # of an int8 matrix product as the blocks make it
    flops_bf16: float | None = None
    copy_bytes_s: float | None = None  # inside the device's memory
    upload_bytes_s: float | None = None  # pinned host memory to the device
    disk_bytes_s: float | None = None  # reading the model store, not from the page cache


@dataclass(frozen=True, slots=True)
class MachineHistory:
    """What one machine has shown of itself with one card: measured rates, and how its takes compared with plans."""

    rates: Mapping[str, Rates] = field(default_factory=dict)  # by place: "cpu", "cuda:0"
    calibrations: Mapping[tuple[str, str], Calibration] = field(default_factory=dict)  # by precision and device kind
