"""A trained network -> its int8 or int4 form, and back to a network that computes in int8.

The matrices of the blocks become int8 with one scale for each output channel; their inputs are rounded to int8 row by
row as they come (models/linear.py). Other matrices become bf16, vectors stay float32. In the files a quantized matrix
`name.weight` is int8 and has a companion `name.weight_scale`: that companion is how a loader knows. In the int4 form
`name.weight` is packed (kernels/packing.py) and has a second companion, `name.weight_multiplier`; matrices whose rows
do not divide into groups stay int8. Where an input of the blocks is turned by Hadamard matrices (kernels/hadamard.py),
so are the quantized matrices that read it, and `hadamard.INPUT` holds their size.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from kernels import hadamard, ops, packing
from models.card import Card
from models.errors import BadInput
from models.linear import Int4Linear, Int8Linear
from models.transformer import Transformer

SCHEME, SCHEME_INT4 = "w8a8/1", "w4a8/1"
MATRIX = re.compile(r"blocks\.(\d+)\.((self_attn|cross_attn)\.[qkvo]|ffn\.[02])\.weight")

# What the matrices of a block read: an input is turned for all its readers, in every quantized block.
READERS = {
    "self_attn.in": ("self_attn.q", "self_attn.k", "self_attn.v"),
    "self_attn.out": ("self_attn.o",),
    "cross_attn.in": ("cross_attn.q",),
    "context": ("cross_attn.k", "cross_attn.v"),
    "cross_attn.out": ("cross_attn.o",),
    "ffn.in": ("ffn.0",),
    "ffn.hidden": ("ffn.2",),
}


def quantize(
    state: Mapping[str, Tensor],
    card: Card,
    keep: Collection[int] | None = None,
    turn: Collection[str] = (),
    scheme: str = SCHEME,
) -> dict[str, Tensor]:
    """The tensors of a transformer in their stored form, on the CPU.

    state: a state dict of `Transformer(card)`, any float dtype. keep: blocks not to quantize; None asks the card.
    turn: which inputs of a block, of READERS, are turned by Hadamard matrices before they are rounded: those in which a
    few channels are many times larger than the rest, and only where their width divides into blocks of 256.
    scheme: SCHEME or SCHEME_INT4, else ValueError. The same weights give the same bytes.
    """
    if scheme not in (SCHEME, SCHEME_INT4):
        raise ValueError(f"scheme {scheme!r} is not one of {SCHEME}, {SCHEME_INT4}")
    keep = card.kept_blocks if keep is None else keep
    sizes = {name: hadamard_of(_width(card, name)) for name in turn}
    turns = {matrix: size for name, size in sizes.items() for matrix in READERS[name]}
    stored = {f"hadamard.{name}": torch.tensor(size, dtype=torch.int32) for name, size in sizes.items() if size}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu()
        found = MATRIX.fullmatch(name)
        if found and int(found[1]) not in keep:
            turned = hadamard.rotate(tensor.float(), turns.get(found[2], 0))
            if scheme == SCHEME_INT4 and tensor.shape[1] % packing.GROUP == 0:
                parts = packing.quantize_int4(turned)
                stored[name], stored[f"{name}_multiplier"], stored[f"{name}_scale"] = parts
            else:
                stored[name], stored[f"{name}_scale"] = (part.clone() for part in ops.quant_rows(turned))
        else:
            matrix = tensor.dim() > 1 and not name.endswith("modulation")
            stored[name] = tensor.to(torch.bfloat16 if matrix else torch.float32).contiguous()
    return stored


def hadamard_of(width: int) -> int:
    """The largest Hadamard matrix that a row of `width` divides into, 0 if none."""
    return max((size for size in hadamard.BLOCKS if width % size == 0), default=0)


def errors(state: Mapping[str, Tensor], stored: Mapping[str, Tensor], card: Card) -> dict[str, float]:
    """What storing cost each matrix: |stored - weight| / |weight|. A normal one loses 0.092 to int4, 0.007 to int8 and
    0.0017 to bf16; one far above the others wants its block kept.
    """
    lost, turns = {}, _turns(card, stored)
    for name, tensor in state.items():
        if tensor.dim() > 1 and not name.endswith("modulation"):
            weight, held = tensor.detach().cpu().float(), stored[name]
            found = MATRIX.fullmatch(name)
            if f"{name}_multiplier" in stored:
                held = ops.dequant_int4(held, stored[f"{name}_multiplier"])
            if found and f"{name}_scale" in stored:
                weight = hadamard.rotate(weight, turns.get(found[2], 0))
                held = held * stored[f"{name}_scale"][:, None]
            lost[name] = float((held - weight).norm() / weight.norm())
    return lost


def load_quantized(card: Card, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Transformer:
    """A network ready to render from stored tensors, quantized or not, without a second copy of the int8 ones.

    dtype: what its matrices compute in, and int8 layers give out; norms, modulation and biases of int8 layers stay
    float32. Raises BadInput when the tensors are not those of this card.
    """
    turns = _turns(card, tensors)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("hadamard.")}
    with torch.device("meta"):
        network = Transformer(card)
        names = network.state_dict().keys()
        for name in [key.removesuffix(".weight_scale") for key in tensors if key.endswith(".weight_scale")]:
            if not MATRIX.fullmatch(f"{name}.weight") or f"{name}.bias" not in names:
                raise BadInput(f"the weights hold a quantized {name}, which no {card.name} network has")
            packed = f"{name}.weight_multiplier" in tensors
            if packed and network.get_parameter(f"{name}.weight").shape[1] % packing.GROUP:
                raise BadInput(f"the weights hold {name} in int4, for which it is not wide enough{_WAY_OUT}")
            kind = Int4Linear if packed else Int8Linear
            _exchange(network, name, kind, dtype, turns.get(name.split(".", 2)[2], 0))
    _check(card, network.state_dict(), tensors)
    wide = {name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv3d)}
    placed = {
        name: tensor
        if not tensor.is_floating_point()
        else tensor.to(dtype if name.rpartition(".")[0] in wide else torch.float32)
        for name, tensor in tensors.items()
    }
    network.load_state_dict(placed, strict=True, assign=True)
    return network.requires_grad_(False).eval()


def _exchange(network: Transformer, name: str, kind: type[Int8Linear], dtype: torch.dtype, turn: int) -> None:
    """Put a layer of this kind where a linear one stands. The feed-forward's GELU moves into its first's epilogue."""
    parent, _, own = name.rpartition(".")
    holder, (outputs, inputs) = network.get_submodule(parent), network.get_parameter(f"{name}.weight").shape
    first = name.endswith("ffn.0")
    setattr(holder, own, kind(inputs, outputs, dtype, "gelu_tanh" if first else "none", turn))
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
        if have.dtype != want.dtype and not (have.is_floating_point() and want.is_floating_point()):
            raise BadInput(f"{name} in the weights is stored as {have.dtype}, which does not fit its place{_WAY_OUT}")


def _turns(card: Card, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The size of the Hadamard matrices that turn what a matrix reads, by its name in a block. Raises BadInput."""
    turns: dict[str, int] = {}
    for name in [name for name in tensors if name.startswith("hadamard.")]:
        size, read = tensors[name], name.removeprefix("hadamard.")
        if read not in READERS or size.shape or int(size) not in hadamard.BLOCKS or _width(card, read) % int(size):
            raise BadInput(f"the weights hold {name}, which no {card.name} network has{_WAY_OUT}")
        turns |= dict.fromkeys(READERS[read], int(size))
    return turns


def _width(card: Card, read: str) -> int:
    """How wide an input of a block is."""
    return card.ffn if read == "ffn.hidden" else card.dim
