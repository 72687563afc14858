"""FLOPs of a card at a geometry, by arithmetic alone; a multiply-add counts as 2. Torch-free.

L tokens, S context tokens, D width, F hidden width of the feed-forward. Checked against what is published for Wan 2.1
(to the printed digits) and against torch's own counters for our networks.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.card import Card
from models.controls.inputs import encoded_films, reads_model_sheet
from models.cost.activations import tokens_read
from models.cost.autoencoder import AUTOENCODERS
from models.geometry import Geometry


@dataclass(frozen=True, slots=True)
class BlockWork:
    """The work of one block in one forward of one film."""

    matrix_flops: int
    attention_flops: int
    moved_bytes: int  # memory traffic of everything but matrix products


def block_work(card: Card, geometry: Geometry) -> BlockWork:
    """The work of one block.

    Matrices on every token 2 L (6 D*D + 2 D*F), on text and image tokens 2 S (2 D*D); self-attention 4 L*L*D,
    cross-attention 4 L*S*D. Norms, rotation, quantising and residuals move 40 bytes for each of L*D numbers and 3 for
    each of L*F, fused as our kernels fuse them: 316 GB in a forward of the 14B at 480p.
    """
    tokens, dim, context = tokens_read(card, geometry), card.dim, card.text_len + card.picture_tokens
    matrices = 2 * tokens * (6 * dim**2 + 2 * dim * card.ffn) + 2 * context * 2 * dim**2
    attention = 4 * tokens**2 * dim + 4 * tokens * context * dim
    return BlockWork(matrices, attention, 40 * tokens * dim + 3 * tokens * card.ffn)


def flops(card: Card, geometry: Geometry, forwards: int = 1) -> int:
    """FLOPs of `forwards` forwards: 283 TFLOP for one of Wan 1.3B at 480x832x81. VACE's blocks count too.

    Embeddings and head are left out: below 0.3 % of the 1.3B.
    """
    work, blocks = block_work(card, geometry), card.layers + len(card.vace_layers)
    return forwards * blocks * (work.matrix_flops + work.attention_flops)


def coder_flops(card: Card, geometry: Geometry) -> int:
    """FLOPs of the autoencoder for a film: the films it encodes and the film it decodes; and where detail is restored
    from the previs, decoding that too, and the network that restores it.
    """
    coder = AUTOENCODERS[card.vae]
    frames, height, width = geometry.latent
    encoded = encoded_films(card) * frames + reads_model_sheet(card)
    decoded = coder.decoder.flops_a_cell * (1 if coder.finish is None else 2)
    finished = 0 if coder.finish is None else coder.finish.flops_a_cell
    return height * width * (encoded * coder.encoder.flops_a_cell + frames * (decoded + finished))


def film_flops(card: Card, geometry: Geometry, steps: int) -> int:
    """FLOPs of a whole film: control films encoded, `steps` steps of the card's passes, the film decoded."""
    return flops(card, geometry, steps * card.passes) + coder_flops(card, geometry)
