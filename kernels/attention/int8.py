"""K6: int8 attention: int8 scores, float16 or float8 values, one pass over the keys with an online softmax.

    s = (q8 . k8) * q_scale * k_scale        p = 2^(s - peak)        y = v_scale * sum(p v) / sum(p)

A program takes 128 queries of one head and loops over the keys 64 at a time. It carries the running maximum of the
scores (`peak`), the sum of weights and the weighted sum of values; when the peak rises, both sums are rescaled. Scores
are exact int32 sums of the integer tensor cores. Weights are at most 1 (float8: 224) and values at most 255 (4.5), so
the sum over 64 keys fits float16, which GeForce GPUs accumulate twice as fast; from block to block the sum is always
float32.

Keys that do not fill a block come last, outside the loop, so the loop needs no mask. With a block mask, each row of
programs loops over a list of its key blocks.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.attention import reference as reference_attention
from kernels.attention.reference import KEY_BLOCK, QUERY_BLOCK

# The one tile free of register spills on every architecture under Triton 3.6 and 3.9.
SHAPE = {"BLOCK_L": QUERY_BLOCK, "BLOCK_S": KEY_BLOCK, "num_warps": 8, "num_stages": 3}
WIDTHS = (32, 64, 128)  # channels per head; at 256 a tile exceeds the 99 KB that most GPUs have


@triton.jit
def attend_block(
    q, q_scale, peak, total, y, block, k_ptr, k_scale_ptr, v_ptr, S, k_token, v_token, v_channel,
    ACCUMULATE: tl.constexpr, TAIL: tl.constexpr, E: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """One step of the online softmax: update peak, sum of weights and weighted sum of values with one block of keys."""
    keys, e = tl.arange(0, BLOCK_S), tl.arange(0, E)
    first = tl.cast(block, tl.int64) * BLOCK_S  # offsets can exceed 2^31 elements
    k_at = k_ptr + first * k_token + (keys[None, :] * k_token + e[:, None])
    v_at = v_ptr + first * v_token + (keys[:, None] * v_token + e[None, :] * v_channel)
    k = tl.load(k_at, mask=keys[None, :] < S - block * BLOCK_S, other=0) if TAIL else tl.load(k_at)
    scale = q_scale * tl.load(k_scale_ptr + block)
    score = tl.dot(q, k, out_dtype=tl.int32).to(tl.float32)
    if TAIL:
        score = tl.where(keys[None, :] < S - block * BLOCK_S, score, -1e9)  # finite, and below any sum of 128 products
    new_peak = tl.maximum(peak, tl.max(score, axis=1) * scale)
    if ACCUMULATE == "fp8_f16":
        weight = tl.exp2(score * scale[:, None] - (new_peak - 7.807354922057604)[:, None])  # log2(224)
    else:
        weight = tl.exp2(score * scale[:, None] - new_peak[:, None])
    if TAIL:
        weight = tl.where(keys[None, :] < S - block * BLOCK_S, weight, 0.0)
    rescale = tl.exp2(peak - new_peak)
    total = total * rescale + tl.sum(weight, axis=1)
    y = y * rescale[:, None]
    v = tl.load(v_at, mask=keys[:, None] < S - block * BLOCK_S, other=0.0) if TAIL else tl.load(v_at)
    if ACCUMULATE == "f32":
        y = tl.dot(weight.to(v.dtype), v, y)
    else:
        y += tl.dot(weight.to(v.dtype), v, out_dtype=tl.float16).to(tl.float32)
    return new_peak, total, y


@triton.jit
def attn_int8_kernel(
    q_ptr, q_scale_ptr, k_ptr, k_scale_ptr, v_ptr, v_scale_ptr, y_ptr, order_ptr, count_ptr, tail_ptr, L, S,
    q_batch, q_token, q_head, k_batch, k_token, k_head, v_batch, v_token, v_head, v_channel, mask_batch, mask_head,
    ACCUMULATE: tl.constexpr, SPARSE: tl.constexpr, TAIL: tl.constexpr, E: tl.constexpr,
    BLOCK_L: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    row, head, batch = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    heads, full = tl.num_programs(1), S // BLOCK_S
    tokens, e = row * BLOCK_L + tl.arange(0, BLOCK_L), tl.arange(0, E)
    q_at = q_ptr + batch * q_batch + head * q_head + tokens[:, None].to(tl.int64) * q_token + e[None, :]
    q = tl.load(q_at, mask=tokens[:, None] < L, other=0)
    q_scale = tl.load(q_scale_ptr + (batch * heads + head) * L + tokens, mask=tokens < L, other=0.0)
    k_ptr += batch * k_batch + head * k_head
    v_ptr += batch * v_batch + head * v_head
    k_scale_ptr += (batch * heads + head) * tl.cdiv(S, BLOCK_S)

    peak = tl.full((BLOCK_L,), -float("inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_L,), dtype=tl.float32)
    y = tl.zeros((BLOCK_L, E), dtype=tl.float32)
    if SPARSE:
        list_at = batch * mask_batch + head * mask_head + row
        for index in range(tl.load(count_ptr + list_at)):
            block = tl.load(order_ptr + list_at * full + index)
            peak, total, y = attend_block(
                q, q_scale, peak, total, y, block, k_ptr, k_scale_ptr, v_ptr, S, k_token, v_token, v_channel,
                ACCUMULATE, False, E, BLOCK_S,
            )  # fmt: skip
        if TAIL:  # noqa: SIM102 (the first condition is known when the kernel is compiled, the second is not)
            if tl.load(tail_ptr + list_at) != 0:
                peak, total, y = attend_block(
                    q, q_scale, peak, total, y, full, k_ptr, k_scale_ptr, v_ptr, S, k_token, v_token, v_channel,
                    ACCUMULATE, True, E, BLOCK_S,
                )  # fmt: skip
    else:
        for block in range(full):
            peak, total, y = attend_block(
                q, q_scale, peak, total, y, block, k_ptr, k_scale_ptr, v_ptr, S, k_token, v_token, v_channel,
                ACCUMULATE, False, E, BLOCK_S,
            )  # fmt: skip
        if TAIL:
            peak, total, y = attend_block(
                q, q_scale, peak, total, y, full, k_ptr, k_scale_ptr, v_ptr, S, k_token, v_token, v_channel,
                ACCUMULATE, True, E, BLOCK_S,
            )  # fmt: skip

    v_scale = tl.load(v_scale_ptr + (batch * heads + head) * E + e)
    y = y * (1.0 / tl.where(total == 0.0, 1.0, total))[:, None] * v_scale[None, :]
    y_at = y_ptr + ((batch * L + tokens[:, None]) * heads + head) * E + e[None, :]
    tl.store(y_at, y.to(y_ptr.dtype.element_ty), mask=tokens[:, None] < L)


def launch(
    q8: Tensor, q_scale: Tensor, k8: Tensor, k_scale: Tensor, v: Tensor, v_scale: Tensor, accumulate: str,
    mask: Tensor | None, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """See `reference.attn_int8`, which also runs on GPUs older than Ampere, where Triton has no int8 product, and for
    head widths other than WIDTHS.
    """
    (B, L, N, E), S = q8.shape, k8.shape[1]
    too_old = q8.is_cuda and torch.cuda.get_device_capability(q8.device) < (8, 0)
    if too_old or E not in WIDTHS:
        return reference_attention.attn_int8(q8, q_scale, k8, k_scale, v, v_scale, accumulate, mask, dtype)
    y = torch.empty((B, L, N * E), dtype=dtype, device=q8.device)
    order, count, tail = (y, y, y) if mask is None else key_lists(mask.expand(B, N, -1, -1), S // KEY_BLOCK)
    rows, tail_keys = triton.cdiv(L, QUERY_BLOCK), S % KEY_BLOCK != 0
    attn_int8_kernel[(rows, N, B)](
        q8, q_scale, k8, k_scale, v, v_scale, y, order, count, tail, L, S, *q8.stride()[:3], *k8.stride()[:3],
        *v.stride(), N * rows, rows, accumulate, mask is not None, tail_keys, E, **SHAPE, enable_fp_fusion=True,
    )  # fmt: skip
    return y


def key_lists(mask: Tensor, full: int) -> tuple[Tensor, Tensor, Tensor]:
    """A block mask as lists: for each block of queries, the full blocks of keys that it attends to.

    mask (..., ceil(S/64)) bool, `full` = S // 64. Returns order (..., full) int32, whose first count entries are the
    blocks attended to, in order; count (...) int32; tail (...) int8, whether the last, partial block is attended to.
    """
    mask = mask.contiguous()  # so that the lists are contiguous too
    full_blocks = mask[..., :full]
    order = torch.argsort((~full_blocks).to(torch.int8), dim=-1, stable=True).to(torch.int32)
    return order, full_blocks.sum(-1, dtype=torch.int32), mask[..., full:].any(-1).to(torch.int8)
