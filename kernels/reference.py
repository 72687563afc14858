"""Every operation in plain torch: what it means, and how the CPU computes it.

Names and signatures are those of `ops`. Integer parts are exact and rounding is half-to-even, here as in the Triton
kernels, so both give the same bits wherever no GELU is involved.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST = 127.0  # symmetric: -128 is never used
FLOOR = 1e-30  # the peak of an all-zero row, so that it divides
EXACT_WIDTH = 1024  # 127 * 127 * 1024 < 2^24: sums of this many products are exact in float32


def quant_rows(x: Tensor, gelu: bool = False) -> tuple[Tensor, Tensor]:
    """Round each row to 255 levels of its own largest value.

    x (M, K) float, any float dtype; gelu: apply tanh-GELU first. Returns q (M, K) int8 and scale (M,) float32, with
    q * scale within half a scale of x.
    """
    x = x.float()
    if gelu:
        x = F.gelu(x, approximate="tanh")
    # Two reductions, because torch's one for both (aminmax) is eight times slower on the CPU.
    peak = torch.maximum(x.amax(1, keepdim=True), -x.amin(1, keepdim=True)).clamp_min_(FLOOR)
    # A tensor over a tensor: torch turns `number / tensor` into a reciprocal and a product, which rounds twice.
    q = (x * (torch.tensor(LARGEST) / peak)).round_().to(torch.int8)
    return q, (peak / LARGEST).squeeze(1)


def int8_linear(
    q: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor | None, act: str, dtype: torch.dtype
) -> Tensor:
    """act((q @ weight.T) * scale * weight_scale + bias), summed in int32, finished in float32.

    q (M, K) int8, scale (M,) float32, weight (N, K) int8, weight_scale (N,) float32, bias (N,) float32 or None;
    act "none" | "gelu_tanh". Returns (M, N) in `dtype`.
    """
    y = int_matmul(q, weight).float().mul_(scale[:, None]).mul_(weight_scale)
    if bias is not None:
        y.add_(bias)
    if act == "gelu_tanh":
        y = F.gelu(y, approximate="tanh")
    return y.to(dtype)


def int_matmul(q: Tensor, weight: Tensor) -> Tensor:
    """q (M, K) int8 @ weight (N, K) int8 transposed -> (M, N) int32, exact."""
    if q.device.type == "cpu" and q.shape[1] > 1 and int_mm_is_exact():  # torch 2.13 gives memory noise for one column
        return torch._int_mm(q, weight.t())
    total = None
    for q_part, weight_part in zip(q.split(EXACT_WIDTH, dim=1), weight.split(EXACT_WIDTH, dim=1), strict=True):
        part = F.linear(q_part.float(), weight_part.float()).to(torch.int32)
        total = part if total is None else total.add_(part)
    assert total is not None, "a matrix product needs at least one column"
    return total


@lru_cache(maxsize=1)
def int_mm_is_exact() -> bool:
    """Whether this CPU's integer product can be trusted: without VNNI instructions it saturates at 16 bits in between.

    Found out by trying, at the first product, with the numbers that would show it.
    """
    largest, smallest = torch.full((64, 256), 127, dtype=torch.int8), torch.full((256, 64), -127, dtype=torch.int8)
    return bool((torch._int_mm(largest, smallest) == -127 * 127 * 256).all()) and bool(
        (torch._int_mm(largest, -smallest) == 127 * 127 * 256).all()
    )
