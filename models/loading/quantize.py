"""Quantise a network to int8 or int4, and load the stored form as a network that computes in int8.

The card says which network: a transformer or a text encoder. The matrices of the blocks (each a
`models.dit.linear.Linear`) become int8 with one scale for each output channel; their inputs are quantised per row at
run time. Other matrices become bf16, vectors stay float32. In files a quantised matrix `name.weight` is int8 and has a
scale `name.weight_scale`, by which the loader recognises it. In the int4 form `name.weight` is packed
(kernels/linear/packing.py) and also has a `name.weight_multiplier`; matrices whose rows do not divide into groups stay
int8. Where an input of the blocks is rotated by Hadamard matrices (kernels/rowwise/hadamard.py), so are the quantised
matrices that read it, and `hadamard.INPUT` holds the size of the Hadamard matrices.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import overload

import torch
from torch import Tensor, nn

from kernels import ops
from kernels.linear import packing
from kernels.rowwise import hadamard
from models.card import Card, TextCard
from models.dit.linear import Int4Linear, Int8Linear, Linear
from models.dit.wan import Transformer
from models.encoders.umt5 import TextEncoder
from models.errors import BadInput
from models.weight_files.package_header import SCHEME_INT4, SCHEME_INT8

IN_BLOCK = re.compile(r"(vace_)?blocks\.(\d+)\.(.+)")

# Inputs in a block and the matrices that read them: an input is rotated for all its readers, in every quantised block.
# The text encoder has the inputs "attn" and "ffn".
READERS = {
    "self_attn.in": ("self_attn.q", "self_attn.k", "self_attn.v"),
    "self_attn.out": ("self_attn.o",),
    "cross_attn.in": ("cross_attn.q",),
    "context": ("cross_attn.k", "cross_attn.v"),
    "pictures": ("cross_attn.k_img", "cross_attn.v_img"),
    "cross_attn.out": ("cross_attn.o",),
    "attn.in": ("attn.q", "attn.k", "attn.v"),
    "attn.out": ("attn.o",),
    "ffn.in": ("ffn.0", "ffn.gate.0", "ffn.fc1"),
    "ffn.hidden": ("ffn.2", "ffn.fc2"),
}


def quantize(
    state: Mapping[str, Tensor],
    card: Card | TextCard,
    keep: Collection[int] | None = None,
    rotate: Collection[str] = (),
    scheme: str = SCHEME_INT8,
) -> dict[str, Tensor]:
    """The tensors of a network in their stored form, on the device where they are.

    state: a state dict, or a part of one, of the network of `card`; any float dtype. keep: blocks not to quantise; None
    takes those of the card. rotate: inputs of a block, of READERS, that are rotated by Hadamard matrices before they
    are quantised: those in which a few channels are many times larger than the rest, and only where their width divides
    into blocks of 256.
    scheme: SCHEME_INT8 or SCHEME_INT4, else ValueError. The same weights give the same bytes.
    """
    if scheme not in (SCHEME_INT8, SCHEME_INT4):
        raise ValueError(f"scheme {scheme!r} is not one of {SCHEME_INT8}, {SCHEME_INT4}")
    keep = card.kept_blocks if keep is None else keep
    sizes = {name: hadamard_of(_width(card, name)) for name in rotate}
    rotations = {reader: size for name, size in sizes.items() for reader in READERS[name]}
    stored = {f"hadamard.{name}": torch.tensor(size, dtype=torch.int32) for name, size in sizes.items() if size}
    for name, tensor in state.items():
        tensor = tensor.detach()
        block, matrix = _matrix(card, name)
        if matrix and block not in keep:
            rotated = hadamard.rotate(tensor.float(), rotations.get(matrix, 0))
            if scheme == SCHEME_INT4 and tensor.shape[1] % packing.GROUP == 0:
                parts = packing.quantize_int4(rotated)
                stored[name], stored[f"{name}_multiplier"], stored[f"{name}_scale"] = parts
            else:
                stored[name], stored[f"{name}_scale"] = (part.clone() for part in ops.quant_rows(rotated))
        else:
            wide = tensor.dim() > 1 and not name.endswith("modulation")
            stored[name] = tensor.to(torch.bfloat16 if wide else torch.float32).contiguous()
    return stored


def hadamard_of(width: int) -> int:
    """The size of the largest Hadamard matrix that divides `width`, 0 if none."""
    return max((size for size in hadamard.BLOCKS if width and width % size == 0), default=0)


def errors(state: Mapping[str, Tensor], stored: Mapping[str, Tensor], card: Card | TextCard) -> dict[str, float]:
    """The relative error of each matrix, |stored - weight| / |weight|. Usual are 0.092 for int4, 0.007 for int8 and
    0.0017 for bf16; a block with a matrix far above should be kept unquantised.
    """
    found, rotations = {}, _rotations(card, stored)
    for name, tensor in state.items():
        if tensor.dim() > 1 and not name.endswith("modulation"):
            weight, held = tensor.detach().cpu().float(), stored[name]
            if f"{name}_multiplier" in stored:
                held = ops.dequant_int4(held, stored[f"{name}_multiplier"])
            if f"{name}_scale" in stored:
                weight = hadamard.rotate(weight, rotations.get(_matrix(card, name)[1], 0))
                held = held * stored[f"{name}_scale"][:, None]
            found[name] = float((held - weight).norm() / weight.norm())
    return found


@overload
def load_quantized(card: Card, tensors: Mapping[str, Tensor], dtype: torch.dtype = ...) -> Transformer: ...


@overload
def load_quantized(card: TextCard, tensors: Mapping[str, Tensor], dtype: torch.dtype = ...) -> TextEncoder: ...


def load_quantized(
    card: Card | TextCard, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32
) -> Transformer | TextEncoder:
    """A network from stored tensors, quantised or not, without a second copy of the int8 ones.

    dtype: of computation and of the outputs of int8 layers; norms, modulation and biases of int8 layers stay float32,
    and embeddings keep their stored dtype. Raises BadInput when the tensors do not match the card.
    """
    rotations = _rotations(card, tensors)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("hadamard.")}
    with torch.device("meta"):
        network = _network(card)
        for name in [key.removesuffix(".weight_scale") for key in tensors if key.endswith(".weight_scale")]:
            if name not in _matrices(card):
                raise BadInput(f"the weights hold a quantized {name}, which no {card.name} network has")
            packed = f"{name}.weight_multiplier" in tensors
            if packed and _matrices(card)[name] % packing.GROUP:
                raise BadInput(f"the weights hold {name} in int4, for which its rows are too short{_WAY_OUT}")
            kind = Int4Linear if packed else Int8Linear
            _replace_linear(network, name, kind, dtype, rotations.get(name.split(".", 2)[2], 0))
    _check(card, network.state_dict(), tensors)
    modules = dict(network.named_modules())
    placed = {name: _placed(tensor, modules[name.rpartition(".")[0]], dtype) for name, tensor in tensors.items()}
    network.load_state_dict(placed, strict=True, assign=True)
    return network.requires_grad_(False).eval()


def _placed(tensor: Tensor, holder: nn.Module, dtype: torch.dtype) -> Tensor:
    """A stored tensor in the dtype in which its module uses it."""
    if not tensor.is_floating_point() or isinstance(holder, nn.Embedding):
        return tensor
    return tensor.to(dtype if isinstance(holder, nn.Linear | nn.Conv2d | nn.Conv3d) else torch.float32)


def _network(card: Card | TextCard) -> Transformer | TextEncoder:
    return Transformer(card) if isinstance(card, Card) else TextEncoder(card)


@lru_cache(maxsize=8)
def _matrices(card: Card | TextCard) -> Mapping[str, int]:
    """The matrices that may be quantised, by name, and their input widths."""
    with torch.device("meta"):
        modules = _network(card).named_modules()
    return {name: module.in_features for name, module in modules if isinstance(module, Linear)}


def _matrix(card: Card | TextCard, name: str) -> tuple[int, str]:
    """The block of a tensor and the matrix's name in it, "" for a tensor that is not quantised. A VACE block counts as
    the block to which it adds.
    """
    found = IN_BLOCK.fullmatch(name.removesuffix(".weight"))
    if not found or found[0] not in _matrices(card):
        return -1, ""
    block = int(found[2])
    return card.vace_layers[block] if found[1] and isinstance(card, Card) else block, found[3]


def _replace_linear(network: nn.Module, name: str, kind: type[Int8Linear], dtype: torch.dtype, rotation: int) -> None:
    """Replace a linear layer by one of this kind. A GELU that follows is fused into its epilogue."""
    parent, _, own = name.rpartition(".")
    holder, linear = network.get_submodule(parent), network.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    act = "none"
    if isinstance(holder, nn.Sequential):
        following = str(int(own) + 1)
        if isinstance(dict(holder.named_children()).get(following), nn.GELU):
            act = "gelu_tanh"
            setattr(holder, following, nn.Identity())
    setattr(holder, own, kind(linear.in_features, linear.out_features, dtype, act, rotation, linear.bias is not None))


_WAY_OUT = ": the package is incomplete; use another (RUSHES_WEIGHTS), or the one that ships"


def _check(card: Card | TextCard, expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Raises BadInput unless the stored tensors are the network's by name, shape and dtype."""
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise BadInput(f"the weights lack {name}, which a {card.name} network needs{_WAY_OUT}")
        if name not in expected:
            raise BadInput(f"the weights hold {name}, which no {card.name} network has{_WAY_OUT}")
        want, have = expected[name], tensors[name]
        if want.shape != have.shape:
            found, needed = tuple(have.shape), tuple(want.shape)
            raise BadInput(f"{name} in the weights is {found}; a {card.name} network needs {needed}{_WAY_OUT}")
        if have.dtype != want.dtype and not (have.is_floating_point() and want.is_floating_point()):
            raise BadInput(f"{name} in the weights is stored as {have.dtype} instead of {want.dtype}{_WAY_OUT}")


def _rotations(card: Card | TextCard, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The size of the Hadamard matrices that rotate each matrix's input, by its name in a block. Raises BadInput."""
    rotations: dict[str, int] = {}
    for name in [name for name in tensors if name.startswith("hadamard.")]:
        size, source = tensors[name], name.removeprefix("hadamard.")
        width = _width(card, source) if source in READERS else 0
        if not width or size.shape or int(size) not in hadamard.BLOCKS or width % int(size):
            raise BadInput(f"the weights hold {name}, which no {card.name} network has{_WAY_OUT}")
        rotations |= dict.fromkeys(READERS[source], int(size))
    return rotations


def _width(card: Card | TextCard, source: str) -> int:
    """The width of an input of a block; 0 where this network has no such input."""
    widths = (_matrices(card).get(f"blocks.0.{reader}", 0) for reader in READERS[source])
    return max(widths)
