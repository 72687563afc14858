"""Layout of quantised matrices in memory and in files, and quantisation of float weights to int4. Plain torch.

int8, one byte per weight. The row of an output channel is contiguous, as the tensor cores read it:

    weight       (N, K) int8       -127 .. 127
    scale        (N,) float32      w = weight * scale

int4, half a byte per weight plus one byte per group of 64 neighbours in a row. Rows and groups follow one another
without gaps, so the matrix is one list of groups whatever N and K are, K being a multiple of the group:

    packed       (N, K / 2) uint8  two levels per byte
    multiplier   (N, K / 64) int8  -15 .. 15, never 0
    scale        (N,) float32      w = level * multiplier * scale, level -8 .. 7

                        bits 7 6 5 4     bits 3 2 1 0
    byte 0 of a group   column 32        column 0        each nibble holds level + 8
    byte 1              column 33        column 1
    ...
    byte 31             column 63        column 31

A byte holds one column from each half of its group, not two neighbours: unpacked, each half is one run of columns, and
nothing is shuffled.

Multipliers are integers, so that level * multiplier is exactly an int8 weight (8 * 15 = 120 of its 127 levels) and int4
matrices are multiplied as int8 ones: unpacking never rounds. That costs almost nothing: on normal weights the relative
RMS error is 0.0917, against 0.0912 with a free float scale per group, rounded to int8 rows afterwards, which takes
another byte per group; symmetric levels -7 .. 7 of a group's own largest value give 0.107.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

GROUP = 64
LOWEST, HIGHEST = -8, 7  # of four bits
LARGEST_MULTIPLIER = 15  # 8 * 16 would be 128
TRIES = 4  # multipliers tried per group, downwards from the one that clips nothing; a fifth is never better
SEARCH_ROWS = 1024  # rows searched at once: 57 MB of a 14B feed-forward in float32, times a few copies


class Int4(NamedTuple):
    """A matrix in the int4 layout."""

    packed: Tensor
    multiplier: Tensor
    scale: Tensor


def quantize_int4(w: Tensor, group: int = GROUP) -> Int4:
    """Quantise each group to 16 levels, with the multiplier, out of TRIES, that leaves the least squared error.

    w (N, K), any float dtype; the row's largest value becomes 120 scales. The same weights give the same bytes. Raises
    ValueError where K is not a multiple of the group, or the group not a power of two of at least 16.
    """
    check(w.shape[1], group)
    parts = [_search(rows.float().unflatten(1, (-1, group))) for rows in w.split(SEARCH_ROWS)]
    level, multiplier, scale = (torch.cat(column) for column in zip(*parts, strict=True))
    return Int4(pack_int4(level, group), multiplier, scale)


def pack_int4(level: Tensor, group: int = GROUP) -> Tensor:
    """level (N, K) int8, -8 .. 7 -> packed (N, K / 2) uint8."""
    check(level.shape[1], group)
    low, high = (level - LOWEST).to(torch.uint8).unflatten(1, (-1, 2, group // 2)).unbind(2)
    return (low | (high << 4)).flatten(1)


def unpack_int4(packed: Tensor, group: int = GROUP) -> Tensor:
    """The inverse of `pack_int4`: packed (N, K / 2) uint8 -> level (N, K) int8."""
    check(2 * packed.shape[1], group)
    pairs = packed.unflatten(1, (-1, group // 2))
    return torch.stack([pairs & 15, pairs >> 4], dim=2).flatten(1).view(torch.int8).add_(LOWEST)


def group_of(packed: Tensor, multiplier: Tensor) -> int:
    """The group size of a packed matrix, from the shapes of its tensors. Raises ValueError where they do not match."""
    (rows, width), groups = packed.shape, multiplier.shape[1]
    if multiplier.shape[0] != rows or not groups or 2 * width % groups:
        raise ValueError(f"packed {tuple(packed.shape)} and multiplier {tuple(multiplier.shape)} fit no group")
    check(2 * width, 2 * width // groups)
    return 2 * width // groups


def check(width: int, group: int) -> None:
    """Raises ValueError where rows of `width` columns do not divide into groups of this size."""
    if group < 16 or group & (group - 1):
        raise ValueError(f"a group of {group} columns: it must be a power of two of at least 16")
    if width % group:
        raise ValueError(f"rows of {width} columns do not divide into groups of {group}: keep this matrix in int8")


def _search(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x (N, groups, group) float32 -> level (N, K) int8, multiplier (N, groups) int8, scale (N,) float32."""
    peak = x.gather(2, x.abs().argmax(2, keepdim=True))
    largest = peak.abs().amax(1, keepdim=True).clamp_min_(1e-30)  # so that rows of zeros do not divide by 0
    scale = largest / (-LOWEST * LARGEST_MULTIPLIER)
    # There is one more level below zero than above: the multiplier's sign puts the group's largest value there.
    side = torch.where(peak > 0, -1.0, 1.0)
    clipping_nothing = (peak.abs() / (-LOWEST * scale)).ceil_().clamp_(1, LARGEST_MULTIPLIER)
    level, multiplier = torch.zeros_like(x), side.clone()
    least = torch.full_like(side, float("inf"))
    for smaller in range(TRIES):
        candidate = (clipping_nothing - smaller).clamp_min_(1) * side
        rounded = (x / (candidate * scale)).round_().clamp_(LOWEST, HIGHEST)
        error = (rounded * (candidate * scale) - x).square_().sum(2, keepdim=True)
        better = error < least
        level = torch.where(better, rounded, level)
        multiplier = torch.where(better, candidate, multiplier)
        least = torch.where(better, error, least)
    return level.flatten(1).to(torch.int8), multiplier.squeeze(2).to(torch.int8), scale.flatten()
