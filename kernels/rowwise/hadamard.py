"""Block-Hadamard rotation: it spreads an outlier over its block of columns, so that int8 rows keep their small values.

H is orthonormal and symmetric, H[i, j] = (-1)^popcount(i & j) / sqrt(b), and acts on consecutive blocks of b columns.
Rotating both factors of a product changes nothing: (x H)(w H)^T = x w^T. Weights are rotated once, when they are
quantised; activations at each use (argument `hadamard` of the operations that quantise rows).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

BLOCKS = (256, 512)  # columns


def rotate(x: Tensor, block: int) -> Tensor:
    """x (..., K) float, K a multiple of `block` -> x H, in the dtype of x. 0 means no rotation: x itself.

    Raises ValueError for a block not in BLOCKS, or a width that is not a multiple of it.
    """
    if not block:
        return x
    check(x.shape[-1], block)
    return (x.unflatten(-1, (-1, block)) @ matrix(block, x.dtype, x.device)).flatten(-2)


def check(width: int, block: int) -> None:
    """Raise ValueError unless rows of `width` columns can be rotated by blocks of `block`; 0 always can."""
    if block and block not in BLOCKS:
        raise ValueError(f"a Hadamard block has {BLOCKS[0]} or {BLOCKS[1]} columns, or 0 for none; got {block}")
    if block and width % block:
        raise ValueError(f"rows of {width} columns do not divide into Hadamard blocks of {block}: use another, or 0")


@lru_cache(maxsize=8)
def matrix(block: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """H, (block, block), block a power of two."""
    with torch.inference_mode(False):  # a matrix first made while rendering may later be used in training
        h = torch.ones(1, 1, dtype=torch.float64)
        while len(h) < block:
            h = torch.cat([torch.cat([h, h], dim=1), torch.cat([h, -h], dim=1)])
        return h.div_(block**0.5).to(device, dtype)
