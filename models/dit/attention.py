"""Who looks at whom: every token of a film at every other, and at the context.

Queries and keys are normed over the whole width, and turned by their place in the film, before they meet. How they meet
is chosen by what the device is good at (kernels/dispatch.py): "sdpa" is torch's own attention in the dtype the network
computes in; "int8_*" are our int8 products, named by what the values are summed in.
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
    """The turns of a film's tokens: cosines and sines (P, E/2) float32 by position, and the film's grid F, H, W."""

    cos: Tensor | None
    sin: Tensor | None
    grid: list[int]


UNTURNED = Rotary(None, None, [])


def rotary_of(grid: tuple[int, int, int], head_dim: int, device: torch.device) -> Rotary:
    """The turns of a film's tokens."""
    return Rotary(*rotary_rows(grid, head_dim, device), list(grid))


class SelfAttention(nn.Module):
    """Every token looks at every token of the film; positions enter as rotations of queries and keys."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (Linear(card.dim, card.dim) for _ in range(4))
        self.norm_q, self.norm_k = (RMSNorm(card.dim, card.eps, card.heads) for _ in range(2))

    def forward(self, x: Tensor, norm: Norm, rotary: Rotary, attention: Attention) -> Tensor:
        """x (B, L, D) float32 and the norm to read it through -> (B, L, D) in the dtype of the matrices."""
        return self.o(self.o.enter(self._look(x, norm, rotary, attention)))

    def _look(self, x: Tensor, norm: Norm, rotary: Rotary, attention: Attention) -> Tensor:
        """What the tokens see, (B, L, D). A function of its own: q, k and v are gone before `o` needs memory."""
        rows = self.q.enter_norm(x, norm)
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
    """Every token looks at the context, and at pictures where the variant has them; no positions, no mask.

    Keys and values of the context are made anew at every step. Kept, they would cost 2 * 512 * D bf16 a block (420 MB
    for Wan 14B) to save 4 * 512 * D*D of 2 L (6 D*D + 2 D*F) + 4 L*L*D operations: 0.13 % at 480p.
    """

    def __init__(self, card: Card) -> None:
        super().__init__(card)
        if card.image_dim:
            self.k_img, self.v_img = (Linear(card.dim, card.dim) for _ in range(2))
            self.norm_k_img = RMSNorm(card.dim, card.eps, card.heads)

    def forward(self, rows: object, context: Tensor, pictures: Tensor | None) -> Tensor:  # type: ignore[override]
        """rows: (B, L, D) as `q` reads them; context (B, text_len, D), pictures (B, S, D) or None -> (B, L, D) in the
        dtype of the matrices.
        """
        return self.o(self.o.enter(self._read(rows, context, pictures)))

    def _read(self, rows: object, context: Tensor, pictures: Tensor | None) -> Tensor:
        """Words and pictures do not compete: each is looked at on its own, and what is seen is added."""
        read = self.k.enter(context)
        q = self.norm_q(self.q(rows))
        seen = attend(q, self.norm_k(self.k(read)), self.v(read))
        if pictures is None:
            return seen
        read = self.k_img.enter(pictures)
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

    def forward(self, x: Tensor, rotary: Rotary = UNTURNED) -> Tensor:
        """x (B, L, D) -> (B, L, N, E), turned by place; the same dtype."""
        # The operation has no derivative; its twin is plain torch and has one.
        turn = reference_attention.rmsnorm_rope if torch.is_grad_enabled() else ops.rmsnorm_rope
        return turn(x, *self.facts, *rotary)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q (B, L, N, E), k (B, S, N, E), v (B, S, D) -> (B, L, D): torch's full attention."""
    q, k, v = (part.transpose(1, 2) for part in (q, k, v.view(k.shape)))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
