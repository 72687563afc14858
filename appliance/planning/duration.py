"""How long a render takes: work over speed, corrected by how long takes on this machine really took."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING

from appliance.machine.rates import Calibration
from appliance.measuring.result import MOST_FRAMES, MOST_ROWS
from models.card import Card
from models.controls.inputs import encoded_films
from models.cost import text_encoder as text_sizes
from models.cost.autoencoder import tiling
from models.cost.flops import block_work, coder_flops
from models.cost.footprint import package_bytes
from models.cost.transformer import block_bytes, blocks_bytes
from models.geometry import Geometry

if TYPE_CHECKING:
    from appliance.planning.speed import Speed

STEP_OVERHEAD_S = 0.03  # a step of a small network on a GPU waits for kernel launches, not for arithmetic
STAGE_S_A_PIXEL = 6e-6  # control films at 2x2 rays a pixel, a core: 3.2 microseconds a pixel and frame measured
ENCODE_S_A_PIXEL = 0.3e-6  # exact colour, x264 medium and two verifying decodes: 0.1 to 0.2 measured
MEASURE_S_A_PIXEL = 1.5e-6  # measuring the finished take at its reduced size: 1.3 to 2.3 measured, on one core
START_S = 2.0  # starting torch, once; a warm worker needs none of it

UNMEASURED = (0.3, 2.0)  # of the estimate: bounds where nothing was measured on this machine
RATED = (0.6, 1.6)  # the same where its rates were measured, but no take


class BlockTimes:
    """Seconds of the blocks of one expert, for a precision, a source and a batch: compute and load."""

    def __init__(self, card: Card, geometry: Geometry, precision: str, speed: Speed, batch: int, source: str) -> None:
        work = block_work(card, geometry)
        fixed = batch * (work.attention_flops / speed.attention + work.moved_bytes / speed.copy)
        matrices = batch * work.matrix_flops
        quantized_rate = speed.bf16 if precision == "bf16" else speed.int8
        # 4-bit blocks are first unpacked: read at half a byte a weight, written at one.
        unpacking = 1.5 * block_bytes(card, "int8") / speed.copy if precision == "int4" else 0.0
        self.bf16_block_s = fixed + matrices / speed.bf16  # a block that quantization leaves in bf16
        self.block_s = fixed + matrices / quantized_rate + unpacking
        link = speed.upload if source == "ram" else min(speed.upload, speed.disk)
        kept = card.kept_blocks
        compute = [self.bf16_block_s if layer in kept else self.block_s for layer in range(card.layers)]
        load = [size / link for size in blocks_bytes(card, precision)]
        self.load_s = load[len(load) // 2]  # of an ordinary block
        self._resident = [0.0, *accumulate(compute)]
        streamed = [max(pair) for pair in zip(compute, load, strict=True)]
        self._streamed = [*accumulate(reversed(streamed), initial=0.0)][::-1]
        self._first_load = [*load, 0.0]
        self._hints = sum(self.bf16_block_s if layer in kept else self.block_s for layer in card.vace_layers)

    def forward(self, resident: int) -> float:
        """Seconds of one forward with the first `resident` blocks on the device. A streamed block takes its compute or
        its load, whichever is longer: they overlap. The extra blocks of VACE are always resident.
        """
        return self._resident[resident] + self._streamed[resident] + self._hints

    def first(self, resident: int) -> float:
        """Seconds to load the first streamed block, once: no compute overlaps it."""
        return self._first_load[resident]


def fixed_seconds(card: Card, geometry: Geometry, precision: str, speed: Speed, cores: int, tile: int) -> float:
    """Everything but text encoding and denoising: start, loading weights, control films, encoding and decoding latents,
    writing the film's file, measuring it.
    """
    pixels = geometry.frames * geometry.height * geometry.width
    measured_share = min(1.0, MOST_ROWS / geometry.height) ** 2 * min(1.0, MOST_FRAMES / geometry.frames)
    stage = pixels * STAGE_S_A_PIXEL / cores if encoded_films(card) else 0.0
    coding = coder_flops(card, geometry) * tiling(card, geometry, tile) / speed.film
    film = pixels * (ENCODE_S_A_PIXEL + measured_share * MEASURE_S_A_PIXEL)
    return START_S + package_bytes(card, precision) / speed.disk + stage + coding + film


def text_seconds(card: Card, text: str, speed: Speed) -> float:
    """Encoding the prompt: loading the encoder's file once, and computing it. `text`: where it is encoded."""
    if text in ("none", "cached"):
        return 0.0
    return text_sizes.LAYERS * text_sizes.LAYER_BYTES / min(speed.upload, speed.disk) + (
        text_sizes.text_flops(card) / speed.bf16
    )


def interval(estimated: float, calibration: Calibration | None, rated: bool = False) -> tuple[float, float, float]:
    """(low, likely, high) seconds. Measured takes narrow it, from 50 % either way after one to 20 % after many.

    `rated`: the rates behind the estimate were measured on this machine. Raises ValueError for an impossible ratio.
    """
    if calibration is None:
        low, high = RATED if rated else UNMEASURED
        return estimated * low, estimated, estimated * high
    if not (math.isfinite(calibration.ratio) and calibration.ratio > 0 and calibration.takes >= 1):
        raise ValueError(f"{calibration} cannot be: its ratio must be above 0 and of at least 1 take")
    likely = estimated * calibration.ratio
    spread = 1.15 + 0.35 / math.sqrt(calibration.takes)
    return likely / spread, likely, likely * spread
