"""The text encoder of Wan: the encoder half of umT5, with the parameter names of the original Wan checkpoints.

    token ids -> token embedding -> [ self-attention with a bias for distance -> gated feed-forward ] x layers
                  -> norm -> embeddings

Every layer has its own relative position biases; scores are not divided by sqrt(E); no matrix has a bias. Facts from
wan/modules/t5.py of Wan-Video/Wan2.1 (Apache-2.0); names of other layouts are in models/encoders/names.py.

Precision: norms, the softmax and the residual stream are float32, matrices run in the dtype of their weights or in int8
(models/loading/quantize.py). That dtype must not be float16: the feed-forward exceeds its 65504 (`text_dtype`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.card import TextCard
from models.dit.linear import Linear, add_residual

# The smallest distance of each bucket of one direction: 8 exact ones, then two an octave up to 128.
# 8 + floor(log(n / 8) / log(16) * 8) in integers, so that every device agrees: ceil(8 * 2 ** (k / 2)).
NEAREST = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91)
BUCKETS = 2 * (len(NEAREST) + 1)  # of both directions


class TextEncoder(nn.Module):
    """Token ids -> embeddings. Its blocks stream like the transformer's (models/loading/streaming.py)."""

    def __init__(self, card: TextCard) -> None:
        super().__init__()
        self.card = card
        self.token_embedding = TokenEmbedding(card.words, card.dim)
        self.blocks = nn.ModuleList(TextBlock(card) for _ in range(card.layers))
        self.norm = RMSNorm(card.dim, card.eps)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """ids (B, L) int64; mask (B, L) bool, true where there is a token: the others are not attended to. -> (B, L, D)
        float32, on the device of the layers.
        """
        device = self.norm.weight.device
        x = self.token_embedding(ids).to(device, torch.float32)
        buckets = distance_buckets(ids.shape[1], device)
        mask = None if mask is None else mask.to(device)
        for block in self.blocks:
            x = block(x, buckets, mask)
        return self.norm(x)


class TextBlock(nn.Module):
    """One pre-norm layer: self-attention, then the feed-forward."""

    def __init__(self, card: TextCard) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(card.dim, card.eps), RMSNorm(card.dim, card.eps)
        self.attn = TextAttention(card)
        self.ffn = GatedFeedForward(card)
        self.pos_embedding = DistanceBias(card)

    def forward(self, x: Tensor, buckets: Tensor, mask: Tensor | None) -> Tensor:
        """The residual stream x (B, L, D) float32 after this layer; without autograd in place."""
        x = add_residual(x, self.attn(self.norm1(x), self.pos_embedding(buckets), mask), None)
        return add_residual(x, self.ffn(self.norm2(x)), None)


class TextAttention(nn.Module):
    """Self-attention over the tokens of one text."""

    def __init__(self, card: TextCard) -> None:
        super().__init__()
        self.heads = card.heads
        self.q, self.k, self.v, self.o = (Linear(card.dim, card.dim, bias=False) for _ in range(4))

    def forward(self, x: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, L, D); bias (1, N, L, L), added to the scores; mask (B, L) -> (B, L, D)."""
        rows = self.q.prepare(x)
        q, k, v = (layer(rows).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        bias = bias.to(q.dtype)
        if mask is not None:
            bias = bias.masked_fill(~mask[:, None, None], torch.finfo(q.dtype).min)
        seen = F.scaled_dot_product_attention(q, k, v, bias, scale=1.0)
        return self.o(self.o.prepare(seen.transpose(1, 2).flatten(2)))


class GatedFeedForward(nn.Module):
    """D -> F, times a tanh-GELU of another D -> F, -> D."""

    def __init__(self, card: TextCard) -> None:
        super().__init__()
        self.gate = nn.Sequential(Linear(card.dim, card.ffn, bias=False), nn.GELU("tanh"))
        self.fc1, self.fc2 = Linear(card.dim, card.ffn, bias=False), Linear(card.ffn, card.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, L, D) -> (B, L, D)."""
        rows = self.fc1.prepare(x)
        return self.fc2(self.fc2.prepare(self.gate(rows) * self.fc1(rows)))


class DistanceBias(nn.Module):
    """Relative position bias: added to a head's score for the distance and direction between two tokens."""

    def __init__(self, card: TextCard) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BUCKETS, card.heads)

    def forward(self, buckets: Tensor) -> Tensor:
        """buckets (L, L) -> (1, N, L, L)."""
        return self.embedding(buckets).permute(2, 0, 1)[None]


class RMSNorm(nn.Module):
    """x / rms(x) * weight, in float32."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, L, D) -> float32."""
        return F.rms_norm(x.float(), x.shape[-1:], self.weight.float(), self.eps)


class TokenEmbedding(nn.Embedding):
    """The token embedding. It stays on the device where it was loaded when its network moves: a text reads a few of its
    rows, and all of them are 2.1 GB in bf16.
    """

    def _apply(self, fn, recurse=True):  # called by `to`, `cuda` and `half`
        return self

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, L) on any device -> (B, L, D), where the table is."""
        return super().forward(ids.to(self.weight.device))


def distance_buckets(tokens: int, device: torch.device) -> Tensor:
    """(L, L) int64: the bucket of each key relative to each query; later keys have the upper half of the buckets."""
    position = torch.arange(tokens, device=device)
    away = position - position[:, None]
    near = torch.bucketize(away.abs(), torch.tensor(NEAREST, device=device), right=True)
    return near + (away > 0) * (BUCKETS // 2)


def text_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of this encoder where other networks use `dtype`: float32 instead of float16, which is too narrow."""
    return torch.float32 if dtype == torch.float16 else dtype
