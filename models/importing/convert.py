"""Convert one tensor to its stored form: read, check, merge LoRAs, quantise, and measure the error.

Large matrices are processed some rows at a time, so that little more than a tensor and its stored form is in memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from models.card import Card
from models.errors import BadInput
from models.importing.plan import Network
from models.loading.quantize import errors

ROWS_BYTES = 64 * 2**20  # of float32 processed at once
OUTSIDE = "outside the blocks: few numbers that every token passes through"
KEPT = "in the first two or last three blocks, which are most sensitive to quantization"
REQUESTED = "bf16 was requested"
NOT_QUANTIZED = "not a matrix of a block"
Note = dict[str, tuple[str, float]]  # of each matrix: its stored form, and its relative error


def converted(network: Network, names: tuple[str, ...]) -> tuple[dict[str, Tensor], Note]:
    """The stored tensors of a group by their names in the package, and a note of each matrix. Raises BadInput."""
    stored: dict[str, Tensor] = {}
    note: Note = {}
    for name in names:
        tensor = whole(network, name)
        held = network.store(name, tensor)
        stored |= {network.prefix + part: value for part, value in held.items()}
        if network.card is not None and tensor.dim() > 1 and not name.endswith("modulation"):
            note[network.prefix + name] = (form(held, name), round(relative_error(network, name, tensor, held), 5))
        del tensor, held
    return stored, note


def whole(network: Network, name: str) -> Tensor:
    """A tensor as floats in its network's shape, with LoRAs merged; all numbers are finite. Raises BadInput."""
    piece, source, path = network.piece(name), network.gathered.source, network.gathered.path
    parts = [source.read(key) for key in piece.keys]
    tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
    parts.clear()
    if piece.scale is not None:
        tensor = _scaled(tensor, source.read(piece.scale), str(path), piece.scale)
    elif tensor.dtype.itemsize == 1:
        tensor = tensor.to(torch.bfloat16)  # exact: fp8 has fewer bits
    tensor = tensor.view(network.shapes[name])
    for lora, strength in network.loras:
        if name in lora.deltas:
            tensor = lora.merged(name, tensor.float(), strength)
    bad = sum(int((~rows.isfinite()).sum()) for rows in _rows(tensor))
    if bad:
        raise BadInput(
            f"{path} has {bad} numbers in {piece.keys[0]} that are not finite: the file is damaged; copy it again"
        )
    return tensor


def relative_error(network: Network, name: str, tensor: Tensor, held: Mapping[str, Tensor]) -> float:
    """The relative error |stored - weight| / |weight|, some rows at a time; 0 for a matrix of zeros."""
    card = network.card
    assert card is not None
    errors_squared, squared = 0.0, 0.0
    height = max(1, ROWS_BYTES // (4 * max(1, tensor[0].numel())))
    for first in range(0, len(tensor), height):
        rows = tensor[first : first + height]
        of_rows = float(rows.float().square().sum())
        if of_rows:
            here = {part: value[first : first + height] for part, value in held.items()}
            errors_squared += errors({name: rows}, here, card)[name] ** 2 * of_rows
            squared += of_rows
    return math.sqrt(errors_squared / squared) if squared else 0.0


def form(held: Mapping[str, Tensor], name: str) -> str:
    """The stored form of a matrix: "int4", "int8", "bf16", ..."""
    if f"{name}_multiplier" in held:
        return "int4"
    return "int8" if f"{name}_scale" in held else str(held[name].dtype).removeprefix("torch.").replace("bfloat", "bf")


def why(network: Network, name: str) -> str:
    """Why a matrix was not quantized."""
    if network.scheme == "none":
        return REQUESTED
    if re.match(r"(vace_)?blocks\.", name):
        return KEPT if isinstance(network.card, Card) and not name.endswith("_proj.weight") else NOT_QUANTIZED
    return OUTSIDE


def _scaled(stored: Tensor, scale: Tensor, path: str, key: str) -> Tensor:
    """Stored numbers times their scale: one for all, or one for each row. Raises BadInput for another shape."""
    scale = scale.float()
    if scale.numel() not in (1, len(stored)) or scale.dim() > 2 or (scale.dim() == 2 and scale.shape[1] != 1):
        shapes = f"{tuple(scale.shape)} for a weight of {tuple(stored.shape)}"
        raise BadInput(f"{path} has {key} of shape {shapes}: it must be one number, or one for each row")
    tensor = stored.float()
    return tensor.mul_(scale.reshape(-1, *([1] * (stored.dim() - 1))))


def _rows(tensor: Tensor) -> Iterator[Tensor]:
    flat = tensor.view(-1)
    return iter(flat.split(ROWS_BYTES // 4))
