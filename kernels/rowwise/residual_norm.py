"""K3: gated addition of a branch to the residual stream, then LayerNorm, modulation and int8 quantisation.

    res[m, :] += gate[g, :] * y[m, :];   q, scale = ln_mod_quant(res)     or the first half alone, after the last branch

Memory: y and res are read once, res and q written once: 2 + 4 + 4 + 1 = 11 bytes per element of a float32 stream.
"""

# mypy: disable-error-code=assignment
# Tuples grow while Triton unrolls a loop, which changes their type.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.rowwise import row_tile as rows


@triton.jit(do_not_specialize=["group_rows", "gate_groups", "gain_groups"])
def gate_res_norm_quant_kernel(
    y_ptr, res_ptr, gate_ptr, gain_ptr, shift_ptr, q_ptr, scale_ptr, group_rows, gate_groups, gain_groups, y_stride,
    res_stride, eps, D: tl.constexpr, GATE: tl.constexpr, NORM: tl.constexpr, HADAMARD: tl.constexpr,
    ROWS: tl.constexpr, CHUNK: tl.constexpr, PARTS: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    # All rows of a program belong to one group, so they share one row of gates and one of gains.
    tiles = tl.cdiv(group_rows, ROWS)
    group = tl.program_id(0) // tiles
    row = (tl.program_id(0) % tiles * ROWS + tl.arange(0, ROWS))[:, None]
    inside = row < group_rows
    row = row + group.to(tl.int64) * group_rows  # offsets can exceed 2^31 elements
    y = rows.load(y_ptr + row * y_stride, inside, D, CHUNK, PARTS, SPAN, HADAMARD)
    x = rows.load(res_ptr + row * res_stride, inside, D, CHUNK, PARTS, SPAN, HADAMARD)
    res = ()
    for part in tl.static_range(PARTS):
        if GATE:
            first = (group // gate_groups).to(tl.int64) * D
            gate = rows.load_gain(gate_ptr + first, part, x[part], D, SPAN, HADAMARD)
            total = tl.fma(gate, y[part], x[part])
        else:
            total = x[part] + y[part]
        total = total.to(res_ptr.dtype.element_ty)
        at = rows.columns(part, CHUNK, SPAN, HADAMARD)
        tl.store(res_ptr + row * res_stride + at, total, mask=inside & (at < D))
        res += (total.to(tl.float32),)
    if NORM:
        first = (group // gain_groups).to(tl.int64) * D
        z = rows.layer_norm(res, gain_ptr + first, shift_ptr + first, eps, D, SPAN, HADAMARD)
        z = rows.rotate(z, SPAN, HADAMARD)
        rows.store_quantised(z, q_ptr + row * D, scale_ptr + row, inside, D, SPAN, HADAMARD)


def launch(
    y: Tensor, res: Tensor, gate: Tensor | None, gain: Tensor, shift: Tensor, eps: float, hadamard: int = 0
) -> tuple[Tensor, Tensor]:
    """`reference.gate_res_norm_quant` on the GPU."""
    q = torch.empty(y.shape, dtype=torch.int8, device=y.device)
    scale = torch.empty(len(y), dtype=torch.float32, device=y.device)
    _launch(y, res, gate, gain.contiguous(), shift.contiguous(), q, scale, eps, hadamard)
    return q, scale


def launch_residual(y: Tensor, res: Tensor, gate: Tensor | None) -> None:
    """`reference.gate_res` on the GPU."""
    _launch(y, res, gate, None, None, None, None, 0.0, 0)


def _launch(
    y: Tensor, res: Tensor, gate: Tensor | None, gain: Tensor | None, shift: Tensor | None, q: Tensor | None,
    scale: Tensor | None, eps: float, hadamard: int,
) -> None:  # fmt: skip
    if res.stride(1) != 1:
        raise ValueError(
            f"rows of the residual are written in place and must be contiguous; their strides are {res.stride()}"
        )
    y = y if y.stride(1) == 1 else y.contiguous()
    M, D = y.shape
    groups, (gate_groups, gain_groups) = rows.group_sizes(M, gate, gain)
    tile = rows.tile_of(D, hadamard, y, res)
    gate_res_norm_quant_kernel[(groups * triton.cdiv(M // groups, tile["ROWS"]),)](
        y, res, None if gate is None else gate.contiguous(), gain, shift, q, scale, M // groups, gate_groups,
        gain_groups, y.stride(0), res.stride(0), eps, D, gate is not None, gain is not None, **tile,
        enable_fp_fusion=False,
    )  # fmt: skip
