"""What the autoencoders cost: parameters, FLOPs of a latent cell, bytes at work. Torch-free arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from models.card import Card
from models.geometry import TIME_STRIDE, Geometry


@dataclass(frozen=True, slots=True)
class Layers:
    """Convolutions of an autoencoder by where they work: (weights of one output position, positions a latent cell)."""

    rows: tuple[tuple[int, int], ...]

    @property
    def weights(self) -> int:
        """Weights without biases and norms."""
        return sum(weights for weights, _ in self.rows)

    @property
    def flops_a_cell(self) -> int:
        """FLOPs for one latent cell."""
        return sum(2 * weights * positions for weights, positions in self.rows)


@dataclass(frozen=True, slots=True)
class Autoencoder:
    """What the autoencoder of a card costs. Bytes a pixel are (in bf16, in float32) and do not grow with length."""

    parameters: int
    encoder: Layers
    decoder: Layers
    encodes: int  # control films that it reads before a render
    decoded_bytes_a_pixel: tuple[int, int]  # working memory of decoding, for each pixel of a frame or tile
    encoded_bytes_a_pixel: int  # working memory of encoding a film at once, for each pixel of each latent frame
    overlap: int  # pixels that a tile computes beyond what it gives, on both sides together


def _previs() -> Autoencoder:
    """Ours (models/vae.py): widths 128 at 1/4 and 192 at 1/8 of the picture, groups of 4 frames, 2-D convolutions, and
    beside them a linear code of whole cells of 4 frames x 3 colours x 8 x 8 pixels.
    """
    fine, coarse, latent, packed, cell = 128, 192, 16, 12 * 16, 12 * 64
    residual = 2 * 9 * fine * fine
    memory = 9 * 2 * coarse * coarse + 9 * coarse * coarse
    encoder = Layers(  # 4 positions at 1/4 for one at 1/8
        (
            (9 * packed * fine + residual, 4),
            (4 * fine * coarse + 2 * memory + 9 * coarse * latent, 1),
            (cell * latent, 1),
        )
    )
    decoder = Layers(
        (
            (9 * latent * coarse + 3 * memory + coarse * 4 * fine, 1),
            (2 * residual + 9 * fine * packed, 4),
            (latent * cell, 1),
        )
    )
    # Biases and gammas: a residual or memory block has one gamma and two biases, so 3 of its width.
    small = fine + 3 * fine + coarse + 2 * 3 * coarse + coarse + latent + latent  # encoder, and its linear code
    small += coarse + 3 * 3 * coarse + 4 * fine + 2 * 3 * fine + fine + packed + cell
    # Live at once at 1/4: input, normalised, two hidden maps and the 192-channel picture: 5 maps of at most 192
    # channels, 4 bytes, 1/16 of the pixels: 240 bytes; the 384-channel maps at 1/8 are below that. Doubled for the
    # workspace of the convolutions. A tile sees 10 cells of 8 pixels around it, as far as its convolutions reach.
    return Autoencoder(encoder.weights + decoder.weights + small, encoder, decoder, 2, (480, 480), 480, 160)


def _wan21() -> Autoencoder:
    """Wan 2.1's (reference sizes 96 x 1, 2, 4, 4): causal 3-D convolutions; decoding one latent frame gives four."""
    c = 96
    res = [27 * (a * b + b * b) for a, b in ((4 * c, 4 * c), (2 * c, 4 * c), (2 * c, 2 * c), (c, c))]
    same = [2 * 27 * w * w for w in (4 * c, 4 * c, 2 * c, c)]
    decoder = Layers(
        (
            (27 * 16 * 4 * c + 2 * res[0] + 4 * (4 * c) ** 2 + 3 * res[0] + 3 * 4 * c * 8 * c, 1),  # in, middle, 1/8
            (9 * 4 * c * 2 * c + res[1] + 2 * c * 4 * c + 2 * same[1] + 3 * 4 * c * 8 * c, 8),  # 1/4, 2 frames
            (9 * 4 * c * 2 * c + 3 * res[2], 64),  # 1/2, 4 frames
            (9 * 2 * c * c + 3 * res[3] + 27 * c * 3, 256),  # full size, 4 frames
        )
    )
    # Peak of decoding, published: in float32 7.61 GiB at 480x832x81 and 17.55 at 720x1280x81, in bf16 3.95 and 9.11,
    # two films in the same precision included (two are held for a moment there): 18,500 and 9,650 bytes a pixel remain.
    # Its middle looks at whole frames, so tiles are not exact: they overlap by 64 pixels, over which they are blended.
    return Autoencoder(126_892_531, Layers(()), decoder, 0, (9_650, 18_500), 0, 64)


def _wan22() -> Autoencoder:
    """Wan 2.2's (decoder 256 x 1, 2, 4, 4; cells of 16x16 pixels, the last 2x2 by unpacking 12 channels)."""
    c, latent = 256, 48
    wide = 27 * (4 * c) ** 2
    decoder = Layers(
        (
            (27 * latent * 4 * c + 4 * wide + 4 * (4 * c) ** 2 + 6 * wide + 3 * 4 * c * 8 * c, 1),  # in, middle, 1/16
            (9 * (4 * c) ** 2 + 6 * wide + 3 * 4 * c * 8 * c, 8),  # 1/8, 2 frames
            (9 * (4 * c) ** 2 + 27 * (4 * c * 2 * c + (2 * c) ** 2) + 8 * c * c + 4 * 27 * (2 * c) ** 2, 64),  # 1/4, 4
            (9 * (2 * c) ** 2 + 27 * (2 * c * c + c * c) + 2 * c * c + 4 * 27 * c * c + 27 * c * 12, 256),  # 1/2, 4
        )
    )
    # Peak of decoding 704x1280x121, published: 9.64 GiB in bf16, 19.28 in float32, two films included.
    return Autoencoder(704_688_668, Layers(()), decoder, 0, (10_040, 20_080), 0, 64)


AUTOENCODERS = {"previs": _previs(), "wan2.1": _wan21(), "wan2.2": _wan22()}


def coder_bytes(card: Card, geometry: Geometry, b: int, tile: int = 0) -> int:
    """Bytes alive while films are encoded or decoded, `b` (2 or 4) bytes a number; a `tile` of pixels at once, or all.

    Frames leave four at a time in float32, so a film is never on the device, but for the control films that a card
    reads: two, in float32.
    """
    coder = AUTOENCODERS[card.vae]
    pixels = geometry.height * geometry.width
    leaving = 2 * TIME_STRIDE * pixels * 3 * 4
    decoding = tile_pixels(card, geometry, tile) * coder.decoded_bytes_a_pixel[b // 4] + leaving
    encoding = pixels * geometry.latent[0] * coder.encoded_bytes_a_pixel
    films = 2 * geometry.frames * pixels * 3 * 4 if coder.encodes else 0
    return max(decoding, encoding) + films


def tile_pixels(card: Card, geometry: Geometry, tile: int) -> int:
    """Pixels decoded at once: a frame, or a tile with its overlap, which never covers more than the frame."""
    if not tile:
        return geometry.height * geometry.width
    side = tile + AUTOENCODERS[card.vae].overlap
    return min(side, geometry.height) * min(side, geometry.width)


def tiling(card: Card, geometry: Geometry, tile: int) -> float:
    """How much more is decoded in tiles than in whole frames: 1.0 without them."""
    if not tile:
        return 1.0
    count = -(-geometry.height // tile) * -(-geometry.width // tile)
    return max(1.0, count * tile_pixels(card, geometry, tile) / (geometry.height * geometry.width))
