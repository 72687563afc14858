"""How long a render takes: FLOPs over a rate, then corrected by what takes on this machine really took."""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.card import Card
from models.footprint import AUTOENCODERS, film_flops
from models.geometry import Geometry

# Sustained FLOP/s. CPU: the shipped model runs at 216 GFLOP/s on one quiet core of a Xeon with AMX, at 90 to 160 with
# AVX-512 alone, and a laptop without either reaches about 30: the slowest is assumed until takes are measured.
CPU_FLOPS_A_CORE = 30e9
# GPU, by compute capability: about a third of the dense bf16 peak of that generation's mid-size card. Not measured.
GPU_FLOPS = {
    (7, 5): 15e12,
    (8, 0): 80e12,
    (8, 6): 25e12,
    (8, 9): 50e12,
    (9, 0): 200e12,
    (10, 0): 300e12,
    (12, 0): 60e12,
}
STEP_OVERHEAD_S = 0.03  # a step of a small network waits for launches, not for arithmetic

STAGE_S_A_PIXEL = 6e-6  # control films at 2x2 rays a pixel, a core: 3.2 microseconds a pixel and frame measured
ENCODE_S_A_PIXEL = 0.3e-6  # exact colour, x264 medium and two proving decodes: 0.1 to 0.2 measured
START_S = 2.0  # reading and proving the weights, once; a warm worker needs none of it

UNMEASURED = (0.3, 2.0)  # of the estimate: how far off arithmetic alone has to be taken to be


@dataclass(frozen=True, slots=True)
class Calibration:
    """What delivered takes of a card on this machine took, over what arithmetic alone had estimated."""

    ratio: float  # the median
    takes: int  # that it is the median of


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


def estimate_seconds(
    card: Card, geometry: Geometry, steps: int, place: str, cores: int, capability: tuple[int, int] | None
) -> float:
    """Seconds from the order to the film by arithmetic alone. `place` is "cpu" or "cuda:N"."""
    pixels = geometry.frames * geometry.height * geometry.width
    stage = pixels * STAGE_S_A_PIXEL / cores if AUTOENCODERS[card.vae].encodes else 0.0
    films = stage + pixels * ENCODE_S_A_PIXEL
    work = film_flops(card, geometry, steps * card.passes)
    if place == "cpu":
        return START_S + films + work / (cores * CPU_FLOPS_A_CORE)
    known = [rate for found, rate in sorted(GPU_FLOPS.items()) if capability is not None and found <= capability]
    rate = known[-1] if known else min(GPU_FLOPS.values())
    return START_S + films + steps * card.passes * STEP_OVERHEAD_S + work / rate


def interval(estimated: float, calibration: Calibration | None) -> tuple[float, float, float]:
    """(low, likely, high) seconds. Measured takes narrow it, from 50 % either way after one to 20 % after many.

    Raises ValueError for a ratio that no take can have.
    """
    if calibration is None:
        return estimated * UNMEASURED[0], estimated, estimated * UNMEASURED[1]
    if not (math.isfinite(calibration.ratio) and calibration.ratio > 0 and calibration.takes >= 1):
        raise ValueError(f"{calibration} cannot be: its ratio must be above 0 and of at least 1 take")
    likely = estimated * calibration.ratio
    spread = 1.15 + 0.35 / math.sqrt(calibration.takes)
    return likely / spread, likely, likely * spread
