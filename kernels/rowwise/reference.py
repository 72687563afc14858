"""Operations on rows in plain torch: the reference for the kernels, and the CPU implementation.

Names and signatures are those of `ops`. Integer parts are exact and rounding is half to even, here as in the Triton
kernels, so both give the same bits wherever no GELU is involved.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.rowwise.hadamard import rotate

LARGEST = 127.0  # symmetric: -128 is never used
FLOOR = 1e-30  # the least peak of a row, so that a row of zeros does not divide by 0


def quant_rows(x: Tensor, gelu: bool = False, hadamard: int = 0) -> tuple[Tensor, Tensor]:
    """Quantise each row to int8 with its own scale: 255 levels of its largest value.

    x (M, K), any float dtype; gelu: apply tanh-GELU first; hadamard: then rotate blocks of 256 or 512 columns, 0 for
    none. Returns q (M, K) int8 and scale (M,) float32, with q * scale within half a scale of x.
    """
    y = x.float()
    if gelu:
        y = F.gelu(y, approximate="tanh")
    y = rotate(y, hadamard)
    return _quantise(y, overwrite=y.data_ptr() != x.data_ptr())


def ln_mod_quant(x: Tensor, gain: Tensor, shift: Tensor, eps: float, hadamard: int = 0) -> tuple[Tensor, Tensor]:
    """LayerNorm(x) * gain + shift, then quantised as by `quant_rows`.

    x (M, D) float; gain, shift (G, D) float32: M / G consecutive rows share one, G = 1 is an affine norm. Returns q
    (M, D) int8 and scale (M,) float32.
    """
    width = x.shape[1:]
    if len(gain) == 1:
        y = F.layer_norm(x.float(), width, gain[0], shift[0], eps)
    else:
        y = F.layer_norm(x.float(), width, None, None, eps)
        grouped = _groups(y, gain)
        torch.addcmul(shift[:, None], grouped, gain[:, None], out=grouped)
    return _quantise(rotate(y, hadamard))


def gate_res_norm_quant(
    y: Tensor, res: Tensor, gate: Tensor | None, gain: Tensor, shift: Tensor, eps: float, hadamard: int = 0
) -> tuple[Tensor, Tensor]:
    """res += gate * y, then `ln_mod_quant` of the new res: one branch of a block ends and the next begins.

    y (M, D) float; res (M, D) float, written in place; gate (G, D) float32 or None for 1; gain, shift (H, D) float32:
    M / G and M / H consecutive rows share one. Returns q (M, D) int8 and scale (M,) float32.
    """
    gate_res(y, res, gate)
    return ln_mod_quant(res, gain, shift, eps, hadamard)


def gate_res(y: Tensor, res: Tensor, gate: Tensor | None) -> None:
    """res += gate * y in float32, in place: the last branch of a network, which no norm follows.

    y (M, D) float, res (M, D) float, gate (G, D) float32 or None for 1: M / G consecutive rows share one.
    """
    if gate is None:
        res.add_(y)
    else:
        _groups(res, gate).addcmul_(_groups(y, gate), gate[:, None])  # one pass, and one rounding where the CPU has FMA


def _groups(x: Tensor, gain: Tensor) -> Tensor:
    """x (M, D) seen as (G, M / G, D), for G gains."""
    return x.unflatten(0, (len(gain), -1))


def _quantise(x: Tensor, overwrite: bool = True) -> tuple[Tensor, Tensor]:
    """x (M, K) float32 -> int8 rows and their scales. overwrite: x may be overwritten, which saves a copy."""
    # Two reductions, because torch.aminmax is eight times slower on the CPU.
    peak = torch.maximum(x.amax(1, keepdim=True), -x.amin(1, keepdim=True)).clamp_min_(FLOOR)
    # Tensor / tensor, because torch computes `number / tensor` as reciprocal and product, which rounds twice.
    levels = torch.mul(x, torch.tensor(LARGEST) / peak, out=x if overwrite else None)
    return levels.round_().to(torch.int8), (peak / LARGEST).squeeze(1)
