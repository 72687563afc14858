"""Wan's autoencoders: film <-> latents, 2.1 with cells of 4 frames x 8 x 8 pixels, 2.2 of 4 x 16 x 16.

Both stream one latent frame at a time: each causal convolution caches its last input frames, so memory does not grow
with the length of a film. The interface is that of our own (models/vae/previs.py); each half computes in the dtype of
its weights. Names of weights are the published ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from models.errors import BadInput
from models.vae.tiling import fades, spans
from models.vae.wan_blocks import Attention, CausalConv, Down, DownLevel, Memory, Norm, Residual, Up, UpLevel

FRAMES = 4  # to a latent frame, except the first
LEVELS = (1, 2, 4, 4)  # widths, the finest level first, as multiples of the encoder's or decoder's base width
IN_TIME = (False, True, True)  # which of the three downsamplings halve the frames too
OVERLAP = 64  # pixels that neighbouring tiles both decode, where they are blended
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of a weight's axes


@dataclass(frozen=True, slots=True)
class Kind:
    """The sizes of one of the two."""

    encoder_width: int
    decoder_width: int
    mean: tuple[float, ...]  # of each latent channel, as the transformers were trained to read it
    std: tuple[float, ...]
    patch: int = 1  # pixels of a side that are folded into channels before the first layer
    bridged: bool = False  # whether each level has a shortcut from its input to its output

    @property
    def channels(self) -> int:
        """Of a latent."""
        return len(self.mean)

    @property
    def cell(self) -> int:
        """Pixels of a latent cell's side."""
        return self.patch * 2 ** (len(LEVELS) - 1)


WAN21 = Kind(
    96, 96,
    (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
     0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
    (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
     3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
)  # fmt: skip
WAN22 = Kind(
    160, 256,
    (-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557,
     -0.1382, 0.0542, 0.2813, 0.0891, 0.1570, -0.0098, 0.0375, -0.1825,
     -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
     -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230,
     -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520, 0.3748,
     0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667),
    (0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013,
     0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
     0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
     0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
     0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887,
     0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744),
    patch=2, bridged=True,
)  # fmt: skip
KINDS = {"wan2.1": WAN21, "wan2.2": WAN22}  # by Card.vae


class Half(nn.Module):
    """Encoder or decoder: a convolution, layers in a row, a norm and a last convolution."""

    def __init__(self, given: int, first: int, layers: list[nn.Module], last: int, made: int) -> None:
        super().__init__()
        norm, conv = Norm(last), CausalConv(last, made, (3, 3, 3))
        self.conv1 = CausalConv(given, first, (3, 3, 3))
        self.layers = tuple(layers)  # a tuple, not a ModuleList: each is registered under its published name
        self.parts = norm, conv
        self.head = nn.ModuleDict({"0": norm, "2": conv})

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """A chunk (B, C, T, H, W) in its own dtype; `memory` is updated."""
        x = x.to(self.conv1.weight).contiguous(memory_format=torch.channels_last_3d)
        x = self.conv1(x, memory)
        for layer in self.layers:
            x = layer(x, memory)
        norm, conv = self.parts
        x = norm(x, True, conv.past(x, memory))
        return conv.over(x, memory)


class Encoder(Half):
    """Pixels to means and log variances, of which only the means are used."""

    def __init__(self, kind: Kind) -> None:
        widths = [kind.encoder_width * level for level in (LEVELS[0], *LEVELS)]
        downs: list[nn.Module] = []
        for level, (given, made) in enumerate(pairwise(widths)):
            layers: list[nn.Module] = [Residual(given, made), Residual(made, made)]
            in_time = IN_TIME[level : level + 1]
            layers += [Down(made, *in_time)] if in_time else []
            downs += [DownLevel(layers, made, growth(*in_time))] if kind.bridged else layers
        middle = [Residual(made, made), Attention(made), Residual(made, made)]
        super().__init__(3 * kind.patch**2, widths[0], [*downs, *middle], made, 2 * kind.channels)
        self.downsamples, self.middle = nn.ModuleList(downs), nn.ModuleList(middle)


class Decoder(Half):
    """Latents to pixels."""

    def __init__(self, kind: Kind) -> None:
        widths = [kind.decoder_width * level for level in (LEVELS[-1], *reversed(LEVELS))]
        first = given = widths[0]
        middle = [Residual(first, first), Attention(first), Residual(first, first)]
        ups: list[nn.Module] = []
        for level, made in enumerate(widths[1:]):
            layers: list[nn.Module] = [Residual(given, made), Residual(made, made), Residual(made, made)]
            in_time = IN_TIME[::-1][level : level + 1]
            given = made if kind.bridged else made // 2  # what the next level is given
            layers += [Up(made, given, *in_time)] if in_time else []
            ups += [UpLevel(layers, growth(*in_time))] if kind.bridged else layers
        super().__init__(kind.channels, first, [*middle, *ups], made, 3 * kind.patch**2)
        self.middle, self.upsamples = nn.ModuleList(middle), nn.ModuleList(ups)


def growth(*in_time: bool) -> tuple[int, int]:
    """Factors in time and space of a level; without arguments it changes neither."""
    return (2 if any(in_time) else 1, 2 if in_time else 1)


class WanVAE(nn.Module):
    """The autoencoder: `encode`, `decode`, and `encode_stream`, `decode_stream` for films in chunks."""

    def __init__(self, kind: Kind = WAN21) -> None:
        super().__init__()
        self.kind = kind
        self.encoder, self.decoder = Encoder(kind), Decoder(kind)
        self.conv1 = nn.Conv3d(2 * kind.channels, 2 * kind.channels, 1)  # after the encoder
        self.conv2 = nn.Conv3d(kind.channels, kind.channels, 1)  # before the decoder
        self.eval().requires_grad_(False)  # inference only

    def settle(self, device: torch.device, dtype: torch.dtype) -> WanVAE:
        """Move the weights, channels last in memory, the fastest order for convolutions on GPUs."""
        for weight in self.parameters():
            order = FORMATS.get(weight.dim(), torch.preserve_format)
            weight.data = weight.data.to(device, dtype).contiguous(memory_format=order)
        return self

    def encode(self, film: Tensor) -> Tensor:
        """A film (B, 3, T, h, w) in -1..1, T = 4n+1, to normalised latents (B, C, F, H, W) float32.

        The film may be on another device: it is moved four frames at a time. Raises ValueError off the grid.
        """
        if film.shape[2] % FRAMES != 1:
            raise ValueError(f"a film of {film.shape[2]} frames cannot be encoded: it must have 4n+1")
        return self.encode_stream(in_chunks(film))

    def encode_stream(self, chunks: Iterable[Tensor]) -> Tensor:
        """The same latents of a film that comes in chunks (B, 3, n, h, w): its first frame, then four at a time."""
        memory: Memory = {}
        means = [self._mean(chunk, memory) for chunk in chunks]
        z = torch.cat(means, 2)
        return (z - channels(self.kind.mean, z)) / channels(self.kind.std, z)

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents (B, C, F, H, W) to a film (B, 3, T, h, w) in -1..1, float32."""
        return torch.cat(list(self.decode_stream(latents)), 2)

    def decode_stream(self, latents: Tensor, tile: int = 0) -> Iterator[Tensor]:
        """The same film in chunks (B, 3, n, h, w): one frame for the first latent, then four for each.

        tile: pixels of a side that are decoded at once, and 64 more over which neighbours are blended; 0 for whole
        frames. The middle of the network has full attention, so tiles change the picture a little; where one is enough,
        nothing changes. Each tile is decoded for the whole film before the next, because the caches of its convolutions
        are half of its working memory; the film is assembled in host memory.
        """
        z = latents.float() * channels(self.kind.std, latents) + channels(self.kind.mean, latents)
        cell = self.kind.cell
        side, reach = max(1, tile // cell) if tile else 0, OVERLAP // 2 // cell
        rows, columns = (spans(length, side, reach) for length in z.shape[3:])
        if len(rows) == len(columns) == 1:
            yield from (chunk.clamp(-1, 1) for chunk in self._chunks(z))
            return
        film = torch.zeros(len(z), 3, FRAMES * z.shape[2] - FRAMES + 1, cell * z.shape[3], cell * z.shape[4])
        for row, down in zip(rows, fades(rows, cell), strict=True):
            for column, across in zip(columns, fades(columns, cell), strict=True):
                share = torch.outer(torch.tensor(down), torch.tensor(across)).to(z.device)
                part, first = film[..., row.around(cell), column.around(cell)], 0
                for chunk in self._chunks(z[..., row.seen, column.seen]):
                    part[:, :, first : first + chunk.shape[2]] += (chunk * share).cpu()
                    first += chunk.shape[2]
        yield from (chunk.clamp(-1, 1) for chunk in in_chunks(film))

    def _mean(self, chunk: Tensor, memory: Memory) -> Tensor:
        """A chunk of a film to one latent frame before normalisation, float32."""
        height, width = chunk.shape[3:]
        if height % self.kind.cell or width % self.kind.cell:
            sides = f"sides must be multiples of {self.kind.cell} pixels"
            raise ValueError(f"a film of {height}x{width} cannot be encoded: {sides}")
        found = self.conv1(self.encoder(pack(chunk, self.kind.patch), memory))
        return found[:, : self.kind.channels].float()

    def _chunks(self, z: Tensor) -> Iterator[Tensor]:
        """Latents before normalisation to frames, float32, not yet clamped."""
        memory: Memory = {}
        for latent in z.split(1, 2):
            yield unpack(self.decoder(self.conv2(latent.to(self.conv2.weight)), memory), self.kind.patch).float()


def in_chunks(film: Tensor) -> Iterator[Tensor]:
    """The chunks of a film: one frame, then four at a time."""
    yield film[:, :, :1]
    yield from (film[:, :, first : first + FRAMES] for first in range(1, film.shape[2], FRAMES))


def pack(film: Tensor, patch: int) -> Tensor:
    """(B, C, T, h, w) -> (B, C * patch^2, T, h / patch, w / patch); a patch's columns count slower than its rows."""
    patches = film.unflatten(4, (-1, patch)).unflatten(3, (-1, patch))  # B C T h q w r
    return patches.permute(0, 1, 6, 4, 2, 3, 5).flatten(1, 3)


def unpack(packed: Tensor, patch: int) -> Tensor:
    """The opposite of `pack`."""
    patches = packed.unflatten(1, (-1, patch, patch))  # B C r q T h w
    return patches.permute(0, 1, 4, 5, 3, 6, 2).flatten(5, 6).flatten(3, 4)


def channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    """One number a channel, float32 whatever the dtype of the weights."""
    return torch.tensor(values, device=like.device)[:, None, None, None]


def load_wan_vae(name: str, tensors: dict[str, Tensor], device: torch.device, dtype: torch.dtype) -> WanVAE:
    """The autoencoder of `KINDS[name]`, as wide as these weights. Raises BadInput if they are not its weights."""
    missing = f"the weights hold no whole autoencoder of {name}: import its file again"
    ends = [tensors.get(end) for end in ("encoder.conv1.weight", "decoder.head.0.gamma")]
    widths = [len(end) for end in ends if end is not None and len(end)]
    if len(widths) < 2:
        raise BadInput(missing)
    with torch.device("meta"):
        vae = WanVAE(replace(KINDS[name], encoder_width=widths[0], decoder_width=widths[1]))
    try:
        vae.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise BadInput(missing) from error
    return vae.settle(device, dtype)
