"""Attention and its input preparation in plain torch: the reference for the kernels, and the CPU implementation.

Queries, keys and values are reduced to int8 and 16 or 8 bits in a way that costs no more accuracy than bf16 itself:

    queries   RMSNorm, rotary embedding, int8 with one scale per token and head, which includes log2(e)/sqrt(E)
    keys      RMSNorm, rotary embedding, minus their mean over the tokens, int8 with one scale per 64 tokens and head
    values    divided by a power of two per channel, so that sums over 64 keys stay within float16

Subtracting one vector from all keys changes every score of a query by the same amount, which softmax ignores; what
remains is several times smaller, because the keys of video models share a large bias.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.attention.rotary import at_tokens
from kernels.rowwise.reference import FLOOR, LARGEST

QUERY_BLOCK, KEY_BLOCK = 128, 64  # tokens per tile; one key scale and one mask element for each
# Sums over a block stay below float16's 65504: 64 * 1 * 255 = 16320, and with float8 64 * 224 * 4.5 = 64512.
LARGEST_VALUE = {False: 255.0, True: 4.5}  # keyed by whether values are float8
FLOAT8_WEIGHT = 224.0  # the weight of a query's strongest key in float8


def rmsnorm_rope(
    x: Tensor, weight: Tensor, eps: float, heads: int, cos: Tensor | None, sin: Tensor | None, grid: list[int]
) -> Tensor:
    """RMSNorm over the whole width, then rotary embedding by head: x / rms(x) * weight, pairs of channels rotated.

    x (B, L, D), any strides outside a row; weight (D,); cos, sin (P, E/2) of `rotary.rotary_rows` with
    grid [F, H, W], F*H*W = L; or None, None, [] for no rotation. Returns (B, L, N, E) in the dtype of x. Norm and
    rotation are computed in float32, each rounded to the dtype of x.
    """
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    y = (wide * weight.float()).to(x.dtype).unflatten(2, (heads, -1))
    if cos is None or sin is None:
        return y
    if torch.compiler.is_compiling():  # the same products and sums: Inductor fuses these, and not complex numbers
        c, s = at_tokens(cos, grid), at_tokens(sin, grid)
        even, odd = y.float().unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack([even * c - odd * s, even * s + odd * c], -1).flatten(-2).to(x.dtype)
    phasors = at_tokens(torch.complex(cos, sin), grid)
    pairs = torch.view_as_complex(y.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * phasors).flatten(-2).to(x.dtype)


def quant_queries(
    x: Tensor, weight: Tensor, eps: float, heads: int, cos: Tensor | None, sin: Tensor | None, grid: list[int]
) -> tuple[Tensor, Tensor]:
    """`rmsnorm_rope` in float32, quantised to int8 with one scale per token and head.

    Returns q8 (B, L, N, E) int8 and scale (B, N, L) float32, q8 * scale being queries times log2(e) / sqrt(E), so
    that scores are exponents of two.
    """
    y = rmsnorm_rope(x.float(), weight, eps, heads, cos, sin, grid)
    q8, scale = _round(y, (3,))
    return q8, (scale * (math.log2(math.e) / math.sqrt(y.shape[3]))).squeeze(3).transpose(1, 2).contiguous()


def quant_keys(
    x: Tensor, weight: Tensor, eps: float, heads: int, cos: Tensor | None, sin: Tensor | None, grid: list[int]
) -> tuple[Tensor, Tensor]:
    """`rmsnorm_rope` in float32, minus its mean over the tokens, quantised with one scale per 64 tokens and head.

    x (B, S, D). Returns k8 (B, S, N, E) int8 and scale (B, N, ceil(S/64)) float32.
    """
    y = rmsnorm_rope(x.float(), weight, eps, heads, cos, sin, grid)
    B, S, N = y.shape[:3]
    y = y - y.mean(1, keepdim=True)
    blocks = torch.nn.functional.pad(y, (0, 0, 0, 0, 0, -S % KEY_BLOCK)).unflatten(1, (-1, KEY_BLOCK))
    k8, scale = _round(blocks, (2, 4))
    return k8.flatten(1, 2)[:, :S].contiguous(), scale.view(B, -1, N).transpose(1, 2).contiguous()


def scale_values(v: Tensor, heads: int, fp8: bool = False) -> tuple[Tensor, Tensor]:
    """Divide every channel by the power of two that brings its largest value within 255 (float8: 4.5).

    v (B, S, D). Returns (B, S, N, E) in float16, or float8 e4m3, and scale (B, N, E) float32, v * scale being the
    values. Without it, one value beyond 1023 is enough for sums over 64 keys to overflow float16.
    """
    wide = v.float().unflatten(2, (heads, -1))
    peak = wide.abs().amax(1).clamp_min_(FLOOR)
    scale = torch.exp2(torch.frexp(peak / LARGEST_VALUE[fp8]).exponent.float())
    return empty_values(v, heads, fp8).copy_(wide / scale[:, None]), scale


def empty_values(v: Tensor, heads: int, fp8: bool) -> Tensor:
    """An empty tensor for the result of `scale_values` of v (B, S, D).

    In float8 the token axis is contiguous in memory, padded to whole blocks: tensor cores take 8-bit operands in that
    order, and copies are then of 16 bytes.
    """
    B, S, D = v.shape
    if not fp8:
        return v.new_empty((B, S, heads, D // heads), dtype=torch.float16)
    room = v.new_empty((B, heads, D // heads, S + -S % KEY_BLOCK), dtype=torch.float8_e4m3fn)
    return room[..., :S].permute(0, 3, 1, 2)


def attn_int8(
    q8: Tensor, q_scale: Tensor, k8: Tensor, k_scale: Tensor, v: Tensor, v_scale: Tensor, accumulate: str,
    mask: Tensor | None, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """softmax(q k^T / sqrt(E)) v, without a causal mask, of `quant_queries`, `quant_keys` and `scale_values`.

    accumulate: "f32" | "f16" | "fp8_f16": the dtype in which a GPU sums a block of 64 keys before adding it in float32,
    and whether it multiplies float16 or float8; here sums are float32 and only the weights are rounded to the dtype
    that they are multiplied in. mask (B|1, N|1, ceil(L/128), ceil(S/64)) bool: which blocks of queries attend to which
    blocks of keys; None: all. A query that attends to no key gives zeros. Returns (B, L, N*E) in `dtype`.
    """
    (B, L, N, E), S = q8.shape, k8.shape[1]
    largest, weight_dtype = (FLOAT8_WEIGHT, v.dtype) if accumulate == "fp8_f16" else (1.0, torch.float16)
    q, k, values = (part.transpose(1, 2).float() for part in (q8, k8, v))
    key_scale = k_scale.repeat_interleave(KEY_BLOCK, 2)[:, :, None, :S]
    out = torch.empty((B, L, N, E), dtype=dtype, device=q8.device)
    for block, first in enumerate(range(0, L, QUERY_BLOCK)):
        at = slice(first, first + QUERY_BLOCK)
        # Products of int8 are exact in float32: 128 * 127 * 127 < 2^24.
        scores = (q[:, :, at] @ k.transpose(2, 3)).mul_(q_scale[:, :, at, None]).mul_(key_scale)
        if mask is not None:
            attends = mask[:, :, block, None].repeat_interleave(KEY_BLOCK, 3)[..., :S]
            scores.masked_fill_(~attends, -math.inf)
        peak = scores.amax(3, keepdim=True)
        peak.masked_fill_(peak == -math.inf, 0.0)
        weights = scores.sub_(peak).exp2_().mul_(largest)
        total = weights.sum(3, keepdim=True).clamp_min_(FLOOR)
        y = (weights.to(weight_dtype).float() @ values).div_(total).mul_(v_scale[:, :, None])
        out[:, at] = y.transpose(1, 2).to(dtype)
    return out.flatten(2)


def _round(y: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Quantise y to int8 with one scale for all elements along `axes`."""
    peak = torch.maximum(y.amax(axes, keepdim=True), -y.amin(axes, keepdim=True)).clamp_min_(FLOOR)
    return (y * (torch.tensor(LARGEST) / peak)).round_().to(torch.int8), peak / LARGEST
