"""Parameters, FLOPs of a latent cell and working memory of the autoencoders. Torch-free arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from models.card import Card
from models.controls.inputs import encoded_films
from models.geometry import TIME_STRIDE, Geometry
from models.placement import STAGE_BYTES_A_PIXEL, STAGED_BYTES_A_PIXEL

FOUR_FRAMES = TIME_STRIDE * 3 * 4  # bytes a pixel of the frames that are transferred at once, in float32


@dataclass(frozen=True, slots=True)
class Layers:
    """Convolutions of an autoencoder by resolution: (weights of one output position, positions a latent cell)."""

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
    """The costs of a card's autoencoder. Bytes a pixel are (in bf16, in float32) and do not grow with the film's
    length.
    """

    parameters: int
    encoder: Layers
    decoder: Layers
    decoded_bytes_a_pixel: tuple[int, int]  # working memory of decoding, for each pixel of a frame or tile
    encoded_bytes_a_pixel: tuple[int, int]  # the same of encoding, for each pixel of a frame
    overlap: int  # pixels that a tile computes beyond its output, on both sides together
    remembered_bytes_a_pixel: tuple[int, int] = (0, 0)  # caches of the whole frame, kept between its tiles
    finish: Layers | None = None  # the network that restores detail from the previs (models/vae/detail.py)


def _previs() -> Autoencoder:
    """Ours (models/vae/previs.py): widths 128 at 1/4 and 192 at 1/8 of the picture, groups of 4 frames, 2-D
    convolutions, and a linear code of whole cells of 4 frames x 3 colours x 8 x 8 pixels.
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
    # Allocated at once at 1/4: input, normalised, two hidden maps and the 192-channel picture: 5 maps of at most 192
    # channels, 4 bytes, 1/16 of the pixels: 240 bytes; the 384-channel maps at 1/8 are below that. Doubled for the
    # workspace of the convolutions. A tile is computed from 10 cells of 8 pixels around it, its receptive field. The
    # memories of three blocks at 1/8, of the group before and of this one, are of the whole frame: 2 x 3 maps.
    remembered = 2 * 3 * coarse // 64
    parameters = encoder.weights + decoder.weights + small
    wide = 64  # detail: four frames of four positions each at 1/4, from 9 numbers a pixel to 4
    finish = Layers(((9 * 9 * 16 * wide + 4 * 9 * wide * wide + 9 * wide * 4 * 16, 16),))
    return Autoencoder(parameters, encoder, decoder, (480, 480), (480, 480), 160, _bytes(remembered), finish)


def _wan21() -> Autoencoder:
    """Wan 2.1's (96 x 1, 2, 4, 4): causal 3-D convolutions, a latent frame or four frames at a time.

    Each of its convolutions in time caches two input frames; those that halve time, one. In addition the peak is at a
    convolution of the full size: its input and its result, four frames each, and the normed input with its past, six:
    14 c numbers a pixel. (The decoded frames themselves are counted in `coder_bytes`.)
    """
    c, latent = 96, 16
    middle = 4 * 27 * (4 * c) ** 2 + 4 * (4 * c) ** 2
    res = [27 * (a * b + b * b) for a, b in ((4 * c, 4 * c), (2 * c, 4 * c), (c, 2 * c))]
    same = [2 * 27 * w * w for w in (4 * c, 2 * c, c)]
    encoder = Layers(  # positions: of the size after the layer
        (
            (27 * 3 * c + 2 * same[2], 256),  # full size, 4 frames
            (9 * c * c + res[2] + c * 2 * c + same[1], 64),  # 1/2
            (9 * (2 * c) ** 2, 16),  # 1/4, 4 frames
            (3 * (2 * c) ** 2 + res[1] + 2 * c * 4 * c + same[0], 8),  # 1/4, 2 frames
            (9 * (4 * c) ** 2, 2),  # 1/8, 2 frames
            (3 * (4 * c) ** 2 + 2 * same[0] + middle + 27 * 4 * c * 2 * latent + (2 * latent) ** 2, 1),
        )
    )
    decoder = Layers(
        (
            (latent**2 + 27 * latent * 4 * c + middle + 3 * res[0] + 3 * 4 * c * 8 * c, 1),  # in, middle, 1/8
            (9 * 4 * c * 2 * c + res[1] + 2 * c * 4 * c + 2 * same[0] + 3 * 4 * c * 8 * c, 8),  # 1/4, 2 frames
            (9 * 4 * c * 2 * c + 3 * same[1], 64),  # 1/2, 4 frames
            (9 * 2 * c * c + 3 * same[2] + 27 * c * 3, 256),  # full size, 4 frames
        )
    )
    decoding = 2 * (7 * c + 12 * c / 4 + 26 * c / 16 + (44 * c + latent) / 64) + 14 * c
    encoding = 2 * (3 + 4 * c + 7 * c / 4 + 14 * c / 16 + 36 * c / 64) + 2 * c / 16 + 4 * c / 64 + 14 * c
    # Its middle has full attention, so tiles are not exact: they overlap by 64 pixels, over which they are blended.
    return Autoencoder(126_892_531, encoder, decoder, _bytes(decoding), _bytes(encoding), 64)


def _wan22() -> Autoencoder:
    """Wan 2.2's (encoder 160, decoder 256 x 1, 2, 4, 4): cells of 16x16 pixels, the last 2x2 by packing 12 channels.

    As 2.1's, on a quarter of the pixels. Levels keep their input for the shortcut: encoding holds 4 frames more.
    """
    e, c, latent = 160, 256, 48

    def middle(width: int) -> int:
        return 4 * 27 * width**2 + 4 * width**2

    def res(given: int, made: int) -> int:
        return 27 * (given * made + made * made) + (given * made if given != made else 0)

    encoder = Layers(
        (
            (27 * 12 * e + 2 * res(e, e), 256),  # 1/2, 4 frames
            (9 * e * e + res(e, 2 * e) + res(2 * e, 2 * e), 64),  # 1/4
            (9 * (2 * e) ** 2, 16),  # 1/8, 4 frames
            (3 * (2 * e) ** 2 + res(2 * e, 4 * e) + res(4 * e, 4 * e), 8),  # 1/8, 2 frames
            (9 * (4 * e) ** 2, 2),  # 1/16, 2 frames
            (3 * (4 * e) ** 2 + 2 * res(4 * e, 4 * e) + middle(4 * e) + 27 * 4 * e * 2 * latent + (2 * latent) ** 2, 1),
        )
    )
    decoder = Layers(
        (
            (latent**2 + 27 * latent * 4 * c + middle(4 * c) + 3 * res(4 * c, 4 * c) + 3 * 4 * c * 8 * c, 1),  # 1/16
            (9 * (4 * c) ** 2 + 3 * res(4 * c, 4 * c) + 3 * 4 * c * 8 * c, 8),  # 1/8, 2 frames
            (9 * (4 * c) ** 2 + res(4 * c, 2 * c) + 2 * res(2 * c, 2 * c), 64),  # 1/4, 4 frames
            (9 * (2 * c) ** 2 + res(2 * c, c) + 2 * res(c, c) + 27 * c * 12, 256),  # 1/2, 4 frames
        )
    )
    # The peak is where the last level begins, with twice its width: 4 x 2c, 6 x 2c with the past, and 4 x c.
    decoding = 2 * (8 * c / 4 + 14 * c / 16 + 28 * c / 64 + (44 * c + latent) / 256) + 24 * c / 4
    encoding = 2 * ((12 + 4 * e) / 4 + 7 * e / 16 + 14 * e / 64 + 36 * e / 256) + 2 * e / 64 + 4 * e / 256 + 18 * e / 4
    return Autoencoder(704_688_668, encoder, decoder, _bytes(decoding), _bytes(encoding), 64)


def _bytes(numbers: float) -> tuple[int, int]:
    """Bytes of so many numbers in bf16 and in float32."""
    return ceil(2 * numbers), ceil(4 * numbers)


AUTOENCODERS = {"previs": _previs(), "wan2.1": _wan21(), "wan2.2": _wan22()}


def coder_bytes(card: Card, geometry: Geometry, b: int, tile: int = 0) -> int:
    """Peak bytes while films are encoded or decoded, `b` (2 or 4) bytes a number; a `tile` of pixels at once, or all.

    Frames are transferred four at a time in float32, so a whole film is never on the device; but the two that ours
    reads are rendered by the CPU, and are in its memory where it denoises too.
    """
    pixels = geometry.height * geometry.width
    encoding = films = 0
    if encoded_films(card):
        encoding = pixels * (AUTOENCODERS[card.vae].encoded_bytes_a_pixel[b // 4] + 2 * FOUR_FRAMES)
    if card.vae == "previs" and b == 4:
        encoding = max(
            encoding, 2 * STAGE_BYTES_A_PIXEL * pixels
        )  # two frames rendered at once before they are encoded
        films = geometry.frames * pixels * STAGED_BYTES_A_PIXEL
    return max(decoding_bytes(card, geometry, b, tile), encoding) + films


def decoding_bytes(card: Card, geometry: Geometry, b: int, tile: int = 0) -> int:
    """Peak bytes while a film is decoded: working memory, caches of whole frames with tiles, and eight frames."""
    coder, pixels = AUTOENCODERS[card.vae], geometry.height * geometry.width
    whole_frames = 2 * FOUR_FRAMES + (coder.remembered_bytes_a_pixel[b // 4] if tile else 0)
    return tile_pixels(card, geometry, tile) * coder.decoded_bytes_a_pixel[b // 4] + pixels * whole_frames


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
