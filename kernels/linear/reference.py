"""Integer matrix products in plain torch: the reference for the kernels, and the CPU implementation."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.linear import packing

EXACT_WIDTH = 1024  # 127 * 127 * 1024 < 2^24: sums of this many products are exact in float32


def int8_linear(
    q: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor | None, act: str, dtype: torch.dtype
) -> Tensor:
    """act((q @ weight.T) * scale * weight_scale + bias): sums in int32, the rest in float32.

    q (M, K) int8, scale (M,) float32, weight (N, K) int8, weight_scale (N,) float32, bias (N,) float32 or None;
    act "none" | "gelu_tanh". Returns (M, N) in `dtype`.
    """
    y = int_matmul(q, weight).float().mul_(scale[:, None]).mul_(weight_scale)
    if bias is not None:
        y.add_(bias)
    if act == "gelu_tanh":
        y = F.gelu(y, approximate="tanh")
    return y.to(dtype)


def dequant_int4(packed: Tensor, multiplier: Tensor) -> Tensor:
    """Unpack int4 groups to int8 rows, exactly; the scales of the rows do not change.

    packed (N, K / 2) uint8, multiplier (N, K / group) int8: the layout of kernels/linear/packing.py. Returns (N, K)
    int8. Raises ValueError where the shapes do not match.
    """
    level = packing.unpack_int4(packed, packing.group_of(packed, multiplier))
    level.unflatten(1, (multiplier.shape[1], -1)).mul_(multiplier[:, :, None])
    return level


def int_matmul(q: Tensor, weight: Tensor) -> Tensor:
    """q (M, K) int8 @ weight (N, K) int8 transposed -> (M, N) int32, exact."""
    # torch 2.13 returns uninitialised memory for one column
    if q.device.type == "cpu" and q.shape[1] > 1 and int_mm_is_exact() and int_mm_is_fast():
        return torch._int_mm(q, weight.t())
    total = None
    for q_part, weight_part in zip(q.split(EXACT_WIDTH, dim=1), weight.split(EXACT_WIDTH, dim=1), strict=True):
        part = F.linear(q_part.float(), weight_part.float()).to(torch.int32)
        total = part if total is None else total.add_(part)
    assert total is not None, "a matrix product needs at least one column"
    return total


@lru_cache(maxsize=1)
def int_mm_is_exact() -> bool:
    """Whether this CPU's integer product is exact: without VNNI instructions, intermediate sums saturate at 16 bits.

    Tested once per process, at the first product, with the largest numbers.
    """
    largest, smallest = torch.full((64, 256), 127, dtype=torch.int8), torch.full((256, 64), -127, dtype=torch.int8)
    return bool((torch._int_mm(largest, smallest) == -127 * 127 * 256).all()) and bool(
        (torch._int_mm(largest, -smallest) == 127 * 127 * 256).all()
    )


@lru_cache(maxsize=1)
def int_mm_is_fast() -> bool:
    """Whether this CPU's integer product is at least as fast as the same product in float32.

    Without VNNI instructions it is a scalar loop: 2 against 31 GOP/s on a core of a Zen 1. Timed once per process,
    which takes milliseconds; the result is the same to the bit either way (float32 holds these sums exactly).
    """
    q = torch.ones((256, 256), dtype=torch.int8)

    def fastest(product: Callable[[], Tensor]) -> float:
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            product()
            seconds.append(time.perf_counter() - begin)
        return min(seconds)

    in_integers = fastest(lambda: torch._int_mm(q, q.t()))
    in_floats = fastest(lambda: F.linear(q.float(), q.float()).to(torch.int32))
    return in_integers <= in_floats
