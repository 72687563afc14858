"""K5: int8 quantisation with one scale per row; optionally GELU and the block-Hadamard rotation first.

    y = hadamard?(gelu?(x[m, :]))     peak = max(|y|)     scale[m] = peak / 127     q[m, :] = round(y * (127 / peak))

One read and one write of memory, 3 bytes per element of bf16, where eager torch makes eight passes.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.rowwise import row_tile as rows


@triton.jit(do_not_specialize=["M"])
def quant_rows_kernel(
    x_ptr, q_ptr, scale_ptr, M, x_stride, D: tl.constexpr, GELU: tl.constexpr,
    HADAMARD: tl.constexpr, ROWS: tl.constexpr, CHUNK: tl.constexpr, PARTS: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]
    inside = row < M
    row = row.to(tl.int64)  # offsets can exceed 2^31 elements
    x = rows.load(x_ptr + row * x_stride, inside, D, CHUNK, PARTS, SPAN, HADAMARD)
    if GELU:
        x = rows.gelu(x)
    x = rows.rotate(x, SPAN, HADAMARD)
    rows.store_quantised(x, q_ptr + row * D, scale_ptr + row, inside, D, SPAN, HADAMARD)


def launch(x: Tensor, gelu: bool = False, hadamard: int = 0) -> tuple[Tensor, Tensor]:
    """`reference.quant_rows` on the GPU. Rows may be strided; a row that is not contiguous is copied."""
    x = x if x.stride(1) == 1 else x.contiguous()
    M, K = x.shape
    q = torch.empty((M, K), dtype=torch.int8, device=x.device)
    scale = torch.empty(M, dtype=torch.float32, device=x.device)
    tile = rows.tile_of(K, hadamard, x)
    # No implicit fused multiply-add: it would round once where the reference rounds twice.
    quant_rows_kernel[(triton.cdiv(M, tile["ROWS"]),)](
        x, q, scale, M, x.stride(0), K, gelu, **tile, enable_fp_fusion=False
    )
    return q, scale
