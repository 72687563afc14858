"""Unpacking int4, interpreted: the bits of its reference, at any number of rows and groups."""

from __future__ import annotations

import pytest
import torch

from kernels.linear import reference

SIZES = {  # name: (N, K, group)
    "one group": (1, 64, 64),
    "odd rows": (7, 192, 64),
    "several programs": (37, 512, 64),
    "small groups": (3, 48, 16),
    "one large group": (2, 256, 256),
}


def packed_of(n: int, k: int, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Every byte and every multiplier is a valid one."""
    generator = torch.Generator().manual_seed(n * k)
    packed = torch.randint(0, 256, (n, k // 2), dtype=torch.uint8, generator=generator)
    multiplier = torch.randint(-15, 16, (n, k // group), dtype=torch.int8, generator=generator)
    packed[0, 0], multiplier[0, 0] = 0, 15  # -8 * 15: the largest
    return packed, multiplier


def interpret_all() -> dict[str, torch.Tensor]:
    from kernels.linear import int4

    results = {name: int4.launch(*packed_of(*size)) for name, size in SIZES.items()}
    packed, multiplier = packed_of(6, 192, 64)
    results["every other row"] = int4.launch(packed[::2], multiplier[::2])
    return results


@pytest.mark.parametrize("name", list(SIZES))
def test_unpacked(interpreted, name: str) -> None:
    weight = interpreted[name]
    assert weight.dtype == torch.int8 and torch.equal(weight, reference.dequant_int4(*packed_of(*SIZES[name])))


def test_unpacked_rows_of_a_larger_matrix(interpreted) -> None:
    packed, multiplier = packed_of(6, 192, 64)
    assert torch.equal(interpreted["every other row"], reference.dequant_int4(packed[::2], multiplier[::2]))
