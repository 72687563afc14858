"""K2 for values: each channel is divided by a power of two, so that sums over 64 keys stay within float16, then cast.

    scale[c] = 2^(e + 1) for the largest |v[:, c]| / limit = 1.f * 2^e          out[t, c] = v[t, c] / scale[c]

The limit is 255 for float16 and 4.5 for float8 (see reference.py). Dividing by a power of two is exact. A channel's
peak is known only after all tokens: `peaks_kernel` reads the values once and writes one row for every 128 tokens,
`values_kernel` reads them again. Float8 output has the token axis contiguous, the order in which the tensor cores of
every GPU read 8-bit operands; its shape stays (B, S, N, E).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.attention import reference as reference_attention
from kernels.attention.reference import KEY_BLOCK
from kernels.rowwise.reference import FLOOR

TILE = {"BLOCK_S": 128, "BLOCK_D": 64}


@triton.jit
def peaks_kernel(v_ptr, peak_ptr, S, D, v_batch, v_token, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr):
    batch = tl.program_id(2).to(tl.int64)
    tokens = tl.program_id(0) * BLOCK_S + tl.arange(0, BLOCK_S)
    columns = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = (tokens < S)[:, None] & (columns < D)[None, :]
    at = v_ptr + batch * v_batch + tokens[:, None].to(tl.int64) * v_token + columns[None, :]
    v = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    peak_at = peak_ptr + (batch * tl.num_programs(0) + tl.program_id(0)) * D + columns
    tl.store(peak_at, tl.max(tl.abs(v), axis=0), mask=columns < D)


@triton.jit
def values_kernel(
    v_ptr, peak_ptr, out_ptr, scale_ptr, S, D, room, v_batch, v_token, out_batch, out_token, out_channel,
    floor: tl.constexpr, limit: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    batch = tl.program_id(2).to(tl.int64)
    tokens = tl.program_id(0) * BLOCK_S + tl.arange(0, BLOCK_S)
    columns = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = (tokens < S)[:, None] & (columns < D)[None, :]
    peak = tl.maximum(tl.load(peak_ptr + batch * D + columns, mask=columns < D, other=0.0), floor)
    exponent = (tl.div_rn(peak, limit).to(tl.int32, bitcast=True) >> 23) + 1  # biased by 127; neither end is reached
    scale = (exponent << 23).to(tl.float32, bitcast=True)
    inverse = ((254 - exponent) << 23).to(tl.float32, bitcast=True)
    at = v_ptr + batch * v_batch + tokens[:, None].to(tl.int64) * v_token + columns[None, :]
    v = tl.load(at, mask=inside, other=0.0).to(tl.float32) * inverse[None, :]
    out_at = out_ptr + batch * out_batch + tokens[:, None].to(tl.int64) * out_token
    tl.store(
        out_at + columns[None, :].to(tl.int64) * out_channel,
        v.to(out_ptr.dtype.element_ty),
        mask=(tokens < room)[:, None] & (columns < D)[None, :],
    )
    if tl.program_id(0) == 0:
        tl.store(scale_ptr + batch * D + columns, scale, mask=columns < D)


def launch(v: Tensor, heads: int, fp8: bool = False) -> tuple[Tensor, Tensor]:
    """See `reference.scale_values`."""
    v = v if v.stride(2) == 1 else v.contiguous()
    B, S, D = v.shape
    grid = (triton.cdiv(S, TILE["BLOCK_S"]), triton.cdiv(D, TILE["BLOCK_D"]), B)
    peaks = torch.empty((B, grid[0], D), dtype=torch.float32, device=v.device)
    peaks_kernel[grid](v, peaks, S, D, v.stride(0), v.stride(1), **TILE, num_warps=4, enable_fp_fusion=False)
    out = reference_attention.empty_values(v, heads, fp8)
    room = S + -S % KEY_BLOCK if fp8 else S
    scale = torch.empty((B, heads, D // heads), dtype=torch.float32, device=v.device)
    values_kernel[grid](
        v, peaks.amax(1), out, scale, S, D, room, v.stride(0), v.stride(1), out.stride(0), out.stride(1), out.stride(3),
        FLOOR, reference_attention.LARGEST_VALUE[fp8], **TILE, num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    return out, scale
