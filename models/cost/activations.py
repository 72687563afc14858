"""Bytes of activations inside one forward, counted along models/dit/wan.py. Torch-free arithmetic.

T tokens of all passes in a batch, D width, F hidden width, R tokens that a feed-forward computes at once. Bytes are for
each of the T*D numbers of a stream unless R*F is named. Attention never stores an L x L matrix.
"""

from __future__ import annotations

import math

from models.card import Card
from models.controls.inputs import reads_model_sheet
from models.geometry import Geometry

INT8_WORK = {
    # rows of a norm 1; q 1, k 1; v in bf16 2 and as attention reads it 2
    "int8": 7,
    # q, k, v and the result, all bf16
    "sdpa": 8,
}
FLOAT_WORK = 10  # a branch 2, rows of the norm before 2, a norm in float32 4 and in bf16 2: entering the feed-forward
SCALES = 4 / 64  # of rows, and of queries for each of their heads: a float32 for 128 numbers each


def tokens_read(card: Card, geometry: Geometry) -> int:
    """Tokens of a forward: the film's, and before them those of the model sheet that ours reads as a reference, a
    latent frame. Imported models are given none.
    """
    frames, height, width = geometry.grid
    return (frames + reads_model_sheet(card)) * height * width


def stream_bytes(card: Card, geometry: Geometry, b: int, batch: int) -> int:
    """Allocated from the first block to the last: the residual stream in float32, with VACE another one and a hint; the
    context and image tokens; and latents: the network's input, velocity, state and the solver's last three.
    """
    numbers = batch * tokens_read(card, geometry) * card.dim
    context = batch * card.text_len * (card.text_dim + 4 * card.dim) * b  # its embedding; k and v of one block
    context += batch * card.picture_tokens * (card.image_dim + 4 * card.dim) * b
    films = 4 * math.prod(geometry.latent) * (batch * card.in_channels + 5 * card.out_channels)
    return numbers * (8 + b if card.vace_layers else 4) + context + films


def work_bytes(card: Card, geometry: Geometry, precision: str, attention: str, batch: int, ffn_rows: int) -> int:
    """The peak that one block adds on a GPU, in self-attention, in cross-attention or in the feed-forward."""
    tokens = batch * tokens_read(card, geometry)
    numbers = tokens * card.dim
    rows = tokens if not ffn_rows else min(tokens, batch * ffn_rows)
    joined = 2 if rows < tokens else 0  # the parts' results, once more as one
    found = []
    if precision != "bf16":
        # the branch before 2, rows 1; hidden R*F in bf16 and in int8; the result 2
        hidden = numbers * 5 + rows * card.ffn * 3
        attending = INT8_WORK["sdpa" if attention == "sdpa" else "int8"] + SCALES
        found += [round(numbers * attending), hidden, numbers * (5 + joined)]
    if precision == "bf16" or card.kept_blocks:
        # the branch before 2, rows 2; hidden R*F before and after the GELU; the result 2
        found += [numbers * FLOAT_WORK, numbers * 6 + rows * card.ffn * 4, numbers * (6 + joined)]
    return max(found)


def cpu_work_bytes(card: Card, geometry: Geometry, b: int, ffn_rows: int) -> int:
    """The same in plain torch on a CPU, where every operation allocates its result: a second stream, the norm in
    float32 and as read, q k v and the result with a float32 pair while q or k is rotated, or the hidden state twice.
    """
    numbers = tokens_read(card, geometry) * card.dim
    rows = min(tokens_read(card, geometry), ffn_rows or tokens_read(card, geometry))
    rotating = tokens_read(card, geometry) * card.head_dim * 4
    return numbers * (4 + 4 + b) + max(numbers * (4 * b + 8), 2 * rows * card.ffn * b) + rotating
