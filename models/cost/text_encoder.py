"""Sizes and costs of Wan's text encoder (umT5-xxl, the encoder half). Torch-free arithmetic.

24 layers of width 4096 read at most 512 tokens; 64 heads; the feed-forward is gated, 10240 wide. Its token embedding is
a lookup of a few rows and stays in the mapped file, wherever the layers are.
"""

from __future__ import annotations

from models.card import UMT5_XXL, Card

LAYERS, WIDTH, HIDDEN, HEADS = UMT5_XXL.layers, UMT5_XXL.dim, UMT5_XXL.ffn, UMT5_XXL.heads
WORDS, TOKENS = UMT5_XXL.words, UMT5_XXL.tokens
LAYER_PARAMETERS = 4 * WIDTH * WIDTH + 3 * WIDTH * HIDDEN + 32 * HEADS + 2 * WIDTH  # q k v o; gate, up, down; buckets
PARAMETERS = LAYERS * LAYER_PARAMETERS + WORDS * WIDTH + WIDTH

# One layer in int8: a byte a weight, a float32 scale for each of the 5 D + 2 F output channels: 193 MB.
LAYER_BYTES = LAYER_PARAMETERS + 4 * (5 * WIDTH + 2 * HIDDEN)
FILE_BYTES = LAYERS * LAYER_BYTES + 2 * WORDS * WIDTH  # the table in bf16: 6.7 GB


def embedding_bytes(card: Card) -> int:
    """The embeddings, on the device and in the cache, bf16: 4 MiB for each of the passes."""
    return card.passes * TOKENS * WIDTH * 2


def working_bytes(card: Card, b: int) -> int:
    """The peak of one layer, all passes at once, `b` bytes a number: six rows of D, three of F, and the scores of all
    heads in float32: 0.25 GB in bf16.
    """
    return card.passes * (TOKENS * (6 * WIDTH + 3 * HIDDEN) * b + HEADS * TOKENS * TOKENS * 4)


def staying_bytes(where: str) -> int:
    """On the device all the time: the layers, where they stay loaded for the next shot. 4.6 GB."""
    return LAYERS * LAYER_BYTES if where == "gpu" else 0


def reading_bytes(card: Card, where: str) -> int:
    """On the device while text is encoded: two slots for streamed layers, the peak of a layer, and the embeddings."""
    if where == "none":
        return 0
    slots = 2 * LAYER_BYTES if where == "streamed" else 0
    return slots + (working_bytes(card, 2) if where in ("gpu", "streamed") else 0) + embedding_bytes(card)


def host_bytes(card: Card, where: str) -> int:
    """On the host: on the CPU one layer in float32, the next as it is mapped, and the peak of a layer; streamed two
    layers in transfer. 1.4 GB and 0.4 GB.
    """
    if where == "cpu":
        return 4 * LAYER_PARAMETERS + LAYER_BYTES + working_bytes(card, 4)
    return 2 * LAYER_BYTES if where == "streamed" else 0


def text_flops(card: Card) -> int:
    """FLOPs of encoding the text of all passes at full length: 2 a weight and token, and attention."""
    return card.passes * LAYERS * (2 * TOKENS * LAYER_PARAMETERS + 4 * TOKENS * TOKENS * WIDTH)
