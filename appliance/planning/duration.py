"""How long a render takes: work over speed, then corrected by what takes on this machine really took."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING

from appliance.machine.rates import Calibration
from appliance.measuring.result import MOST_FRAMES, MOST_ROWS
from models.card import Card
from models.cost import text_encoder as text_sizes
from models.cost.autoencoder import films_read, tiling
from models.cost.flops import block_work, coder_flops
from models.cost.footprint import package_bytes
from models.cost.transformer import block_bytes, blocks_bytes
from models.geometry import Geometry

if TYPE_CHECKING:
    from appliance.planning.speed import Speed

STEP_OVERHEAD_S = 0.03  # a step of a small network on a GPU waits for launches, not for arithmetic
STAGE_S_A_PIXEL = 6e-6  # control films at 2x2 rays a pixel, a core: 3.2 microseconds a pixel and frame measured
ENCODE_S_A_PIXEL = 0.3e-6  # exact colour, x264 medium and two proving decodes: 0.1 to 0.2 measured
LOOK_S_A_PIXEL = 1.5e-6  # measuring the take by its pictures, as it keeps them: 1.3 to 2.3 measured, on one core
START_S = 2.0  # starting torch, once; a warm worker needs none of it

UNMEASURED = (0.3, 2.0)  # of the estimate: how far off arithmetic alone has to be taken to be
RATED = (0.6, 1.6)  # the same where the rates were measured here, but no take


class BlockTimes:
    """How long the blocks of one expert take at a precision, a source and a batch: each its work, or its way here."""

    def __init__(self, card: Card, geometry: Geometry, precision: str, speed: Speed, batch: int, source: str) -> None:
        work = block_work(card, geometry)
        fixed = batch * (work.attention_flops / speed.attention + work.moved_bytes / speed.copy)
        matrices = batch * work.matrix_flops
        small = speed.bf16 if precision == "bf16" else speed.int8
        # 4-bit blocks are first unpacked: read at half a byte a weight, written at one.
        unpacking = 1.5 * block_bytes(card, "int8") / speed.copy if precision == "int4" else 0.0
        self.kept_s, self.block_s = fixed + matrices / speed.bf16, fixed + matrices / small + unpacking
        way = speed.upload if source == "ram" else min(speed.upload, speed.disk)
        kept = card.kept_blocks
        works = [self.kept_s if layer in kept else self.block_s for layer in range(card.layers)]
        ways = [size / way for size in blocks_bytes(card, precision)]
        self.way_s = ways[len(ways) // 2]  # of an ordinary block
        self._staying = [0.0, *accumulate(works)]
        passing = [max(pair) for pair in zip(works, ways, strict=True)]
        self._passing = [*accumulate(reversed(passing), initial=0.0)][::-1]
        self._first = [*ways, 0.0]
        self._hinting = sum(self.kept_s if layer in kept else self.block_s for layer in card.vace_layers)

    def forward(self, stay: int) -> float:
        """Seconds of one forward in which the first `stay` blocks do not move: a block takes its work or its way.
        Blocks that make hints for others stay.
        """
        return self._staying[stay] + self._passing[stay] + self._hinting

    def first(self, stay: int) -> float:
        """The way of the first block that passes, which nothing hides, once."""
        return self._first[stay]


def fixed_seconds(card: Card, geometry: Geometry, precision: str, speed: Speed, cores: int, tile: int) -> float:
    """Everything but words and steps: start, weights from the disk, control films, coding, the film's file, and how it
    is measured.
    """
    pixels = geometry.frames * geometry.height * geometry.width
    looked_at = min(1.0, MOST_ROWS / geometry.height) ** 2 * min(1.0, MOST_FRAMES / geometry.frames)
    stage = pixels * STAGE_S_A_PIXEL / cores if films_read(card) else 0.0
    coding = coder_flops(card, geometry) * tiling(card, geometry, tile) / speed.film
    film = pixels * (ENCODE_S_A_PIXEL + looked_at * LOOK_S_A_PIXEL)
    return START_S + package_bytes(card, precision) / speed.disk + stage + coding + film


def text_seconds(card: Card, place: str, speed: Speed) -> float:
    """Reading the words: the encoder's file once, and its work."""
    if place in ("none", "cached"):
        return 0.0
    return text_sizes.LAYERS * text_sizes.LAYER_BYTES / min(speed.upload, speed.disk) + (
        text_sizes.text_flops(card) / speed.bf16
    )


def interval(estimated: float, calibration: Calibration | None, rated: bool = False) -> tuple[float, float, float]:
    """(low, likely, high) seconds. Measured takes narrow it, from 50 % either way after one to 20 % after many.

    `rated`: the rates behind the estimate were measured here. Raises ValueError for a ratio that no take can have.
    """
    if calibration is None:
        low, high = RATED if rated else UNMEASURED
        return estimated * low, estimated, estimated * high
    if not (math.isfinite(calibration.ratio) and calibration.ratio > 0 and calibration.takes >= 1):
        raise ValueError(f"{calibration} cannot be: its ratio must be above 0 and of at least 1 take")
    likely = estimated * calibration.ratio
    spread = 1.15 + 0.35 / math.sqrt(calibration.takes)
    return likely / spread, likely, likely * spread
