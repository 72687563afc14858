"""Linear layers in float, int8 or int4, with the operations that prepare their inputs.

A block is written once for all of them: they have the same methods, and each prepares its input as it needs it:

    prepare(x)                        x as the layer reads it                             float: a cast       int8: K5
    prepare_normed(x, norm)           LayerNorm(x) * gain + shift, prepared               float: plain torch  int8: K1
    add_residual(x, y, gate, norm)    x + gate * y, and the norm of that, prepared        float: plain torch  int8: K3

int4 is int8 with packed weights. A prepared input serves every layer of its kind that reads the same x: queries, keys
and values share one. Float layers are differentiable; without autograd the residual stream is updated in place.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import ops
from kernels.linear import packing


class Norm(NamedTuple):
    """LayerNorm, then * gain + shift: (G, 1, D) float32 each, for G equal groups of tokens (G is 1, the films of a
    batch, or their latent frames).
    """

    gain: Tensor
    shift: Tensor
    eps: float


class QuantizedRows(NamedTuple):
    """A tensor (B, L, K) quantised per token: q (B, L, K) int8, scale (B, L) float32."""

    q: Tensor
    scale: Tensor

    def split(self, tokens: int, dim: int = 1) -> list[QuantizedRows]:
        """So many tokens at a time, as Tensor.split does."""
        return [
            QuantizedRows(*part) for part in zip(self.q.split(tokens, dim), self.scale.split(tokens, dim), strict=True)
        ]


class Linear(nn.Linear):
    """A linear layer in float: for training, and where int8 would lose too much."""

    @property
    def dtype(self) -> torch.dtype:
        """Of its input and output."""
        return self.weight.dtype

    def prepare(self, x: Tensor) -> Tensor:
        """x (B, L, K) in the dtype of the weights."""
        return x.to(self.dtype)

    def prepare_normed(self, x: Tensor, norm: Norm) -> Tensor:
        """The norm of x (B, L, K) in the dtype of the weights."""
        return self.prepare(modulated(x, norm))

    def add_residual(self, x: Tensor, y: Tensor, gate: Tensor | None, norm: Norm) -> tuple[Tensor, Tensor]:
        """x + gate * y, and its norm in the dtype of the weights. See `add_residual` for what becomes of x."""
        x = add_residual(x, y, gate)
        return x, self.prepare_normed(x, norm)


class Int8Linear(nn.Module):
    """A linear layer of int8 weights with one scale an output channel; replaces a Linear, with a bias or without.

    hadamard: its weights were rotated by Hadamard matrices of this size along each row (0: not at all), so its input is
    rotated too: that spreads a few large channels over the others, and leaves the product unchanged.
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
        self._allocate(in_features, out_features)
        self.register_buffer("weight_scale", torch.ones(out_features))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)

    def _allocate(self, in_features: int, out_features: int) -> None:
        """Allocate the weights as they are stored."""
        self.register_buffer("weight", torch.zeros(out_features, in_features, dtype=torch.int8))

    def prepare(self, x: Tensor) -> QuantizedRows:
        """Quantise x (B, L, K), any float dtype, strided or not."""
        return _rows(x, ops.quant_rows(x.flatten(0, 1), False, self.hadamard))

    def prepare_normed(self, x: Tensor, norm: Norm) -> QuantizedRows:
        """Quantise the norm of x (B, L, K)."""
        gain, shift = (_flat(part) for part in norm[:2])
        return _rows(x, ops.ln_mod_quant(_flat(x), gain, shift, norm.eps, self.hadamard))

    def add_residual(self, x: Tensor, y: Tensor, gate: Tensor | None, norm: Norm) -> tuple[Tensor, QuantizedRows]:
        """x + gate * y, written over x, and its norm quantised."""
        gain, shift = (_flat(part) for part in norm[:2])
        gate = None if gate is None else _flat(gate)
        return x, _rows(x, ops.gate_res_norm_quant(_flat(y), _flat(x), gate, gain, shift, norm.eps, self.hadamard))

    def forward(self, x: Tensor | QuantizedRows) -> Tensor:
        """x (B, L, K), quantised or not -> (B, L, N) in `dtype`."""
        q, scale = x if isinstance(x, QuantizedRows) else self.prepare(x)
        y = ops.int8_linear(
            q.flatten(0, 1), scale.flatten(), self.int8_weight(), self.weight_scale, self.bias, self.act, self.dtype
        )
        return y.unflatten(0, q.shape[:2])

    def int8_weight(self) -> Tensor:
        """(N, K) int8, as the matrix product reads them."""
        return self.weight


class Int4Linear(Int8Linear):
    """An int8 layer whose weights are stored packed, in about half the bytes (kernels/linear/packing.py). K must divide
    into groups.

    They are unpacked exactly at each use and freed after it: little work compared with a film's tokens, and never more
    than one matrix in int8.
    """

    weight_multiplier: Tensor

    def _allocate(self, in_features: int, out_features: int) -> None:
        self.register_buffer("weight", torch.zeros(out_features, in_features // 2, dtype=torch.uint8))
        groups = in_features // packing.GROUP
        self.register_buffer("weight_multiplier", torch.ones(out_features, groups, dtype=torch.int8))

    def int8_weight(self) -> Tensor:
        """(N, K) int8, unpacked."""
        return ops.dequant_int4(self.weight, self.weight_multiplier)


def add_residual(x: Tensor, y: Tensor, gate: Tensor | None) -> Tensor:
    """x + gate * y, the residual stream after a branch: x, y (B, L, D), gate (G, 1, D) or None for 1, as in Norm; x
    float32.

    In place, unless autograd may need x as it was.
    """
    if torch.is_grad_enabled():
        return x + (y if gate is None else (gate * _shared(y, gate)).view(x.shape))
    ops.gate_res(_flat(y), _flat(x), None if gate is None else _flat(gate))
    return x


def modulated(x: Tensor, norm: Norm) -> Tensor:
    """LayerNorm(x) * gain + shift in float32. Without autograd it needs no second copy of the stream."""
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


def _rows(x: Tensor, quantised: tuple[Tensor, Tensor]) -> QuantizedRows:
    """A kernel's result for the tokens of x (B, L, K), in the shape of x."""
    q, scale = quantised
    return QuantizedRows(q.view(x.shape), scale.view(x.shape[:-1]))
