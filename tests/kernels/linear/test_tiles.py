"""The tile table: every tile fits the GPUs it serves, and a GPU takes the nearest row below it."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

from kernels.linear.tiles import TILES, product_class, tile_for

SHARED_LIMIT_BYTES = {  # of one program, from NVIDIA's tables of compute capabilities
    (8, 0): 166_912, (8, 6): 101_376, (8, 9): 101_376, (9, 0): 232_448, (10, 0): 232_448, (12, 0): 101_376,
    (12, 1): 101_376,
}  # fmt: skip
CASES = [
    (kernel, shape_class, capability)
    for kernel, classes in TILES.items()
    for shape_class in classes
    for capability in SHARED_LIMIT_BYTES
]


@pytest.mark.parametrize(("kernel", "shape_class", "capability"), CASES)
def test_a_tile_fits_its_gpus(kernel: str, shape_class: str, capability: tuple[int, int]) -> None:
    tile = tile_for(kernel, shape_class, capability)
    rows, columns, depth, warps = (tile[name] for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K", "num_warps"))
    stage = (rows + columns) * depth
    # As the compiled kernels are: 9.0 and 10.0 hold every stage, with cp.async one is always in flight.
    held = tile["num_stages"] if capability[0] in (9, 10) else tile["num_stages"] - 1
    assert held * stage <= SHARED_LIMIT_BYTES[capability]
    # int32 sums live in registers: 255 a thread, of 32 to a warp, and half of them are wanted for the rest.
    assert rows * columns <= 128 * 32 * warps
    assert all(size & (size - 1) == 0 for size in (rows, columns, depth, warps))
    assert depth % 32 == 0  # an int8 tensor-core instruction takes 32 at a time


def test_hopper_alone_takes_the_wide_tile() -> None:
    wide = {
        capability for capability in SHARED_LIMIT_BYTES if tile_for("int8_linear", "large", capability)["BLOCK_N"] > 128
    }
    assert wide == {(9, 0)}


def test_a_gpu_takes_the_nearest_row_below() -> None:
    assert tile_for("int8_linear", "large", (9, 9)) == tile_for("int8_linear", "large", (9, 0))
    assert tile_for("int8_linear", "large", (13, 0)) == tile_for("int8_linear", "large", (12, 0))
    assert tile_for("int8_linear", "large", (7, 5)) == tile_for("int8_linear", "large", (8, 0))


@pytest.mark.parametrize(
    ("m", "n", "expected"),
    [
        (32760, 5120, "large"),
        (75600, 13824, "large"),
        (512, 5120, "large"),  # keys of the context: 160 tiles
        (512, 1536, "small"),  # 48
        (16, 30720, "small"),  # many tiles, each nearly empty
        (1008, 256, "small"),  # the shipped model at its smallest
        (4032, 1024, "large"),
        (1, 1, "small"),
    ],
)
def test_classes(m: int, n: int, expected: str) -> None:
    assert product_class(m, n) == expected
