"""K1: LayerNorm of the residual stream, modulation, int8 quantisation per row.

    y = hadamard?((x[m, :] - mean) / sqrt(variance + eps) * gain[g, :] + shift[g, :]),  q, scale as in quant_rows

Memory: x is read once (4 bytes per element of float32), q written once (1 byte); gain and shift come from the cache.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.rowwise import row_tile as rows


@triton.jit(do_not_specialize=["group_rows"])
def ln_mod_quant_kernel(
    x_ptr, gain_ptr, shift_ptr, q_ptr, scale_ptr, group_rows, x_stride, eps, D: tl.constexpr,
    HADAMARD: tl.constexpr, ROWS: tl.constexpr, CHUNK: tl.constexpr, PARTS: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    # All rows of a program belong to one group, so they share one row of gains.
    tiles = tl.cdiv(group_rows, ROWS)
    group = (tl.program_id(0) // tiles).to(tl.int64)  # offsets can exceed 2^31 elements
    row = (tl.program_id(0) % tiles * ROWS + tl.arange(0, ROWS))[:, None]
    inside = row < group_rows
    row += group * group_rows
    x = rows.load(x_ptr + row * x_stride, inside, D, CHUNK, PARTS, SPAN, HADAMARD)
    at = group * D
    y = rows.layer_norm(x, gain_ptr + at, shift_ptr + at, eps, D, SPAN, HADAMARD)
    y = rows.rotate(y, SPAN, HADAMARD)
    rows.store_quantised(y, q_ptr + row * D, scale_ptr + row, inside, D, SPAN, HADAMARD)


def launch(x: Tensor, gain: Tensor, shift: Tensor, eps: float, hadamard: int = 0) -> tuple[Tensor, Tensor]:
    """`reference.ln_mod_quant` on the GPU. Rows may be strided; a row that is not contiguous is copied."""
    x = x if x.stride(1) == 1 else x.contiguous()
    M, D = x.shape
    groups, _ = rows.group_sizes(M, gain)
    q = torch.empty((M, D), dtype=torch.int8, device=x.device)
    scale = torch.empty(M, dtype=torch.float32, device=x.device)
    tile = rows.tile_of(D, hadamard, x)
    ln_mod_quant_kernel[(groups * triton.cdiv(M // groups, tile["ROWS"]),)](
        x, gain.contiguous(), shift.contiguous(), q, scale, M // groups, x.stride(0), eps, D, **tile,
        enable_fp_fusion=False,
    )  # fmt: skip
    return q, scale
