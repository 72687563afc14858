"""K4: int8 rows x int8 matrix -> float rows; scales, bias and GELU in the epilogue.

    y[m, n] = act( sum_k q[m, k] * weight[n, k]  * scale[m] * weight_scale[n] + bias[n] )

Both operands are K-contiguous, as the tensor cores want them. The sum is int32 and exact; floats appear once a tile, in
the epilogue, so nothing is written but the result. Programs walk the output in groups of rows of tiles, so that a
group's inputs stay in the L2 cache.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import reference

GROUP_M = 8


@triton.jit
def int8_linear_kernel(
    q_ptr, scale_ptr, weight_ptr, weight_scale_ptr, bias_ptr, y_ptr, M, N, K, q_stride, weight_stride, y_stride,
    BIAS: tl.constexpr, GELU: tl.constexpr, EVEN_K: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    tiles_m, tiles_n = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    program = tl.program_id(0)
    group = program // (GROUP_M * tiles_n)
    first = group * GROUP_M
    height = tl.minimum(tiles_m - first, GROUP_M)
    tile_m = first + (program % (GROUP_M * tiles_n)) % height
    tile_n = (program % (GROUP_M * tiles_n)) // height

    m = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    # Rows past the end wrap around: they compute what is never stored, and need no mask in the loop.
    q_at = q_ptr + (m % M)[:, None].to(tl.int64) * q_stride + k[None, :]
    weight_at = weight_ptr + (n % N)[None, :].to(tl.int64) * weight_stride + k[:, None]
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    for start in range(0, K, BLOCK_K):
        if EVEN_K:
            a, b = tl.load(q_at), tl.load(weight_at)
        else:
            a = tl.load(q_at, mask=k[None, :] < K - start, other=0)
            b = tl.load(weight_at, mask=k[:, None] < K - start, other=0)
        total = tl.dot(a, b, total, out_dtype=tl.int32)
        q_at += BLOCK_K
        weight_at += BLOCK_K

    scale = tl.load(scale_ptr + m, mask=m < M, other=0.0)
    weight_scale = tl.load(weight_scale_ptr + n, mask=n < N, other=0.0)
    y = total.to(tl.float32) * scale[:, None] * weight_scale[None, :]
    if BIAS:
        y += tl.load(bias_ptr + n, mask=n < N, other=0.0).to(tl.float32)[None, :]
    if GELU:
        u = 1.5957691216057308 * (y + 0.044715 * y * y * y)  # 2 * sqrt(2 / pi): tanh(u / 2) = 2 * sigmoid(u) - 1
        y = y / (1.0 + tl.exp(-u))
    y_at = y_ptr + m[:, None].to(tl.int64) * y_stride + n[None, :]
    tl.store(y_at, y.to(y_ptr.dtype.element_ty), mask=(m[:, None] < M) & (n[None, :] < N))


def shape_of(M: int, N: int) -> dict[str, int]:
    """Tile sizes free of register spills on every architecture under Triton 3.6 and 3.9."""
    if M <= 64:
        return {"BLOCK_M": 64, "BLOCK_N": 128, "BLOCK_K": 128, "num_warps": 4, "num_stages": 3}
    if N <= 64:
        return {"BLOCK_M": 128, "BLOCK_N": 64, "BLOCK_K": 128, "num_warps": 4, "num_stages": 3}
    return {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 128, "num_warps": 8, "num_stages": 3}


def launch(
    q: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor | None, act: str, dtype: torch.dtype
) -> Tensor:
    """See `reference.int8_linear`, which also serves cards older than Ampere: Triton has no int8 product for them."""
    if torch.cuda.is_available() and torch.cuda.get_device_capability(q.device) < (8, 0):
        return reference.int8_linear(q, scale, weight, weight_scale, bias, act, dtype)
    q = q if q.stride(1) == 1 else q.contiguous()
    weight = weight if weight.stride(1) == 1 else weight.contiguous()
    (M, K), N = q.shape, weight.shape[0]
    y = torch.empty((M, N), dtype=dtype, device=q.device)
    shape = shape_of(M, N)
    grid = (triton.cdiv(M, shape["BLOCK_M"]) * triton.cdiv(N, shape["BLOCK_N"]),)
    # No fused multiply-add: it would round once where the reference rounds twice.
    int8_linear_kernel[grid](
        q, scale, weight, weight_scale, scale if bias is None else bias, y, M, N, K,
        q.stride(0), weight.stride(0), y.stride(0), bias is not None, act == "gelu_tanh", K % shape["BLOCK_K"] == 0,
        GROUP_M=GROUP_M, **shape, enable_fp_fusion=False,
    )  # fmt: skip
    return y
