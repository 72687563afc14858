"""Extra inputs of some variants of Wan besides noise, time and text, and the layers that embed them.

    pictures    CLIP image tokens of one or two keyframes, next to the text           I2V, FLF2V and Fun of Wan 2.1
    hints       what is kept of a film, what is to be made, and a mask                VACE
    rays        the camera's ray of every pixel, added to the tokens                  Fun-Control-Camera
    reference   the latent of a picture, as a frame before the film's first           Fun-Control 1.1

Parameter names are those of the original checkpoints: Wan-Video/Wan2.1 and aigc-apps/VideoX-Fun (both Apache-2.0, for
the facts). Which of these a network has is in its card.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.card import Card


class ExtraInputs(NamedTuple):
    """The extra inputs of one forward; None for those that the variant does not read."""

    pictures: Tensor | None = None  # (B, 257 or 514, image_dim)
    hints: Tensor | None = None  # (B, vace_channels, F, H, W)
    hint_scale: float = 1.0  # how much of each hint is added
    rays: Tensor | None = None  # (B, camera_channels, F, h, w): camera_rays of every pixel
    reference: Tensor | None = None  # (B, reference_channels, H, W)

    def repeated(self, count: int) -> ExtraInputs:
        """The inputs of one film for a batch of `count`."""
        return ExtraInputs(
            _repeated(self.pictures, count), _repeated(self.hints, count), self.hint_scale,
            _repeated(self.rays, count), _repeated(self.reference, count),
        )  # fmt: skip


def _repeated(part: Tensor | None, count: int) -> Tensor | None:
    return None if part is None else part.expand(count, *part.shape[1:])


NO_EXTRAS = ExtraInputs()


class Pictures(nn.Module):
    """CLIP image tokens -> tokens that the cross-attention reads next to the text."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        wide = card.image_dim
        self.emb_pos = nn.Parameter(torch.zeros(1, card.image_positions, wide)) if card.image_positions else None
        self.proj = nn.Sequential(
            nn.LayerNorm(wide), nn.Linear(wide, wide), nn.GELU(), nn.Linear(wide, card.dim), nn.LayerNorm(card.dim)
        )

    def forward(self, seen: Tensor) -> Tensor:
        """(B, S, image_dim) -> (B, S, D). Raises ValueError where S is not the number of learnt positions."""
        if self.emb_pos is not None:
            if seen.shape[1] != self.emb_pos.shape[1]:
                raise ValueError(f"pictures have {seen.shape[1]} tokens; this model reads {self.emb_pos.shape[1]}")
            seen = seen.float() + self.emb_pos.float()
        for layer in self.proj:
            seen = layer(seen.to(next(layer.parameters()).dtype)) if list(layer.parameters()) else layer(seen)
        return seen


class Camera(nn.Module):
    """The camera adapter: rays of pixels -> one token for each token of the film, to which it is added."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.cell, side = card.space_stride, card.patch[1]
        self.conv = nn.Conv2d(card.camera_channels * self.cell**2, card.dim, side, side)
        self.residual_blocks = nn.ModuleList([Residual(card.dim)])

    def forward(self, rays: Tensor) -> Tensor:
        """(B, C, F, h, w) in pixels -> (B, D, F, H/2, W/2)."""
        frames = rays.transpose(1, 2).flatten(0, 1).to(self.conv.weight.dtype)
        frames = self.conv(F.pixel_unshuffle(frames, self.cell))
        for block in self.residual_blocks:
            frames = block(frames)
        return frames.unflatten(0, (len(rays), -1)).transpose(1, 2)


class Residual(nn.Module):
    """A residual block: two convolutions with a ReLU between."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(dim, dim, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) -> the same."""
        return x + self.conv2(F.relu(self.conv1(x)))
