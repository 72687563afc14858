"""The matrices of a block, in floats, in int8 or in int4, and the ways into them.

A block is written once, for two kinds of matrix with the same verbs; what each needs of its input is its own affair:

    enter(x)                  x as the layer reads it                                     float: a cast       int8: K5
    enter_norm(x, norm)       LayerNorm(x) * gain + shift, as the layer reads it          float: plain torch  int8: K1
    join(x, y, gate, norm)    x + gate * y, and the norm of that as the layer reads it    float: plain torch  int8: K3

int4 is int8 but for how its weights lie. What a layer reads serves every layer of its kind beside it: queries, keys and
values enter once. Floats are differentiable throughout; where autograd does not watch, the residual stream is added to
in place.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import ops
from kernels.linear import packing


class Norm(NamedTuple):
    """LayerNorm, then * gain + shift: (G, 1, D) float32 each. Each serves a G-th of all tokens: G is 1, the films of a
    batch, or their latent frames.
    """

    gain: Tensor
    shift: Tensor
    eps: float


class Rows(NamedTuple):
    """A tensor (B, L, K) rounded token by token: q (B, L, K) int8, scale (B, L) float32."""

    q: Tensor
    scale: Tensor

    def split(self, tokens: int, dim: int = 1) -> list[Rows]:
        """So many tokens at a time, as Tensor.split does."""
        return [Rows(*part) for part in zip(self.q.split(tokens, dim), self.scale.split(tokens, dim), strict=True)]


class Linear(nn.Linear):
    """A linear layer in floats: for training, and where rounding to int8 would be felt."""

    @property
    def dtype(self) -> torch.dtype:
        """What it reads and gives out."""
        return self.weight.dtype

    def enter(self, x: Tensor) -> Tensor:
        """x (B, L, K) in the dtype of the weights."""
        return x.to(self.dtype)

    def enter_norm(self, x: Tensor, norm: Norm) -> Tensor:
        """The norm of x (B, L, K) in the dtype of the weights."""
        return self.enter(modulated(x, norm))

    def join(self, x: Tensor, y: Tensor, gate: Tensor | None, norm: Norm) -> tuple[Tensor, Tensor]:
        """x + gate * y, and its norm in the dtype of the weights. See `join` for what becomes of x."""
        x = join(x, y, gate)
        return x, self.enter_norm(x, norm)


class Int8Linear(nn.Module):
    """A linear layer of int8 weights, one scale an output channel; stands where a Linear stood, with a bias or without.

    hadamard: its weights were turned by Hadamard matrices of this size along each row (0: were not), so what enters is
    turned as well: that spreads a few large channels over the others, and leaves the product as it is.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        dtype: torch.dtype,
        act: str = "none",
        hadamard: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.dtype, self.act, self.hadamard = dtype, act, hadamard
        self._hold(in_features, out_features)
        self.register_buffer("weight_scale", torch.ones(out_features))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)

    def _hold(self, in_features: int, out_features: int) -> None:
        """Make room for the weights, as they lie."""
        self.register_buffer("weight", torch.zeros(out_features, in_features, dtype=torch.int8))

    def enter(self, x: Tensor) -> Rows:
        """Round x (B, L, K), any float dtype, strided or not."""
        return _rows(x, ops.quant_rows(x.flatten(0, 1), False, self.hadamard))

    def enter_norm(self, x: Tensor, norm: Norm) -> Rows:
        """Round the norm of x (B, L, K)."""
        gain, shift = (_flat(part) for part in norm[:2])
        return _rows(x, ops.ln_mod_quant(_flat(x), gain, shift, norm.eps, self.hadamard))

    def join(self, x: Tensor, y: Tensor, gate: Tensor | None, norm: Norm) -> tuple[Tensor, Rows]:
        """x + gate * y, written over x, and its norm rounded."""
        gain, shift = (_flat(part) for part in norm[:2])
        gate = None if gate is None else _flat(gate)
        return x, _rows(x, ops.gate_res_norm_quant(_flat(y), _flat(x), gate, gain, shift, norm.eps, self.hadamard))

    def forward(self, x: Tensor | Rows) -> Tensor:
        """x (B, L, K), rounded or not -> (B, L, N) in `dtype`."""
        q, scale = x if isinstance(x, Rows) else self.enter(x)
        y = ops.int8_linear(
            q.flatten(0, 1), scale.flatten(), self.int8_weight(), self.weight_scale, self.bias, self.act, self.dtype
        )
        return y.unflatten(0, q.shape[:2])

    def int8_weight(self) -> Tensor:
        """(N, K) int8, as the product reads them."""
        return self.weight


class Int4Linear(Int8Linear):
    """An int8 layer whose weights lie packed, in about half the bytes (kernels/linear/packing.py). K divides into
    groups.

    They are unpacked at each use, exactly, and let go of after it: little work beside a film's tokens, and never more
    than one matrix in int8.
    """

    weight_multiplier: Tensor

    def _hold(self, in_features: int, out_features: int) -> None:
        self.register_buffer("weight", torch.zeros(out_features, in_features // 2, dtype=torch.uint8))
        groups = in_features // packing.GROUP
        self.register_buffer("weight_multiplier", torch.ones(out_features, groups, dtype=torch.int8))

    def int8_weight(self) -> Tensor:
        """(N, K) int8, unpacked."""
        return ops.dequant_int4(self.weight, self.weight_multiplier)


def join(x: Tensor, y: Tensor, gate: Tensor | None) -> Tensor:
    """x + gate * y, the residual stream after a branch: x, y (B, L, D), gate (G, 1, D) or None for 1, as in Norm; x
    float32.

    Written over x, unless autograd may need x as it was.
    """
    if torch.is_grad_enabled():
        return x + (y if gate is None else (gate * _shared(y, gate)).view(x.shape))
    ops.gate_res(_flat(y), _flat(x), None if gate is None else _flat(gate))
    return x


def modulated(x: Tensor, norm: Norm) -> Tensor:
    """LayerNorm(x) * gain + shift in float32. Without autograd no second copy of the stream is made for it."""
    y = _shared(layer_norm(x, norm.eps), norm.gain)
    return torch.addcmul(norm.shift, y, norm.gain, out=None if torch.is_grad_enabled() else y).view(x.shape)


def layer_norm(x: Tensor, eps: float) -> Tensor:
    """LayerNorm over the last axis in float32, whatever x is."""
    return F.layer_norm(x.float(), x.shape[-1:], None, None, eps)


def _shared(x: Tensor, gain: Tensor) -> Tensor:
    """x (B, L, D) -> (G, B * L / G, D): the tokens that share one of the gains (G, 1, D)."""
    return x.reshape(len(gain), -1, x.shape[-1])


def _flat(x: Tensor) -> Tensor:
    """(B, L, D) -> (B * L, D) of the same memory: what is written to it is written to x."""
    return x.view(-1, x.shape[-1])


def _rows(x: Tensor, rounded: tuple[Tensor, Tensor]) -> Rows:
    """What a kernel made of the tokens of x (B, L, K), in the shape of x."""
    q, scale = rounded
    return Rows(q.view(x.shape), scale.view(x.shape[:-1]))
