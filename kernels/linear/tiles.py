"""Tile sizes by kernel, shape class and compute capability, as data.

There is no autotuning at run time: it takes seconds per shape, and memory during a render. What limits a tile:

    shared memory   99 KB per program on 8.6, 8.9 and 12.0; 163 KB on 8.0; 227 KB on 9.0 and 10.0. A product holds
                    stages x (BLOCK_M + BLOCK_N) x BLOCK_K bytes of int8, one stage less where loads are cp.async.
    registers       255 per thread; more spill to memory. Triton 3.9 takes about 90 more than 3.6 for an integer product
                    on 8.0 to 8.9 (246 against 154 at 128x128x128), so 128x256x128 spills 656 bytes there, on 10.0 64.
    tensor cores    9.0 multiplies tiles of 64 x 256 straight from shared memory: 128x256x128 costs it 195 registers.
                    12.0 can just hold it too, with 255 of 255 and 96 of 99 KB.

Every tile here compiles without spills under Triton 3.6 and 3.9 for each capability it serves. Which is fastest has to
be measured.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton

OLDEST = (8, 0)  # the first with integer tensor cores that Triton uses


class Tile(NamedTuple):
    """One program's part of a matrix product: BLOCK_M x BLOCK_N results in steps of BLOCK_K, by so many warps."""

    block_m: int
    block_n: int
    block_k: int
    warps: int
    stages: int


# kernel -> shape class -> the capability from which a tile is used
TILES = {
    "int8_linear": {
        # Few rows, or fewer large tiles than a GPU has multiprocessors: half tiles keep twice as many of them busy.
        "small": {(8, 0): Tile(64, 128, 128, 4, 3)},
        "large": {
            (8, 0): Tile(128, 128, 128, 8, 3),
            (9, 0): Tile(128, 256, 128, 8, 3),
            (10, 0): Tile(128, 128, 128, 8, 3),
        },
    },
}
FEW_TILES = 64  # of 128 x 128; the GPUs concerned have 28 to 170 multiprocessors


def tile_for(kernel: str, shape_class: str, capability: tuple[int, int]) -> dict[str, int]:
    """Launch arguments of the tile for the highest listed capability not above this one."""
    rows = TILES[kernel][shape_class]
    tile = rows[max(row for row in rows if row <= max(capability, OLDEST))]
    return {
        "BLOCK_M": tile.block_m,
        "BLOCK_N": tile.block_n,
        "BLOCK_K": tile.block_k,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }


def product_class(M: int, N: int) -> str:
    """The shape class of a matrix product with M x N results."""
    return "small" if M <= 64 or triton.cdiv(M, 128) * triton.cdiv(N, 128) < FEW_TILES else "large"


def capability_of(device: torch.device) -> tuple[int, int]:
    """The compute capability that Triton compiles for; OLDEST where kernels are interpreted on the CPU."""
    if device.type == "cpu":
        return OLDEST
    major, minor = divmod(triton.runtime.driver.active.get_current_target().arch, 10)
    return major, minor
