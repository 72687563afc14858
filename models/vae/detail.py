"""Restores detail that the autoencoder loses, from the previs.

A latent cell holds four frames of 8x8 pixels in 16 numbers, so moving edges smear. The previs went through the same
autoencoder and lost the same, and its loss is known: previs - plain, where `plain` is the decoded previs. A small
network predicts for each pixel how much of that to add to the film (all of it where the film is sharp, nothing where it
is out of focus), and a correction.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FOLD = 4  # pixels of a side folded into one position of the network
WIDTH = 64
GATE = 2.0  # bias of the gate before training: sigmoid(2) = 0.88 of the loss is added back


class Detail(nn.Module):
    """Frame by frame; before training, only the gate's bias has an effect."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(9 * FOLD**2, WIDTH, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(),
                nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(WIDTH, WIDTH, 3, padding=reach, dilation=reach),
            )
            for reach in (1, 2)
        )
        self.leave = nn.Conv2d(WIDTH, 4 * FOLD**2, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, film: Tensor, plain: Tensor, previs: Tensor) -> Tensor:
        """A film and a previs as decoded, and the previs itself, all (N, 3, h, w) float32 in
        -1..1, h and w divisible by 4 -> the film (N, 3, h, w) float32, not yet clamped.
        """
        folded = F.pixel_unshuffle(torch.cat([film, plain, previs], 1), FOLD)
        x = self.enter(folded.to(self.enter.weight.dtype, memory_format=torch.channels_last))
        for block in self.blocks:
            x = x + block(x)
        output = F.pixel_shuffle(self.leave(F.silu(x)).float(), FOLD)
        return film + torch.sigmoid(output[:, :1] + GATE) * (previs - plain) + output[:, 1:]

    def restore(self, film: Tensor, plain: Tensor, previs: Tensor) -> Tensor:
        """The same for a chunk: film and plain (1, 3, n, h, w), previs (n, h, w, 3) uint8 -> (1, 3, n, h, w), clamped.

        One frame at a time, so that it needs no more memory than decoding.
        """
        frames = zip(film.unbind(2), plain.unbind(2), previs.to(film.device), strict=True)
        restored = [self(one, other, shown.permute(2, 0, 1)[None].float() / 127.5 - 1) for one, other, shown in frames]
        return torch.stack(restored, 2).clamp(-1, 1)
