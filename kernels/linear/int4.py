"""K7: unpacks int4 groups to int8 rows, the weights of K4.

    weight[n, k] = (nibble - 8) * multiplier[n, k / 64]

The layout is that of kernels/linear/packing.py: the whole matrix is one list of groups, so a program takes some groups
regardless of rows. All numbers are integers, so the result is exact. Half a byte is read and one written per weight,
little compared with a product over thousands of tokens, so matrices stay packed in memory and are unpacked at each use.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.linear.packing import group_of

BYTES = 4096  # packed bytes per program: 32 for each of 128 threads, in loads of 16


@triton.jit
def dequant_int4_kernel(packed_ptr, multiplier_ptr, weight_ptr, groups, HALF: tl.constexpr, GROUPS: tl.constexpr):
    group = (tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)).to(tl.int64)
    byte = tl.arange(0, HALF)
    inside = group < groups
    pair = tl.load(packed_ptr + group[:, None] * HALF + byte[None, :], mask=inside[:, None], other=0)
    multiplier = tl.load(multiplier_ptr + group, mask=inside, other=0).to(tl.int16)[:, None]
    low = ((pair & 15).to(tl.int16) - 8) * multiplier
    high = ((pair >> 4).to(tl.int16) - 8) * multiplier
    at = weight_ptr + group[:, None] * (2 * HALF) + byte[None, :]
    tl.store(at, low.to(tl.int8), mask=inside[:, None])
    tl.store(at + HALF, high.to(tl.int8), mask=inside[:, None])


def launch(packed: Tensor, multiplier: Tensor) -> Tensor:
    """See `reference.dequant_int4`."""
    half = group_of(packed, multiplier) // 2
    packed, multiplier = packed.contiguous(), multiplier.contiguous()
    weight = torch.empty((packed.shape[0], 2 * packed.shape[1]), dtype=torch.int8, device=packed.device)
    groups, per_program = multiplier.numel(), max(1, BYTES // half)
    dequant_int4_kernel[(triton.cdiv(groups, per_program),)](
        packed, multiplier, weight, groups, HALF=half, GROUPS=per_program, num_warps=4, enable_fp_fusion=False
    )
    return weight
