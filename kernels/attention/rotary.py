"""Rotary position embedding of a film: channel pairs of a head rotated by position in time, height and width.

Every token has a position (f, h, w) in a grid. Neighbouring channels (2j, 2j+1) of a head are one pair; each pair
belongs to one of the three axes and is rotated by the token's position on that axis times the pair's own frequency. The
angles of a whole film therefore fit in one table of max(F, H, W) rows: row p holds, for every pair, the angle at
position p of its axis.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def axes_of(head_dim: int) -> tuple[int, int, int]:
    """How many of a head's channels rotate with time, height and width: of 128, 44, 42 and 42."""
    sixth = head_dim // 6
    return head_dim - 4 * sixth, 2 * sixth, 2 * sixth


@lru_cache(maxsize=8)
def rotary_rows(grid: tuple[int, int, int], head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's angles, each (max(F, H, W), E/2) float32, computed in float64.

    Pair j of an axis that has n of the head's channels is rotated by position * 10000^(-2j/n).
    """
    with torch.inference_mode(False):  # a table first made while rendering may later be used in training
        frequencies = [10000.0 ** (-torch.arange(0, n, 2, dtype=torch.float64) / max(n, 1)) for n in axes_of(head_dim)]
        angles = torch.arange(max(grid), dtype=torch.float64)[:, None] * torch.cat(frequencies)
        return angles.cos().float().to(device), angles.sin().float().to(device)


def at_tokens(rows: Tensor, grid: list[int]) -> Tensor:
    """rows (P, E/2), one value per position and pair -> (F*H*W, 1, E/2), the values at each token's position."""
    columns, shares = [], [width // 2 for width in axes_of(2 * rows.shape[1])]
    for axis, (size, part) in enumerate(zip(grid, rows.split(shares, dim=1), strict=True)):
        shape = [1, 1, 1, part.shape[1]]
        shape[axis] = size
        columns.append(part[:size].view(shape).expand(*grid, -1))
    return torch.cat(columns, dim=-1).view(-1, 1, rows.shape[1])
