"""Our small autoencoder, in Wan's latent geometry: 16 channels, 4 frames and 8x8 pixels to one cell, the first frame
alone.

The film is read in groups of four frames (the first frame fills its whole group), each group is one picture of 12
channels, and every layer works on groups, so every chunk costs the same. Causal in time: a block also reads its own
input for the group before, never a later one, so encoding and decoding stream group by group and equal the whole film
at once. In parallel to the convolutions there is a linear code, cell by cell; it is initialised with the principal
components of real cells, the best linear code there is, and training only has to learn what they miss.

Latents leave the encoder normalised: (z - mean) / std per channel, measured on training footage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.vae.tiling import Tile, tiles

CHANNELS = 16
FINE, COARSE = 128, 192  # widths at 1/4 and at 1/8 of the picture's size
CELL_SIDE = 8  # pixels
CELL = 12 * CELL_SIDE**2  # numbers of one cell: four frames, three colours, 8x8 pixels

Memory = list[Tensor | None]


class Norm(nn.Module):
    """x / rms(x over channels) * gamma, per position, so that chunks do not depend on each other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> the same shape."""
        rms = torch.rsqrt(x.float().square().mean(1, keepdim=True) + 1e-6).to(x.dtype)
        return x * rms * self.gamma.to(x.dtype)[:, None, None]


class MemoryBlock(nn.Module):
    """A residual block that also reads its own input of the group before."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = Norm(channels)
        self.conv1 = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        """x and past (n, C, H, W): each picture and the one before it."""
        y = self.conv1(torch.cat([self.norm(x), self.norm(past)], 1))
        return x + self.conv2(F.silu(y))


class Residual(nn.Module):
    """A residual block inside one group."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = Norm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x (n, C, H, W) -> the same shape."""
        return x + self.conv2(F.silu(self.conv1(self.norm(x))))


class Half(nn.Module):
    """Encoder or decoder: plain layers and memory blocks in a row, over groups (B, F, C, H, W)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """x (B, F, C, H, W) -> (B, F, C', H', W'). `memory` holds one picture a block between chunks; it is updated."""
        batch = x.shape[0]
        x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, MemoryBlock):
                x = layer(x)
                continue
            films = x.unflatten(0, (batch, -1))
            before = memory[index] if memory is not None else None
            first = torch.zeros_like(films[:, :1]) if before is None else before
            past = torch.cat([first, films[:, :-1]], 1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
            if memory is not None:
                memory[index] = films[:, -1:]
            x = layer(x, past)
        return x.unflatten(0, (batch, -1))

    def fresh_memory(self) -> Memory:
        """The memory before the first group."""
        return [None] * len(self.layers)


class VAE(nn.Module):
    """The autoencoder: `encode`, `decode`, and `encode_stream`, `decode_stream` for films in chunks."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.analysis = nn.Sequential(nn.PixelUnshuffle(8), nn.Conv2d(CELL, CHANNELS, 1))
        self.synthesis = nn.Sequential(nn.Conv2d(CHANNELS, CELL, 1), nn.PixelShuffle(8))
        self.encoder = Half(
            nn.PixelUnshuffle(4), nn.Conv2d(12 * 16, FINE, 3, padding=1), Residual(FINE),
            nn.PixelUnshuffle(2), nn.Conv2d(4 * FINE, COARSE, 1), MemoryBlock(COARSE), MemoryBlock(COARSE),
            Norm(COARSE), nn.Conv2d(COARSE, CHANNELS, 3, padding=1),
        )  # fmt: skip
        self.decoder = Half(
            nn.Conv2d(CHANNELS, COARSE, 3, padding=1), MemoryBlock(COARSE), MemoryBlock(COARSE), MemoryBlock(COARSE),
            nn.Conv2d(COARSE, 4 * FINE, 1), nn.PixelShuffle(2), Residual(FINE), Residual(FINE), Norm(FINE),
            nn.Conv2d(FINE, 12 * 16, 3, padding=1), nn.PixelShuffle(4),
        )  # fmt: skip
        self.register_buffer("mean", torch.zeros(CHANNELS))
        self.register_buffer("std", torch.ones(CHANNELS))

    def start_from_components(self, cells: Tensor) -> None:
        """Initialise as the best linear code of `cells` (n, 768), unit variance a channel; convolutions give zeros."""
        middle = cells.mean(0)
        covariance = torch.cov((cells - middle).T)
        values, vectors = torch.linalg.eigh(covariance)
        basis = vectors[:, -CHANNELS:].flip(1)
        scale = values[-CHANNELS:].flip(0).clamp_min(1e-8).sqrt()
        analysis, synthesis = cast(nn.Conv2d, self.analysis[1]), cast(nn.Conv2d, self.synthesis[0])
        with torch.no_grad():
            analysis.weight.copy_((basis / scale).T[:, :, None, None])
            cast(Tensor, analysis.bias).copy_(-(basis / scale).T @ middle)
            synthesis.weight.copy_((basis * scale)[:, :, None, None])
            cast(Tensor, synthesis.bias).copy_(middle)
            for half, last in ((self.encoder, -1), (self.decoder, -2)):
                conv = cast(nn.Conv2d, half.layers[last])
                conv.weight.zero_()
                cast(Tensor, conv.bias).zero_()

    def encode(self, film: Tensor) -> Tensor:
        """A film (B, 3, T, h, w) in -1..1, T = 4n+1, to normalised latents (B, 16, F, H, W) float32."""
        return self._normalised(self.code(group(film)))

    def encode_stream(self, chunks: Iterable[Tensor]) -> Tensor:
        """The same latents of a film that comes in chunks as `decode_stream` gives them: (B, 3, n, h, w), one frame
        first, then four each. Memory does not grow with the film.
        """
        memory = self.encoder.fresh_memory()
        groups = (_packed(chunk if chunk.shape[2] == 4 else chunk.expand(-1, -1, 4, -1, -1)) for chunk in chunks)
        return self._normalised(torch.cat([self.code(group, memory) for group in groups], 1))

    def code(self, groups: Tensor, memory: Memory | None = None) -> Tensor:
        """Groups (B, F, 12, h, w) to latents (B, F, 16, H, W) before normalisation, float32."""
        linear = self.analysis(groups.flatten(0, 1)).unflatten(0, groups.shape[:2])
        return linear.float() + self.encoder(groups, memory).float()

    def film(self, z: Tensor, memory: Memory | None = None) -> Tensor:
        """Latents (B, F, 16, H, W) before normalisation to groups (B, F, 12, h, w), float32, not yet clamped."""
        linear = self.synthesis(z.flatten(0, 1)).unflatten(0, z.shape[:2])
        return linear.float() + self.decoder(z, memory).float()

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents (B, 16, F, H, W) to a film (B, 3, T, h, w) in -1..1, float32."""
        return ungroup(self.film(self.denormalised(latents)), first=True).clamp(-1, 1)

    def decode_stream(self, latents: Tensor, groups_at_once: int = 1, tile: int = 0) -> Iterator[Tensor]:
        """The same film in chunks (B, 3, n, h, w): one frame for the first latent, then four for each.

        tile: pixels of a side that are decoded at once, a multiple of 8; 0 for whole frames. A tile also computes
        `reach` cells around it, so that every number is the same.
        """
        z = self.denormalised(latents)
        height, width = z.shape[-2:]
        parts, memory = tiles(height, width, tile // CELL_SIDE, self.reach), self.decoder.fresh_memory()
        for start in range(0, z.shape[1], groups_at_once):
            groups = self._tiled(z[:, start : start + groups_at_once], parts, memory)
            yield ungroup(groups, first=start == 0).clamp_(-1, 1)
            del groups  # or it would be in memory together with the next

    @property
    def reach(self) -> int:
        """The receptive field: how many cells to either side a decoded cell depends on: 10.

        A 3x3 convolution adds one position: 1 + 3 * 2 at cells, 2 * 2 + 1 at halves of them. Memory adds nothing: it is
        a block's own input of the group before, so each path passes each layer once.
        """
        cells, position = 0.0, 1.0
        for layer in self.decoder.layers:
            if isinstance(layer, nn.PixelShuffle):
                position /= layer.upscale_factor
            kernels = [conv.kernel_size[0] for conv in layer.modules() if isinstance(conv, nn.Conv2d)]
            cells += position * sum(kernel // 2 for kernel in kernels)
        return ceil(cells)

    def _tiled(self, z: Tensor, parts: list[Tile], memory: Memory) -> Tensor:
        """Latents (B, n, 16, H, W) to groups (B, n, 12, h, w), tile by tile.

        The memory is that of the whole picture, at the resolution of cells. A memory for each tile would overlap by
        `reach`: at 720p in tiles of 128 pixels 4.5 times as much, 149 MB in float32.
        """
        if len(parts) == 1:
            return self.film(z, memory)
        batch, count, _, height, width = z.shape
        groups = torch.empty(batch, count, 12, CELL_SIDE * height, CELL_SIDE * width, device=z.device)
        fresh = self.decoder.fresh_memory()  # other tiles still read the old memory
        for part in parts:
            own = [None if past is None else past[..., part.rows.seen, part.columns.seen] for past in memory]
            seen = self.film(z[..., part.rows.seen, part.columns.seen], own)
            _paste(part, CELL_SIDE, seen, groups)
            for index, past in enumerate(own):
                if past is not None:
                    whole = fresh[index]
                    fresh[index] = whole = past.new_empty(*past.shape[:3], height, width) if whole is None else whole
                    _paste(part, 1, past, whole)
        memory[:] = fresh
        return groups

    def _normalised(self, z: Tensor) -> Tensor:
        """Latents (B, F, 16, H, W) of the encoder to normalised ones (B, 16, F, H, W)."""
        return (z.transpose(1, 2) - _channels(self.mean)) / _channels(self.std)

    def denormalised(self, latents: Tensor) -> Tensor:
        """Normalised latents (B, 16, F, H, W) to the input of the decoder: (B, F, 16, H, W), in its dtype."""
        z = latents.float() * _channels(self.std) + _channels(self.mean)
        weight = cast(nn.Conv2d, self.decoder.layers[0]).weight
        return z.transpose(1, 2).to(weight.dtype)


def group(film: Tensor) -> Tensor:
    """(B, 3, 4n+1, h, w) -> (B, n+1, 12, h, w): channel = sub-frame * 3 + colour; the first frame fills its group."""
    frames = film.shape[2]
    if frames % 4 != 1:
        raise ValueError(f"a film of {frames} frames cannot be encoded: it must have 4n+1")
    return _packed(torch.cat([film[:, :, :1].expand(-1, -1, 3, -1, -1), film], 2))


def ungroup(groups: Tensor, *, first: bool) -> Tensor:
    """(B, n, 12, h, w) -> (B, 3, 4n, h, w), or 4n-3 frames if the groups begin a film."""
    film = groups.unflatten(2, (4, 3)).permute(0, 3, 1, 2, 4, 5).flatten(2, 3)
    return film[:, :, 3:] if first else film


def _packed(film: Tensor) -> Tensor:
    """(B, 3, 4n, h, w) -> (B, n, 12, h, w)."""
    return film.unflatten(2, (-1, 4)).permute(0, 2, 3, 1, 4, 5).flatten(2, 3)


def _paste(part: Tile, scale: int, seen: Tensor, whole: Tensor) -> None:
    """Copy the output of a tile (..., h, w), without its margin, to its position, at `scale` pixels a cell."""
    kept = seen[..., part.rows.inside(scale), part.columns.inside(scale)]
    whole[..., part.rows.outside(scale), part.columns.outside(scale)] = kept


def _channels(values: Tensor) -> Tensor:
    return values.float()[:, None, None, None]
