"""Parameters of a card and bytes of its weights, block by block. Torch-free arithmetic.

D width, F hidden width of the feed-forward. Checked against the published counts of Wan 2.1 and 2.2 (parameters
exactly, bytes to the printed digits).
"""

from __future__ import annotations

import math
from functools import lru_cache

from models.card import Card

PRECISIONS = ("fp32", "bf16", "int8", "int4")
INT4_GROUP = 64  # weights of a row that share one multiplier (kernels/linear/packing.py)


def parameters(card: Card) -> int:
    """Parameters of one expert: 1,418,996,800 for Wan 1.3B and 14,288,491,584 for 14B."""
    return outside_parameters(card) + card.layers * _block_parameters(card)


def outside_parameters(card: Card) -> int:
    """Those outside the blocks: embeddings of patches, text, time, pictures and rays; VACE's blocks; the head."""
    dim, cell = card.dim, math.prod(card.patch)
    entering = (
        _linear(card.in_channels * cell, dim)
        + _linear(card.text_dim, dim)
        + _linear(dim, dim)
        + _linear(card.freq_dim, dim)
        + _linear(dim, dim)
        + _linear(dim, 6 * dim)
    )
    leaving = _linear(dim, cell * card.out_channels) + 2 * dim
    return entering + leaving + picture_parameters(card) + hint_parameters(card) + camera_parameters(card)


def picture_parameters(card: Card) -> int:
    """Embeddings of pictures: norm, two matrices and norm for CLIP's tokens; patches of a reference frame."""
    wide, dim = card.image_dim, card.dim
    seen = 2 * wide + _linear(wide, wide) + _linear(wide, dim) + 2 * dim + card.image_positions * wide if wide else 0
    return seen + (_linear(card.reference_channels * math.prod(card.patch), dim) if card.reference_channels else 0)


def hint_parameters(card: Card) -> int:
    """VACE: patches, a block for each hinted one, an output matrix of each and an input matrix of the first."""
    if not card.vace_layers:
        return 0
    blocks = len(card.vace_layers)
    entering = _linear(card.vace_channels * math.prod(card.patch), card.dim)
    return entering + blocks * _block_parameters(card) + (blocks + 1) * _linear(card.dim, card.dim)


def camera_parameters(card: Card) -> int:
    """The camera adapter: rays of a cell's pixels through patches of 2x2 cells; a residual block of two 3x3
    convolutions.
    """
    if not card.camera_channels:
        return 0
    rays = card.camera_channels * card.space_stride**2 * math.prod(card.patch)
    return _linear(rays, card.dim) + 2 * _linear(9 * card.dim, card.dim)


def matrix_parameters(card: Card) -> int:
    """Weights of one block's matrices, the ones that are quantized: q k v o twice, k and v of pictures,
    and the feed-forward.
    """
    return (10 if card.image_dim else 8) * card.dim**2 + 2 * card.dim * card.ffn


def vector_parameters(card: Card) -> int:
    """The rest of one block: biases (9 D and F), norms of q and k twice (4 D), norm3 (2 D), modulation (6 D); with
    pictures 2 D of biases and D of the norm of their k.
    """
    return (24 if card.image_dim else 21) * card.dim + card.ffn


@lru_cache(maxsize=512)
def block_bytes(card: Card, precision: str = "int8", kept: bool = False) -> int:
    """Bytes of one block; a `kept` one has its matrices in bf16 whatever the precision of the others.

    Vectors are float32 in memory. int8 has a float32 scale for each of the 9 D + F output channels (11 D + F with
    pictures); int4 has those and a byte for each 64 weights. 14B: 703 MB in bf16, 352 in int8, 182 in int4. Raises
    ValueError for an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    matrices = matrix_parameters(card)
    scales = 4 * ((11 if card.image_dim else 9) * card.dim + card.ffn)
    stored = {
        "fp32": 4 * matrices,
        "bf16": 2 * matrices,
        "int8": matrices + scales,
        "int4": matrices // 2 + matrices // INT4_GROUP + scales,
    }
    wide = kept and precision != "fp32"
    return stored["bf16" if wide else precision] + 4 * vector_parameters(card)


@lru_cache(maxsize=512)
def blocks_bytes(card: Card, precision: str = "int8") -> tuple[int, ...]:
    """Bytes of each block of one expert, in order, the kept ones in bf16."""
    return tuple(block_bytes(card, precision, layer in card.kept_blocks) for layer in range(card.layers))


def outside_bytes(card: Card, precision: str = "int8") -> int:
    """Bytes outside the blocks: bf16, or float32 in a float32 network. Always on the device, and with them the blocks
    that make hints (VACE), in the precision of the blocks they belong to.
    """
    hint_blocks = sum(block_bytes(card, precision, layer in card.kept_blocks) for layer in card.vace_layers)
    rest = outside_parameters(card) - len(card.vace_layers) * _block_parameters(card)
    return rest * (4 if precision == "fp32" else 2) + hint_blocks


def weights_bytes(card: Card, precision: str = "int8") -> int:
    """Bytes of one expert's weights: 1.70 GB for Wan 1.3B in int8 with its kept blocks, 16.3 GB for 14B."""
    return outside_bytes(card, precision) + sum(blocks_bytes(card, precision))


def _block_parameters(card: Card) -> int:
    return matrix_parameters(card) + vector_parameters(card)


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs
