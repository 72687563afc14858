"""K4: int8 matrix product with float output; scales, bias and GELU in the epilogue.

    y[m, n] = act( sum_k q[m, k] * weight[n, k]  * scale[m] * weight_scale[n] + bias[n] )

Both operands are K-contiguous, as the tensor cores take them. The sum is int32 and exact; floats appear once per tile,
in the epilogue, so only the result is written to memory. Programs traverse the output in groups of rows of tiles, so
that a group's inputs stay in the L2 cache.

Triton does not use Turing's tensor cores: there torch's integer product writes the sums, some rows at a time, and the
epilogue is a kernel of its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from kernels.dispatch import choose
from kernels.linear.tiles import capability_of, product_class, tile_for

GROUP_M = 8
PRODUCT_ROWS = 4096  # per torch product: 226 MB of sums at the 13824 columns of a 14B feed-forward, not gigabytes


@triton.jit
def finish(
    total, m, n, scale_ptr, weight_scale_ptr, bias_ptr, y_ptr, M, N, y_stride, BIAS: tl.constexpr, GELU: tl.constexpr
):
    """The epilogue: int32 sums of rows m and columns n -> y."""
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
    # Rows past the end wrap around: their results are never stored, and the loop needs no mask.
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

    finish(total, m, n, scale_ptr, weight_scale_ptr, bias_ptr, y_ptr, M, N, y_stride, BIAS, GELU)


@triton.jit
def epilogue_kernel(
    total_ptr, scale_ptr, weight_scale_ptr, bias_ptr, y_ptr, M, N, total_stride, y_stride,
    BIAS: tl.constexpr, GELU: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    at = total_ptr + m[:, None].to(tl.int64) * total_stride + n[None, :]
    total = tl.load(at, mask=(m[:, None] < M) & (n[None, :] < N), other=0)
    finish(total, m, n, scale_ptr, weight_scale_ptr, bias_ptr, y_ptr, M, N, y_stride, BIAS, GELU)


def shape_of(M: int, N: int, capability: tuple[int, int]) -> dict[str, int]:
    """Tile sizes for M x N results."""
    return tile_for("int8_linear", product_class(M, N), capability)


def launch(
    q: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor | None, act: str, dtype: torch.dtype
) -> Tensor:
    """See `reference.int8_linear`. kernels/dispatch.py chooses the implementation; on the CPU, Triton interprets it.

    Rows of q and weight should begin at multiples of 16 bytes, as those of every network do: they are contiguous, and
    all widths are multiples of 16. Otherwise the loop's loads are not prefetched asynchronously, and registers spill.
    """
    multiply = multiply_torch if q.is_cuda and choose(q.device).linear == "int_mm" else multiply_triton
    return multiply(q, scale, weight, weight_scale, bias, act, dtype)


def multiply_triton(
    q: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor | None, act: str, dtype: torch.dtype
) -> Tensor:
    """Product and epilogue in one Triton kernel."""
    q = q if q.stride(1) == 1 else q.contiguous()
    weight = weight if weight.stride(1) == 1 else weight.contiguous()
    (M, K), N = q.shape, weight.shape[0]
    y = torch.empty((M, N), dtype=dtype, device=q.device)
    shape = shape_of(M, N, capability_of(q.device))
    grid = (triton.cdiv(M, shape["BLOCK_M"]) * triton.cdiv(N, shape["BLOCK_N"]),)
    # No fused multiply-add: it would round once where the reference rounds twice.
    int8_linear_kernel[grid](
        q, scale, weight, weight_scale, scale if bias is None else bias, y, M, N, K,
        q.stride(0), weight.stride(0), y.stride(0), bias is not None, act == "gelu_tanh", K % shape["BLOCK_K"] == 0,
        GROUP_M=GROUP_M, **shape, enable_fp_fusion=False,
    )  # fmt: skip
    return y


def multiply_torch(
    q: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor | None, act: str, dtype: torch.dtype
) -> Tensor:
    """torch's integer product, then the epilogue as a Triton kernel."""
    (M, K), N = q.shape, weight.shape[0]
    y = torch.empty((M, N), dtype=dtype, device=q.device)
    columns = padded(weight, -N % 8, -K % 8).t()
    for start in range(0, M, PRODUCT_ROWS):
        rows = q[start : start + PRODUCT_ROWS]
        total = torch._int_mm(padded(rows, max(17 - len(rows), 0), -K % 8), columns)
        epilogue_kernel[triton.cdiv(len(rows), 16), triton.cdiv(N, 256)](
            total, scale[start:], weight_scale, scale if bias is None else bias, y[start:], len(rows), N,
            total.stride(0), y.stride(0), bias is not None, act == "gelu_tanh", 16, 256,
            num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
    return y


def padded(matrix: Tensor, rows: int, columns: int) -> Tensor:
    """A contiguous matrix with this many rows and columns of zeros added; the matrix itself where both are 0.

    On CUDA, torch's integer product needs more than 16 rows, and widths that are multiples of 8.
    """
    return F.pad(matrix, (0, columns, 0, rows)) if rows or columns else matrix.contiguous()
