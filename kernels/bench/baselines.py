"""What each operation is compared with: torch's libraries, and plain expressions for torch.compile to fuse.

The expressions compute what the references of the same name do, in real numbers: torch.compile does not fuse complex
ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from kernels import ops
from kernels.attention.rotary import at_tokens
from kernels.rowwise import reference


def compiled(expression: Callable[..., Any], *arguments: object) -> object:
    """Call the expression under torch.compile, for exactly these shapes and as one graph; the first call compiles."""
    return _compiled(expression)(*arguments)


@cache
def _compiled(expression: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(expression, dynamic=False, fullgraph=True)


def ln_mod_quant(x: Tensor, gain: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return _quantised(F.layer_norm(x.float(), x.shape[1:], None, None, eps) * gain + shift)


def gate_res_norm_quant(
    y: Tensor, res: Tensor, gate: Tensor, gain: Tensor, shift: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    res.add_(gate * y)
    return ln_mod_quant(res, gain, shift, eps)


def rmsnorm_rope(
    x: Tensor, weight: Tensor, eps: float, heads: int, cos: Tensor, sin: Tensor, grid: list[int]
) -> Tensor:
    """RMSNorm and rotary embedding in real numbers, with an angle for every token."""
    wide = x.float()
    y = (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight).to(x.dtype)
    even, odd = y.float().unflatten(2, (heads, -1, 2)).unbind(-1)
    cos, sin = at_tokens(cos, grid), at_tokens(sin, grid)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2).to(x.dtype)


def quant_queries(
    x: Tensor, weight: Tensor, eps: float, heads: int, cos: Tensor, sin: Tensor, grid: list[int]
) -> tuple[Tensor, Tensor]:
    y = rmsnorm_rope(x.float(), weight, eps, heads, cos, sin, grid)
    q, scale = _quantised(y.flatten(0, 2))
    scale = scale.view(y.shape[:3]) * (math.log2(math.e) / math.sqrt(y.shape[3]))
    return q.view(y.shape), scale.transpose(1, 2)


def _quantised(y: Tensor) -> tuple[Tensor, Tensor]:
    """y (M, K) float32 -> int8 rows and their scales."""
    peak = y.abs().amax(1, keepdim=True).clamp_min(reference.FLOOR)
    q = (y * (reference.LARGEST / peak)).round().to(torch.int8)
    return q, (peak / reference.LARGEST).squeeze(1)


def int_mm_linear(
    q: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor, act: str, dtype: torch.dtype
) -> Tensor:
    """`int8_linear` by torch's integer product, which writes its int32 sums to memory, and an epilogue in torch."""
    y = torch._int_mm(q, weight.t()).float().mul_(scale[:, None]).mul_(weight_scale).add_(bias)
    return _act(y, act).to(dtype)


def float_linear(x: Tensor, weight: Tensor, bias: Tensor, act: str) -> Tensor:
    """x (M, K), weight (N, K), bias (N,) in 16 bits."""
    return _act(F.linear(x, weight, bias), act)


def fp8_linear(
    x: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor, act: str, dtype: torch.dtype
) -> Tensor:
    """`int8_linear` in float8: x (M, K), weight (N, K) e4m3 with one scale a row each; bias in `dtype`."""
    y = torch._scaled_mm(
        x, weight.t(), scale[:, None], weight_scale[None], bias=bias, out_dtype=dtype, use_fast_accum=True
    )
    return _act(y, act)


def _act(y: Tensor, act: str) -> Tensor:
    return F.gelu(y, approximate="tanh") if act == "gelu_tanh" else y


def sdpa(heads: Sequence[Tensor], backend: SDPBackend) -> Tensor:
    """torch's attention of queries, keys and values (B, L, N, E) with one of its backends."""
    q, k, v = (part.transpose(1, 2) for part in heads)
    with sdpa_kernel(backend):
        return F.scaled_dot_product_attention(q, k, v)


def normed_sdpa(q: Tensor, k: Tensor, v: Tensor, norm: tuple[Any, ...], backend: SDPBackend) -> Tensor:
    """`sdpa` of q, k, v (B, L, D) after RMSNorm and rotary embedding by our 16-bit kernel; `norm`: its arguments."""
    heads = [ops.rmsnorm_rope(part, *norm) for part in (q, k)]
    return sdpa([*heads, v.view(heads[0].shape)], backend)
