"""Self-attention over the tokens of a film, and cross-attention to the context.

Queries and keys are RMS-normed over the whole width; in self-attention they are rotated by their position in the film.
The implementation is chosen for the device (kernels/dispatch.py): "sdpa" is torch's own attention in the dtype the
network computes in; "int8_*" are our int8 kernels, named by the type that values are accumulated in.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import ops
from kernels.attention import reference as reference_attention
from kernels.attention.rotary import rotary_rows
from kernels.dispatch import Attention
from models.card import Card
from models.dit.linear import Linear, Norm


class Rotary(NamedTuple):
    """Rotary position embedding: cosines and sines (P, E/2) float32 by position, and the film's grid F, H, W."""

    cos: Tensor | None
    sin: Tensor | None
    grid: list[int]


NO_ROTATION = Rotary(None, None, [])


def rotary_of(grid: tuple[int, int, int], head_dim: int, device: torch.device) -> Rotary:
    """The rotary embedding of a film's tokens."""
    return Rotary(*rotary_rows(grid, head_dim, device), list(grid))


class SelfAttention(nn.Module):
    """Full attention over the tokens of the film, with rotary positions."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (Linear(card.dim, card.dim) for _ in range(4))
        self.norm_q, self.norm_k = (RMSNorm(card.dim, card.eps, card.heads) for _ in range(2))

    def forward(self, x: Tensor, norm: Norm, rotary: Rotary, attention: Attention) -> Tensor:
        """x (B, L, D) float32 and the norm before the layer -> (B, L, D) in the dtype of the matrices."""
        return self.o(self.o.prepare(self._self_attend(x, norm, rotary, attention)))

    def _self_attend(self, x: Tensor, norm: Norm, rotary: Rotary, attention: Attention) -> Tensor:
        """Attention without the output matrix, (B, L, D): a function, so that q, k and v are freed before `o` runs."""
        rows = self.q.prepare_normed(x, norm)
        if attention == "sdpa":
            q, k, v = self.norm_q(self.q(rows), rotary), self.norm_k(self.k(rows), rotary), self.v(rows)
            del rows
            return attend(q, k, v)
        q8 = ops.quant_queries(self.q(rows), *self.norm_q.facts, *rotary)
        k8 = ops.quant_keys(self.k(rows), *self.norm_k.facts, *rotary)
        v16 = ops.scale_values(self.v(rows), self.norm_q.heads, attention == "int8_fp8_f16")
        del rows
        return ops.attn_int8(*q8, *k8, *v16, attention.removeprefix("int8_"), None, self.o.dtype)


class CrossAttention(SelfAttention):
    """Attention to the text, and to image tokens where the variant has them; no positions, no mask.

    Keys and values of the context are computed again at every step: a cache would take 2 * 512 * D bf16 a block
    (420 MB for Wan 14B) to save 4 * 512 * D*D of 2 L (6 D*D + 2 D*F) + 4 L*L*D operations: 0.13 % at 480p.
    """

    def __init__(self, card: Card) -> None:
        super().__init__(card)
        if card.image_dim:
            self.k_img, self.v_img = (Linear(card.dim, card.dim) for _ in range(2))
            self.norm_k_img = RMSNorm(card.dim, card.eps, card.heads)

    def forward(self, rows: object, context: Tensor, pictures: Tensor | None) -> Tensor:  # type: ignore[override]
        """rows: (B, L, D) prepared for `q`; context (B, text_len, D), pictures (B, S, D) or None -> (B, L, D) in the
        dtype of the matrices.
        """
        return self.o(self.o.prepare(self._cross_attend(rows, context, pictures)))

    def _cross_attend(self, rows: object, context: Tensor, pictures: Tensor | None) -> Tensor:
        """Text and image tokens each have a softmax of their own; the results are added."""
        read = self.k.prepare(context)
        q = self.norm_q(self.q(rows))
        seen = attend(q, self.norm_k(self.k(read)), self.v(read))
        if pictures is None:
            return seen
        read = self.k_img.prepare(pictures)
        return seen + attend(q, self.norm_k_img(self.k_img(read)), self.v_img(read))


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the whole width, computed in float32, before it is split into heads."""

    def __init__(self, dim: int, eps: float, heads: int) -> None:
        super().__init__()
        self.eps, self.heads = eps, heads
        self.weight = nn.Parameter(torch.ones(dim))

    @property
    def facts(self) -> tuple[Tensor, float, int]:
        """weight, eps and heads, as the operations on queries and keys take them."""
        return self.weight, self.eps, self.heads

    def forward(self, x: Tensor, rotary: Rotary = NO_ROTATION) -> Tensor:
        """x (B, L, D) -> (B, L, N, E), rotated by position; the same dtype."""
        # The kernel has no derivative; its reference implementation is plain torch and has one.
        rotate = reference_attention.rmsnorm_rope if torch.is_grad_enabled() else ops.rmsnorm_rope
        return rotate(x, *self.facts, *rotary)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q (B, L, N, E), k (B, S, N, E), v (B, S, D) -> (B, L, D): torch's full attention."""
    q, k, v = (part.transpose(1, 2) for part in (q, k, v.view(k.shape)))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
