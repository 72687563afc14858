"""The sizes of Wan's text encoder (umT5-xxl, the encoder half), and what they cost. Torch-free arithmetic.

24 layers of width 4096 read at most 512 tokens; 64 heads; the feed-forward is gated, 10240 wide. Its table of words is
a lookup of a few rows and stays in the mapped file, wherever the layers are.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.card import Card


@dataclass(frozen=True, slots=True)
class TextCard:
    """One umT5 encoder (google/umt5-xxl, Apache-2.0, and wan/modules/t5.py for the facts)."""

    name: str
    words: int  # rows of the table; a few more than the tokenizer has words
    dim: int  # D, and the width of all heads together
    ffn: int
    heads: int  # N
    layers: int
    tokens: int = 512  # the most it reads, the mark at the end among them
    eps: float = 1e-6
    kept_blocks: frozenset[int] = frozenset()  # left in bf16 by quantization: its layers are much alike


UMT5_XXL = TextCard("umt5-xxl", words=256_384, dim=4096, ffn=10_240, heads=64, layers=24)

LAYERS, WIDTH, HIDDEN, HEADS = UMT5_XXL.layers, UMT5_XXL.dim, UMT5_XXL.ffn, UMT5_XXL.heads
WORDS, TOKENS = UMT5_XXL.words, UMT5_XXL.tokens
LAYER_PARAMETERS = 4 * WIDTH * WIDTH + 3 * WIDTH * HIDDEN + 32 * HEADS + 2 * WIDTH  # q k v o; gate, up, down; buckets
PARAMETERS = LAYERS * LAYER_PARAMETERS + WORDS * WIDTH + WIDTH

# One layer in int8: a byte a weight, a float32 scale for each of the 5 D + 2 F output channels: 193 MB.
LAYER_BYTES = LAYER_PARAMETERS + 4 * (5 * WIDTH + 2 * HIDDEN)
FILE_BYTES = LAYERS * LAYER_BYTES + 2 * WORDS * WIDTH  # the table in bf16: 6.7 GB

TEXT_PLACES = ("none", "cached", "gpu", "streamed", "cpu")


def reads_text(card: Card) -> bool:
    """Whether words reach this network. Ours reads the camera, the lamps and the set in their place."""
    return card.vae != "previs"


def embedding_bytes(card: Card) -> int:
    """What comes out and is kept on the device and in the cache, bf16: 4 MiB for each of the passes."""
    return card.passes * TOKENS * WIDTH * 2


def working_bytes(card: Card, b: int) -> int:
    """Alive inside one layer, all passes at once, `b` bytes a number: six rows of D, three of F, and the scores of all
    heads in float32: 0.25 GB in bf16.
    """
    return card.passes * (TOKENS * (6 * WIDTH + 3 * HIDDEN) * b + HEADS * TOKENS * TOKENS * 4)


def staying_bytes(place: str) -> int:
    """On the device all the time: the layers, where they stay beside the network for the next shot. 4.6 GB."""
    return LAYERS * LAYER_BYTES if place == "gpu" else 0


def reading_bytes(card: Card, place: str) -> int:
    """On the device while words are read: two slots of a layer where the layers pass, and the work inside; then what
    they became.
    """
    if place == "none":
        return 0
    slots = 2 * LAYER_BYTES if place == "streamed" else 0
    return slots + (working_bytes(card, 2) if place in ("gpu", "streamed") else 0) + embedding_bytes(card)


def host_bytes(card: Card, place: str) -> int:
    """In the machine's memory: on the CPU one layer in float32, the next as it is mapped, and the work inside; streamed
    two layers on their way. 1.4 GB and 0.4 GB.
    """
    if place == "cpu":
        return 4 * LAYER_PARAMETERS + LAYER_BYTES + working_bytes(card, 4)
    return 2 * LAYER_BYTES if place == "streamed" else 0


def text_flops(card: Card) -> int:
    """FLOPs of reading the words of all passes at full length: 2 a weight and token, and attention."""
    return card.passes * LAYERS * (2 * TOKENS * LAYER_PARAMETERS + 4 * TOKENS * TOKENS * WIDTH)
