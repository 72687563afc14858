"""K5: float rows -> int8 rows with one scale each, GELU first where asked.

    peak  = max(|gelu?(x[m, :])|)          scale[m] = peak / 127          q[m, k] = round(x[m, k] * (127 / peak))

A row's peak must be known before its first element is rounded, so the whole row is held in registers: one read and one
write of memory, where eager torch makes eight. Narrow rows share a program.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.reference import FLOOR


@triton.jit
def quant_rows_kernel(
    x_ptr, q_ptr, scale_ptr, M, K, x_stride, floor: tl.constexpr, GELU: tl.constexpr, ROWS: tl.constexpr,
    BLOCK_K: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK_K)
    inside = (rows[:, None] < M) & (columns[None, :] < K)
    at = rows[:, None].to(tl.int64)  # a film of many tokens passes 2^31 elements
    x = tl.load(x_ptr + at * x_stride + columns[None, :], mask=inside, other=0.0).to(tl.float32)
    if GELU:
        u = 1.5957691216057308 * (x + 0.044715 * x * x * x)  # 2 * sqrt(2 / pi): tanh(u / 2) = 2 * sigmoid(u) - 1
        x = x / (1.0 + tl.exp(-u))
    peak = tl.maximum(tl.max(tl.abs(x), axis=1), floor)
    y = x * tl.div_rn(127.0, peak)[:, None]
    # There is no rint: adding 1.5 * 2^23 leaves the sum no fraction bits, and rounds it half to even.
    q = (y + 12582912.0) - 12582912.0
    tl.store(q_ptr + at * K + columns[None, :], q.to(tl.int8), mask=inside)
    tl.store(scale_ptr + rows, tl.div_rn(peak, 127.0), mask=rows < M)


def shape_of(K: int) -> dict[str, int]:
    """Block sizes for rows of K: about 4096 elements a program, whole rows always."""
    block = max(triton.next_power_of_2(K), 16)
    warps = 16 if block > 8192 else 8 if block > 2048 else 4
    return {"BLOCK_K": block, "ROWS": max(1, 4096 // block), "num_warps": warps}


def launch(x: Tensor, gelu: bool) -> tuple[Tensor, Tensor]:
    """x (M, K), rows contiguous inside -> q (M, K) int8, scale (M,) float32."""
    x = x if x.stride(1) == 1 else x.contiguous()
    M, K = x.shape
    q = torch.empty((M, K), dtype=torch.int8, device=x.device)
    scale = torch.empty(M, dtype=torch.float32, device=x.device)
    shape = shape_of(K)
    grid = (triton.cdiv(M, shape["ROWS"]),)
    # No fused multiply-add: it would round once where the reference rounds twice.
    quant_rows_kernel[grid](x, q, scale, M, K, x.stride(0), FLOOR, gelu, **shape, enable_fp_fusion=False)
    return q, scale
