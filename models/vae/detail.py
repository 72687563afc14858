"""What a coarse code of a film loses, given back from its previs.

A latent cell holds four frames of 8x8 pixels in 16 numbers, so where the picture moves, edges smear. The previs went
through the same autoencoder and lost the same, and what it lost is known: previs - plain, where `plain` is what came
back of it. A small network says for each pixel how much of that belongs into the film (all of it where the film is
sharp, nothing where a lens throws it out of focus), and mends the rest.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FOLD = 4  # pixels of a side that are one position of the network
WIDTH = 64
GATE = 2.0  # of a network that has learned nothing: sigmoid(2) = 0.88 of what was lost is given back


class Detail(nn.Module):
    """Frame by frame; silent in all but the gate before it is trained."""

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
        """A film and a previs as the autoencoder gives them back, and the previs itself, all (N, 3, h, w) float32 in
        -1..1, h and w divisible by 4 -> the film (N, 3, h, w) float32, not yet clamped.
        """
        seen = F.pixel_unshuffle(torch.cat([film, plain, previs], 1), FOLD)
        x = self.enter(seen.to(self.enter.weight.dtype, memory_format=torch.channels_last))
        for block in self.blocks:
            x = x + block(x)
        said = F.pixel_shuffle(self.leave(F.silu(x)).float(), FOLD)
        return film + torch.sigmoid(said[:, :1] + GATE) * (previs - plain) + said[:, 1:]

    def restored(self, film: Tensor, plain: Tensor, previs: Tensor) -> Tensor:
        """The same of a chunk: film and plain (1, 3, n, h, w), previs (n, h, w, 3) uint8 -> (1, 3, n, h, w), clamped.

        A frame at a time, so that no more memory is at work than in decoding.
        """
        frames = zip(film.unbind(2), plain.unbind(2), previs.to(film.device), strict=True)
        made = [self(one, other, shown.permute(2, 0, 1)[None].float() / 127.5 - 1) for one, other, shown in frames]
        return torch.stack(made, 2).clamp(-1, 1)
