"""A trained network -> its int8 form, and back to a network that computes in int8.

The matrices of the blocks become int8 with one scale for each output channel; their inputs are rounded to int8 row by
row as they come (kernels: quant_rows, int8_linear). Other matrices become bf16, vectors stay float32. In the files a
quantized matrix `name.weight` is int8 and has a companion `name.weight_scale`: that companion is how a loader knows.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kernels import ops
from models.card import Card
from models.errors import BadInput
from models.transformer import Transformer

SCHEME = "w8a8/1"
MATRIX = re.compile(r"blocks\.(\d+)\.((self_attn|cross_attn)\.[qkvo]|ffn\.[02])\.weight")


def quantize(state: Mapping[str, Tensor], card: Card, keep: Collection[int] | None = None) -> dict[str, Tensor]:
    """The tensors of a transformer in their stored form, on the CPU.

    state: a state dict of `Transformer(card)`, any float dtype. keep: blocks not to quantize; None asks the card.
    The same weights give the same bytes.
    """
    keep = card.kept_blocks if keep is None else keep
    stored = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu()
        found = MATRIX.fullmatch(name)
        if found and int(found[1]) not in keep:
            stored[name], stored[f"{name}_scale"] = (part.clone() for part in ops.quant_rows(tensor.float()))
        else:
            matrix = tensor.dim() > 1 and not name.endswith("modulation")
            stored[name] = tensor.to(torch.bfloat16 if matrix else torch.float32).contiguous()
    return stored


def load_quantized(card: Card, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Transformer:
    """A network ready to render from stored tensors, quantized or not, without a second copy of the int8 ones.

    dtype: what its matrices compute in, and int8 layers give out; norms, modulation and biases of int8 layers stay
    float32. Raises BadInput when the tensors are not those of this card.
    """
    with torch.device("meta"):
        network = Transformer(card)
        names = network.state_dict().keys()
        for name in [key.removesuffix(".weight_scale") for key in tensors if key.endswith(".weight_scale")]:
            if not MATRIX.fullmatch(f"{name}.weight") or f"{name}.bias" not in names:
                raise BadInput(f"the weights hold a quantized {name}, which no {card.name} network has")
            _exchange(network, name, dtype)
    _check(card, network.state_dict(), tensors)
    wide = {name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv3d)}
    placed = {
        name: tensor
        if tensor.dtype == torch.int8
        else tensor.to(dtype if name.rpartition(".")[0] in wide else torch.float32)
        for name, tensor in tensors.items()
    }
    network.load_state_dict(placed, strict=True, assign=True)
    return network.requires_grad_(False).eval()


class Rows(NamedTuple):
    """A tensor (..., K) rounded row by row: q (M, K) int8, scale (M,) float32, and the leading sizes it had."""

    q: Tensor
    scale: Tensor
    leading: torch.Size


class Int8Linear(nn.Module):
    """A linear layer of int8 weights, one scale an output channel; stands where an nn.Linear stood."""

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor

    def __init__(self, in_features: int, out_features: int, dtype: torch.dtype, act: str = "none") -> None:
        super().__init__()
        self.dtype, self.act = dtype, act
        self.register_buffer("weight", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(out_features))
        self.register_buffer("bias", torch.zeros(out_features))

    def enter(self, x: Tensor) -> Rows:
        """Round x (..., K), any float dtype; the result serves every int8 layer that reads x."""
        return Rows(*ops.quant_rows(x.flatten(0, -2)), x.shape[:-1])

    def forward(self, x: Tensor | Rows) -> Tensor:
        """x (..., K), rounded or not -> (..., N) in `dtype`."""
        rows = x if isinstance(x, Rows) else self.enter(x)
        y = ops.int8_linear(rows.q, rows.scale, self.weight, self.weight_scale, self.bias, self.act, self.dtype)
        return y.unflatten(0, rows.leading)


def _exchange(network: Transformer, name: str, dtype: torch.dtype) -> None:
    """Put an int8 layer where a linear one stands. The feed-forward's GELU moves into its first layer's epilogue."""
    parent, _, own = name.rpartition(".")
    holder, (outputs, inputs) = network.get_submodule(parent), network.get_parameter(f"{name}.weight").shape
    first = name.endswith("ffn.0")
    setattr(holder, own, Int8Linear(inputs, outputs, dtype, "gelu_tanh" if first else "none"))
    if first:
        setattr(holder, "1", nn.Identity())


_WAY_OUT = ": the package is not whole, so use another (RUSHES_WEIGHTS), or the one that ships"


def _check(card: Card, expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """The stored tensors must be the network's, by name, shape and kind. Raises BadInput."""
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise BadInput(f"the weights lack {name}, which a {card.name} network needs{_WAY_OUT}")
        if name not in expected:
            raise BadInput(f"the weights hold {name}, which no {card.name} network has{_WAY_OUT}")
        want, have = expected[name], tensors[name]
        if want.shape != have.shape:
            found, needed = tuple(have.shape), tuple(want.shape)
            raise BadInput(f"{name} in the weights is {found}; a {card.name} network needs {needed}{_WAY_OUT}")
        integer = have.dtype == torch.int8
        if integer != (want.dtype == torch.int8) or not (integer or have.dtype.is_floating_point):
            raise BadInput(f"{name} in the weights is stored as {have.dtype}, which does not fit its place{_WAY_OUT}")
