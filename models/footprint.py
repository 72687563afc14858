"""What a card costs at a geometry: parameters, bytes and FLOPs, by arithmetic alone. Torch-free.

L tokens, D width, F hidden width of the feed-forward, b bytes of an activation. A multiply-add counts as 2 FLOPs.
Checked against the published counts of Wan 2.1 (parameters exactly, bytes and TFLOPs to the printed digits), and
against torch's own counters for our networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.card import Card
from models.geometry import Geometry

MIB = 2**20
BYTES = {"fp32": 4, "bf16": 2, "int8": 1}  # a weight

# The program itself: Python, torch, PyAV and thread stacks (0.45 GiB resident measured with torch's CPU build, 0.55
# with its CUDA build on the CPU), or a CUDA context with its library workspaces (0.6 GiB is usual). On top, what an
# allocator rounds up and holds back: 15 % of the working memory. The first is measured, the others are judgement.
RUNTIME_BYTES = {"cpu": 570 * MIB, "cuda": 640 * MIB}
SLACK = 0.15


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes at the highest moment of a render. The network and the autoencoder work one after the other, so the larger
    of `activation_bytes` and `vae_bytes` counts.
    """

    weights_bytes: int  # network and autoencoder
    activation_bytes: int  # of one forward: residual stream, q k v, feed-forward, context, rotary table, solver history
    vae_bytes: int  # of encoding the control films or decoding the film, the films included
    reserve_bytes: int  # the program itself, and the allocator's slack

    @property
    def total_bytes(self) -> int:
        """What must be free."""
        return self.weights_bytes + max(self.activation_bytes, self.vae_bytes) + self.reserve_bytes


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
    """What the autoencoder of a card costs."""

    parameters: int
    encoder: Layers
    decoder: Layers
    encodes: int  # control films that it reads before a render
    bytes_a_parameter: int
    streamed_bytes_a_pixel: int  # working memory of decoding, for each pixel of a frame; does not grow with length
    encoded_bytes_a_pixel: int  # working memory of encoding a film at once, for each pixel of each latent frame


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
    # workspace of the convolutions.
    return Autoencoder(encoder.weights + decoder.weights + small, encoder, decoder, 2, 4, 480, 480)


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
    # Peak of decoding, published for fp32: 7.61 GiB at 480x832x81 and 17.55 GiB at 720x1280x81, two films (diffusers
    # holds two for a moment) included: 18,500 bytes a pixel remain in both.
    return Autoencoder(126_892_531, Layers(()), decoder, 0, 4, 18_500, 0)


AUTOENCODERS = {"previs": _previs(), "wan2.1": _wan21()}


def parameters(card: Card) -> int:
    """Parameters of the transformer: 1,418,996,800 for Wan 1.3B and 14,288,491,584 for 14B."""
    dim, out = card.dim, math.prod(card.patch) * card.out_channels
    embeddings = (
        _linear(card.in_channels * math.prod(card.patch), dim)
        + _linear(card.text_dim, dim)
        + _linear(dim, dim)
        + _linear(card.freq_dim, dim)
        + _linear(dim, dim)
        + _linear(dim, 6 * dim)
    )
    attention = 4 * _linear(dim, dim) + 2 * dim  # q k v o, and the RMS norms of q and k
    block = 2 * attention + 2 * dim + _linear(dim, card.ffn) + _linear(card.ffn, dim) + 6 * dim  # norm3, modulation
    return embeddings + card.layers * block + _linear(dim, out) + 2 * dim


def block_matrices(card: Card) -> int:
    """Weights of the matrices inside the blocks, the ones that quantization stores small: 8 D*D + 2 D*F a layer."""
    return card.layers * (8 * card.dim**2 + 2 * card.dim * card.ffn)


def weights_bytes(card: Card, precision: str = "int8", kept_blocks: int | None = None) -> int:
    """Bytes of the transformer's weights: block matrices as `precision`, kept blocks and all the rest as bf16.

    `kept_blocks` None asks the card. Raises ValueError for a precision that is not in BYTES.
    """
    if precision not in BYTES:
        raise ValueError(f"precision {precision!r} is not one of {', '.join(BYTES)}")
    if precision == "fp32":
        return 4 * parameters(card)
    blocks = card.layers - (len(card.kept_blocks) if kept_blocks is None else kept_blocks)
    small = block_matrices(card) * blocks // card.layers
    scales = 4 * blocks * (9 * card.dim + card.ffn) if precision == "int8" else 0  # fp32, one for each output channel
    return small * BYTES[precision] + scales + 2 * (parameters(card) - small)


def flops(card: Card, geometry: Geometry, steps: int = 1) -> int:
    """FLOPs of `steps` forwards: 283 TFLOP for one of Wan 1.3B at 480x832x81.

    Matrices on every token 2 L (6 D*D + 2 D*F), on the context 2 S (2 D*D); self-attention 4 L*L*D, cross-attention
    4 L*S*D; a layer. Embeddings and head are left out: below 0.3 % of the 1.3B.
    """
    tokens, dim, context = geometry.tokens, card.dim, card.text_len
    linear = 2 * tokens * (6 * dim**2 + 2 * dim * card.ffn) + 2 * context * 2 * dim**2
    attention = 4 * tokens**2 * dim + 4 * tokens * context * dim
    return steps * card.layers * (linear + attention)


def film_flops(card: Card, geometry: Geometry, steps: int) -> int:
    """FLOPs of a whole film: control films encoded, `steps` forwards, the film decoded."""
    coder = AUTOENCODERS[card.vae]
    cells = math.prod(geometry.latent)
    return (
        coder.encodes * cells * coder.encoder.flops_a_cell
        + flops(card, geometry, steps)
        + cells * coder.decoder.flops_a_cell
    )


def footprint(card: Card, geometry: Geometry, precision: str = "int8", device: str = "cpu") -> Footprint:
    """Bytes at the highest moment of a render of one film. `device` is "cpu" or "cuda:N": activations are fp32 there,
    bf16 here.
    """
    coder, kind = AUTOENCODERS[card.vae], device.partition(":")[0]
    weights = weights_bytes(card, precision) + coder.parameters * coder.bytes_a_parameter
    activation = activation_bytes(card, geometry, 4 if kind == "cpu" else 2)
    vae = vae_bytes(card, geometry)
    reserve = RUNTIME_BYTES[kind] + round(SLACK * max(activation, vae))
    return Footprint(weights, activation, vae, reserve)


def activation_bytes(card: Card, geometry: Geometry, b: int) -> int:
    """Bytes alive at once inside one forward, `b` bytes an activation; attention never holds an L x L table."""
    tokens, dim = geometry.tokens, card.dim
    stream = 2 * tokens * dim * 4  # the residual stream is fp32; old and new exist while one is added
    normed = tokens * dim * 4 + tokens * dim * b  # modulated norm in fp32, then as the matrices read it
    attention = 4 * tokens * dim * b + 2 * tokens * dim * 4  # q k v and the result; one fp32 pair while q or k turns
    hidden = 2 * tokens * card.ffn * b  # before and after the GELU
    rotary = tokens * card.head_dim * 4  # cosine and sine of E/2 angles, fp32
    context = card.text_len * (card.text_dim + 2 * dim) * b + 2 * card.text_len * dim * b  # its embedding, k and v
    cells = math.prod(geometry.latent)
    films = 4 * cells * (card.in_channels + 5 * card.out_channels)  # what is read; velocity, state, solver's last three
    return stream + normed + max(attention, hidden) + rotary + context + films


def vae_bytes(card: Card, geometry: Geometry) -> int:
    """Bytes alive while films are encoded or decoded: working memory, and two fp32 films of 3 channels."""
    coder = AUTOENCODERS[card.vae]
    pixels = geometry.height * geometry.width
    decoding = pixels * coder.streamed_bytes_a_pixel
    encoding = pixels * geometry.latent[0] * coder.encoded_bytes_a_pixel
    return max(decoding, encoding) + 2 * geometry.frames * pixels * 3 * 4


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs
