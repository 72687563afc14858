"""Every operation in plain torch: what it means, and how the CPU computes it.

Names and signatures are those of `ops`. Integer parts are exact and rounding is half-to-even, here as in the Triton
kernels, so both give the same bits wherever no GELU is involved.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.linear import packing
from kernels.rowwise.hadamard import rotate

LARGEST = 127.0  # symmetric: -128 is never used
FLOOR = 1e-30  # the peak of an all-zero row, so that it divides
EXACT_WIDTH = 1024  # 127 * 127 * 1024 < 2^24: sums of this many products are exact in float32


def quant_rows(x: Tensor, gelu: bool = False, hadamard: int = 0) -> tuple[Tensor, Tensor]:
    """Round each row to 255 levels of its own largest value.

    x (M, K) float, any float dtype; gelu: apply tanh-GELU first; hadamard: then rotate blocks of 256 or 512 columns, 0
    for none. Returns q (M, K) int8 and scale (M,) float32, with q * scale within half a scale of x.
    """
    y = x.float()
    if gelu:
        y = F.gelu(y, approximate="tanh")
    y = rotate(y, hadamard)
    return _round(y, own=y.data_ptr() != x.data_ptr())


def ln_mod_quant(x: Tensor, gain: Tensor, shift: Tensor, eps: float, hadamard: int = 0) -> tuple[Tensor, Tensor]:
    """LayerNorm(x) * gain + shift, then rounded as `quant_rows` does.

    x (M, D) float; gain, shift (G, D) float32: M / G consecutive rows share one, G = 1 is an affine norm. Returns q
    (M, D) int8 and scale (M,) float32.
    """
    width = x.shape[1:]
    if len(gain) == 1:
        y = F.layer_norm(x.float(), width, gain[0], shift[0], eps)
    else:
        y = F.layer_norm(x.float(), width, None, None, eps)
        grouped = _groups(y, gain)
        torch.addcmul(shift[:, None], grouped, gain[:, None], out=grouped)
    return _round(rotate(y, hadamard))


def gate_res_norm_quant(
    y: Tensor, res: Tensor, gate: Tensor | None, gain: Tensor, shift: Tensor, eps: float, hadamard: int = 0
) -> tuple[Tensor, Tensor]:
    """res += gate * y, then `ln_mod_quant` of the new res: one branch of a block ends and the next begins.

    y (M, D) float; res (M, D) float, written in place; gate (G, D) float32 or None for 1; gain, shift (H, D) float32:
    M / G and M / H consecutive rows share one. Returns q (M, D) int8 and scale (M,) float32.
    """
    gate_res(y, res, gate)
    return ln_mod_quant(res, gain, shift, eps, hadamard)


def gate_res(y: Tensor, res: Tensor, gate: Tensor | None) -> None:
    """res += gate * y in float32, in place: the last branch of a network, which no norm follows.

    y (M, D) float, res (M, D) float, gate (G, D) float32 or None for 1: M / G consecutive rows share one.
    """
    if gate is None:
        res.add_(y)
    else:
        _groups(res, gate).addcmul_(_groups(y, gate), gate[:, None])  # one pass, and one rounding where there is FMA


def _groups(x: Tensor, gain: Tensor) -> Tensor:
    """x (M, D) seen as (G, M / G, D), for G gains."""
    return x.unflatten(0, (len(gain), -1))


def _round(x: Tensor, own: bool = True) -> tuple[Tensor, Tensor]:
    """x (M, K) float32 -> its int8 rows and their scales. own: x may be written over, which spares a copy."""
    # Two reductions, because torch's one for both (aminmax) is eight times slower on the CPU.
    peak = torch.maximum(x.amax(1, keepdim=True), -x.amin(1, keepdim=True)).clamp_min_(FLOOR)
    # A tensor over a tensor: torch turns `number / tensor` into a reciprocal and a product, which rounds twice.
    levels = torch.mul(x, torch.tensor(LARGEST) / peak, out=x if own else None)
    return levels.round_().to(torch.int8), (peak / LARGEST).squeeze(1)


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


def dequant_int4(packed: Tensor, multiplier: Tensor) -> Tensor:
    """Unpack int4 groups into the int8 rows that they are exactly; the rows' scales stay what they were.

    packed (N, K / 2) uint8, multiplier (N, K / group) int8: the layout of kernels/linear/packing.py. Returns (N, K)
    int8. Raises ValueError where the shapes fit no group.
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
    """Whether this CPU's integer product can be trusted: without VNNI instructions it saturates at 16 bits in between.

    Found out by trying, at the first product, with the numbers that would show it.
    """
    largest, smallest = torch.full((64, 256), 127, dtype=torch.int8), torch.full((256, 64), -127, dtype=torch.int8)
    return bool((torch._int_mm(largest, smallest) == -127 * 127 * 256).all()) and bool(
        (torch._int_mm(largest, -smallest) == 127 * 127 * 256).all()
    )


@lru_cache(maxsize=1)
def int_mm_is_fast() -> bool:
    """Whether this CPU's integer product is at least as fast as the same product in float32.

    Without VNNI instructions it is a scalar loop: 2 against 31 GOP/s on a core of a Zen 1. Timed once a process, which
    takes milliseconds; the result is the same to the bit either way (float32 holds these sums exactly).
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
