"""K2: queries and keys: RMSNorm over the whole row, rotary embedding, int8 quantisation per head.

    y[t, c] = x[t, c] * rsqrt(mean_c x[t, c]^2 + eps) * weight[c]
    (y[2j], y[2j+1]) is rotated by row p of the table, p: position of t = (f * H + h) * W + w on the pair's axis

`rows_kernel` holds whole rows in registers: one read of x and one write of the result, in the dtype of x or as int8
with a scale for each head. Keys are first centred on their mean over all tokens, so they take two passes: `sums_kernel`
reads x and writes 4 bytes per token and one sum for every 32 tokens; `keys_kernel` reads x again and quantises tiles of
64 tokens by one head. Norm and rotation are recomputed rather than stored in between: 5 bytes per element of memory
traffic instead of 7.

The tile of a program is [tokens, heads, channels], so a token's cosines are read once for all its heads.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.attention.reference import KEY_BLOCK
from kernels.attention.rotary import axes_of
from kernels.rowwise.reference import FLOOR
from kernels.rowwise.row_tile import magnitude_bits

TOKENS_PER_SUM = 32
HEADS_PER_PROGRAM = 4  # of a key tile: they share cosines and row norms


@triton.jit
def angles(
    cos_ptr, sin_ptr, tokens, H, W, E: tl.constexpr, BLOCK_E: tl.constexpr, TIME: tl.constexpr, HEIGHT: tl.constexpr
):  # fmt: skip
    """Cosines and sines [tokens, pairs]. The first TIME pairs rotate with time, those up to HEIGHT with height."""
    pairs = tl.arange(0, BLOCK_E // 2)[None, :]
    position = tl.where(pairs < TIME, (tokens // (H * W))[:, None], (tokens % W)[:, None])
    position = tl.where((pairs >= TIME) & (pairs < HEIGHT), (tokens // W % H)[:, None], position)
    at = position * (E // 2) + pairs
    cos = tl.load(cos_ptr + at, mask=pairs < E // 2, other=0.0)
    sin = tl.load(sin_ptr + at, mask=pairs < E // 2, other=0.0)
    return cos, sin


@triton.jit
def levels(y, peak):
    """y rounded half to even to 255 levels of peak. Triton has no rint: adding 1.5 * 2^23 drops the fraction bits."""
    return ((y * tl.div_rn(127.0, peak) + 12582912.0) - 12582912.0).to(tl.int8)


@triton.jit
def load_rows(x_ptr, tokens, L, x_token, HEADS: tl.constexpr, E: tl.constexpr, BLOCK_N: tl.constexpr,
              BLOCK_E: tl.constexpr):  # fmt: skip
    """Rows of x as [tokens, heads, channels], zero outside."""
    n, e = tl.arange(0, BLOCK_N)[:, None], tl.arange(0, BLOCK_E)[None, :]
    inside = (tokens < L)[:, None, None] & ((n < HEADS) & (e < E))[None, :, :]
    at = x_ptr + tokens[:, None, None].to(tl.int64) * x_token + (n * E + e)[None, :, :]
    return tl.load(at, mask=inside, other=0.0)


@triton.jit
def load_weight(weight_ptr, HEADS: tl.constexpr, E: tl.constexpr, ROWS: tl.constexpr, BLOCK_N: tl.constexpr,
                BLOCK_E: tl.constexpr):  # fmt: skip
    """The norm's weights, broadcast to every row: in another shape than x they would go through shared memory."""
    n, e = tl.arange(0, BLOCK_N)[:, None], tl.arange(0, BLOCK_E)[None, :]
    column = tl.broadcast_to((n * E + e)[None, :, :], (ROWS, BLOCK_N, BLOCK_E))
    valid = tl.broadcast_to(((n < HEADS) & (e < E))[None, :, :], (ROWS, BLOCK_N, BLOCK_E))
    return tl.load(weight_ptr + column, mask=valid, other=0.0).to(tl.float32)


@triton.jit
def normalise(x, weight, eps, HEADS: tl.constexpr, E: tl.constexpr):
    """RMSNorm of rows [tokens, heads, channels] over heads and channels, in float32; and each row's factor."""
    x = x.to(tl.float32)
    # One axis after the other. With one axis of heads * channels, a row can lie in lanes that are not adjacent (0 - 7
    # and 16 - 23), and Triton before 3.7 reduces over adjacent lanes, so rows get each other's squares, or none.
    squares = tl.sum(tl.sum(x * x, axis=2), axis=1)
    inverse = tl.rsqrt(squares / (HEADS * E) + eps)
    return x * inverse[:, None, None] * weight, inverse


@triton.jit
def rows_kernel(
    x_ptr, weight_ptr, cos_ptr, sin_ptr, y_ptr, scale_ptr, L, x_batch, x_token, eps, H, W, fold, floor: tl.constexpr,
    QUANTIZE: tl.constexpr, ROTATE: tl.constexpr, TIME: tl.constexpr, HEIGHT: tl.constexpr,
    HEADS: tl.constexpr, E: tl.constexpr, ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    batch = tl.program_id(1).to(tl.int64)  # offsets can exceed 2^31 elements
    tokens = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    x = load_rows(x_ptr + batch * x_batch, tokens, L, x_token, HEADS, E, BLOCK_N, BLOCK_E)
    y, _ = normalise(x, load_weight(weight_ptr, HEADS, E, ROWS, BLOCK_N, BLOCK_E), eps, HEADS, E)
    if not QUANTIZE:
        y = y.to(y_ptr.dtype.element_ty).to(tl.float32)  # as the reference rounds between norm and rotation
    if ROTATE:
        cos, sin = angles(cos_ptr, sin_ptr, tl.minimum(tokens, L - 1), H, W, E, BLOCK_E, TIME, HEIGHT)
        cos, sin = cos[:, None, :], sin[:, None, :]
        even, odd = tl.split(tl.reshape(y, (ROWS, BLOCK_N, BLOCK_E // 2, 2)))
        y = tl.interleave(even * cos - odd * sin, even * sin + odd * cos)
    n, e = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_E)
    valid = (n < HEADS)[:, None] & (e < E)[None, :]
    inside = (tokens < L)[:, None, None] & valid[None, :, :]
    at = y_ptr + (batch * L + tokens[:, None, None]) * (HEADS * E) + (n[:, None] * E + e[None, :])[None, :, :]
    if QUANTIZE:
        peak = tl.max(magnitude_bits(y), axis=2).to(tl.float32, bitcast=True)
        peak = tl.where(peak < floor, floor, peak)
        tl.store(at, levels(y, peak[:, :, None]), mask=inside)
        scale_at = scale_ptr + (batch * HEADS + n)[None, :] * L + tokens[:, None]
        tl.store(scale_at, tl.div_rn(peak, 127.0) * fold, mask=(tokens < L)[:, None] & (n < HEADS)[None, :])
    else:
        tl.store(at, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def sums_kernel(
    x_ptr, weight_ptr, cos_ptr, sin_ptr, inverse_ptr, sum_ptr, S, x_batch, x_token, eps, H, W,
    ROTATE: tl.constexpr, TIME: tl.constexpr, HEIGHT: tl.constexpr, TOKENS: tl.constexpr,
    HEADS: tl.constexpr, E: tl.constexpr, ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """The sum of TOKENS normalised and rotated keys, and the RMSNorm factor of each."""
    batch = tl.program_id(1).to(tl.int64)
    x_ptr += batch * x_batch
    tokens = tl.program_id(0) * TOKENS + tl.arange(0, ROWS)
    total = tl.zeros((BLOCK_N, BLOCK_E), dtype=tl.float32)
    weight = load_weight(weight_ptr, HEADS, E, ROWS, BLOCK_N, BLOCK_E)
    x = load_rows(x_ptr, tokens, S, x_token, HEADS, E, BLOCK_N, BLOCK_E)
    for _ in range(0, TOKENS, ROWS):
        following = load_rows(x_ptr, tokens + ROWS, S, x_token, HEADS, E, BLOCK_N, BLOCK_E)  # prefetch
        y, inverse = normalise(x, weight, eps, HEADS, E)
        if ROTATE:
            cos, sin = angles(cos_ptr, sin_ptr, tl.minimum(tokens, S - 1), H, W, E, BLOCK_E, TIME, HEIGHT)
            cos, sin = cos[:, None, :], sin[:, None, :]
            even, odd = tl.split(tl.reshape(y, (ROWS, BLOCK_N, BLOCK_E // 2, 2)))
            y = tl.interleave(even * cos - odd * sin, even * sin + odd * cos)
        total += tl.sum(y, axis=0)
        tl.store(inverse_ptr + batch * S + tokens, inverse, mask=tokens < S)
        tokens += ROWS
        x = following
    n, e = tl.arange(0, BLOCK_N)[:, None], tl.arange(0, BLOCK_E)[None, :]
    at = sum_ptr + (batch * tl.num_programs(0) + tl.program_id(0)) * (HEADS * E) + n * E + e
    tl.store(at, total, mask=(n < HEADS) & (e < E))


@triton.jit
def keys_kernel(
    x_ptr, weight_ptr, cos_ptr, sin_ptr, inverse_ptr, mean_ptr, k_ptr, scale_ptr, S, x_batch, x_token, H, W,
    floor: tl.constexpr, ROTATE: tl.constexpr, TIME: tl.constexpr, HEIGHT: tl.constexpr,
    HEADS: tl.constexpr, E: tl.constexpr, GROUP: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """Quantise BLOCK_S keys of GROUP heads, minus the mean over all keys, to int8 with one scale for each head."""
    block, batch = tl.program_id(0), tl.program_id(2).to(tl.int64)
    tokens = block * BLOCK_S + tl.arange(0, BLOCK_S)
    e = tl.arange(0, BLOCK_E)
    inside = (tokens < S)[:, None] & (e < E)[None, :]
    inverse = tl.load(inverse_ptr + batch * S + tokens, mask=tokens < S, other=0.0)
    x_at = x_ptr + batch * x_batch + tokens[:, None].to(tl.int64) * x_token + e[None, :]
    k_at = k_ptr + (batch * S + tokens[:, None]) * (HEADS * E) + e[None, :]
    if ROTATE:
        cos, sin = angles(cos_ptr, sin_ptr, tl.minimum(tokens, S - 1), H, W, E, BLOCK_E, TIME, HEIGHT)
    first = tl.program_id(1) * GROUP
    for n in range(first, tl.minimum(first + GROUP, HEADS)):
        column = n * E + e
        weight = tl.load(weight_ptr + column, mask=e < E, other=0.0).to(tl.float32)
        mean = tl.load(mean_ptr + batch * (HEADS * E) + column, mask=e < E, other=0.0)
        y = tl.load(x_at + n * E, mask=inside, other=0.0).to(tl.float32) * inverse[:, None] * weight[None, :]
        if ROTATE:
            even, odd = tl.split(tl.reshape(y, (BLOCK_S, BLOCK_E // 2, 2)))
            y = tl.interleave(even * cos - odd * sin, even * sin + odd * cos)
        y = tl.where(inside, y - mean[None, :], 0.0)
        peak = tl.maximum(tl.max(tl.max(tl.abs(y), axis=1), axis=0), floor)
        tl.store(k_at + n * E, levels(y, peak), mask=inside)
        tl.store(scale_ptr + (batch * HEADS + n) * tl.num_programs(0) + block, tl.div_rn(peak, 127.0))


def shape_of(heads: int, width: int) -> dict[str, int]:
    """Block sizes for rows of `heads` times `width`: 4096 elements per program where a row is narrower."""
    block_n, block_e = triton.next_power_of_2(heads), triton.next_power_of_2(width)
    rows = max(1, 4096 // (block_n * block_e))
    return {
        "ROWS": min(rows, TOKENS_PER_SUM), "BLOCK_N": block_n, "BLOCK_E": block_e,
        "num_warps": 8 if block_n * block_e > 4096 else 4,
    }  # fmt: skip


def rotation(x: Tensor, heads: int, cos: Tensor | None, grid: list[int]) -> dict[str, int]:
    """The kernel arguments for rotary embedding: which pairs of a head rotate with which axis of the grid."""
    time, height, _ = (share // 2 for share in axes_of(x.shape[2] // heads))
    if cos is None:
        return {"H": 1, "W": 1, "ROTATE": False, "TIME": 0, "HEIGHT": 0}
    if math.prod(grid) != x.shape[1] or cos.shape[0] < max(grid):
        raise ValueError(f"{x.shape[1]} tokens and {cos.shape[0]} rows of angles do not make a grid of {grid}")
    return {"H": grid[1], "W": grid[2], "ROTATE": True, "TIME": time, "HEIGHT": time + height}


def launch(
    x: Tensor, weight: Tensor, eps: float, heads: int, cos: Tensor | None, sin: Tensor | None, grid: list[int]
) -> Tensor:
    """See `reference.rmsnorm_rope`."""
    y = torch.empty((*x.shape[:2], heads, x.shape[2] // heads), dtype=x.dtype, device=x.device)
    _launch_rows(x, weight, eps, cos, sin, grid, y, None)
    return y


def launch_queries(
    x: Tensor, weight: Tensor, eps: float, heads: int, cos: Tensor | None, sin: Tensor | None, grid: list[int]
) -> tuple[Tensor, Tensor]:
    """See `reference.quant_queries`."""
    B, L, D = x.shape
    q8 = torch.empty((B, L, heads, D // heads), dtype=torch.int8, device=x.device)
    scale = torch.empty((B, heads, L), dtype=torch.float32, device=x.device)
    _launch_rows(x, weight, eps, cos, sin, grid, q8, scale)
    return q8, scale


def _launch_rows(
    x: Tensor, weight: Tensor, eps: float, cos: Tensor | None, sin: Tensor | None, grid: list[int], y: Tensor,
    scale: Tensor | None,
) -> None:  # fmt: skip
    B, L, heads, width = y.shape
    x = x if x.stride(2) == 1 else x.contiguous()
    shape = shape_of(heads, width)
    fold = math.log2(math.e) / math.sqrt(width)
    rows_kernel[(triton.cdiv(L, shape["ROWS"]), B)](
        x, weight, x if cos is None else cos, x if sin is None else sin, y, y if scale is None else scale, L,
        x.stride(0), x.stride(1), eps, fold=fold, floor=FLOOR, QUANTIZE=scale is not None, HEADS=heads, E=width,
        **rotation(x, heads, cos, grid), **shape, enable_fp_fusion=False,
    )  # fmt: skip


def launch_keys(
    x: Tensor, weight: Tensor, eps: float, heads: int, cos: Tensor | None, sin: Tensor | None, grid: list[int]
) -> tuple[Tensor, Tensor]:
    """See `reference.quant_keys`."""
    x = x if x.stride(2) == 1 else x.contiguous()
    (B, S, D), width = x.shape, x.shape[2] // heads
    sums, blocks = triton.cdiv(S, TOKENS_PER_SUM), triton.cdiv(S, KEY_BLOCK)
    rotary, shape = rotation(x, heads, cos, grid), shape_of(heads, width)
    cos, sin = x if cos is None else cos, x if sin is None else sin
    inverse = torch.empty((B, S), dtype=torch.float32, device=x.device)
    partial = torch.empty((B, sums, D), dtype=torch.float32, device=x.device)
    sums_kernel[(sums, B)](
        x, weight, cos, sin, inverse, partial, S, x.stride(0), x.stride(1), eps, TOKENS=TOKENS_PER_SUM, HEADS=heads,
        E=width, **rotary, **shape, enable_fp_fusion=False,
    )  # fmt: skip
    mean = partial.sum(1).div_(S)
    k8 = torch.empty((B, S, heads, width), dtype=torch.int8, device=x.device)
    scale = torch.empty((B, heads, blocks), dtype=torch.float32, device=x.device)
    keys_kernel[(blocks, triton.cdiv(heads, HEADS_PER_PROGRAM), B)](
        x, weight, cos, sin, inverse, mean, k8, scale, S, x.stride(0), x.stride(1), floor=FLOOR, HEADS=heads, E=width,
        GROUP=HEADS_PER_PROGRAM, BLOCK_S=KEY_BLOCK, BLOCK_E=shape["BLOCK_E"], **rotary, num_warps=8,
        enable_fp_fusion=False,
    )  # fmt: skip
    return k8, scale
