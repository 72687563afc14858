"""The diffusion transformer, in the architecture and with the parameter names of Wan 2.1 / 2.2 text-to-video.

A latent film and a time go in, the velocity of the flow comes out:

    patches -> [ self-attention with 3-D rotary positions -> cross-attention to the context -> feed-forward ] x layers
            -> head -> velocity

Time steers every block by six vectors (shift, scale and gate of self-attention and feed-forward). Parameter names are
those of the original Wan checkpoints, so one loads strictly into this class and our small shipped model is the same
network with other sizes (Wan-Video/Wan2.1, wan/modules/model.py, Apache-2.0, for the facts).

Precision: norms, modulation, time, and rotary products are computed in float32 whatever the weights are; matrices run
in the dtype of their weights, or of an enclosing autocast. The residual stream is float32. The matrices of a block may
be exchanged for int8 ones (models/quantize.py); nothing here knows of it but `enter`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.card import Card


class Transformer(nn.Module):
    """The velocity field of a flow-matching video model of the size of `card`."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card
        dim = card.dim
        self.patch_embedding = nn.Conv3d(card.in_channels, dim, kernel_size=card.patch, stride=card.patch)
        self.text_embedding = nn.Sequential(nn.Linear(card.text_dim, dim), nn.GELU("tanh"), nn.Linear(dim, dim))
        self.time_embedding = nn.Sequential(nn.Linear(card.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(card) for _ in range(card.layers))
        self.head = Head(card)

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """The velocity at time `t`.

        x (B, in_channels, F, H, W), H and W even; t (B,) in 0..1000, fractions count; context (B, n, text_dim) with
        n <= text_len, filled up with zeros that the attention does see (Wan was trained so).
        Returns (B, out_channels, F, H, W) in float32.
        """
        grid = self._grid(x)
        tokens = self.patch_embedding(x.to(self.patch_embedding.weight.dtype)).flatten(2).transpose(1, 2)
        time, steering = self.embed_time(t)
        context = self.embed_context(context)
        rotary = rotary_table(grid, self.card.head_dim, x.device)
        stream = tokens.float()
        for block in self.blocks:
            stream = block(stream, steering, context, rotary)
        return self._unpatch(self.head(stream, time), grid)

    def embed_time(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """t (B,) -> what the head reads (B, D) and what the blocks read (B, 6, D), float32."""
        with torch.autocast(t.device.type, enabled=False):
            angles = sinusoid(t, self.card.freq_dim)
            time = _fp32_mlp(self.time_embedding, angles)
            steering = _fp32_mlp(self.time_projection, time).unflatten(1, (6, self.card.dim))
        return time, steering

    def embed_context(self, context: Tensor) -> Tensor:
        """(B, n, text_dim) -> (B, text_len, D): zero tokens fill it up, and pass through the biases too."""
        missing = self.card.text_len - context.shape[1]
        if missing < 0:
            raise ValueError(f"context has {context.shape[1]} tokens; this model reads at most {self.card.text_len}")
        context = F.pad(context, (0, 0, 0, missing))
        return self.text_embedding(enter(self.text_embedding[0], context))

    def _grid(self, x: Tensor) -> tuple[int, int, int]:
        frames, height, width = x.shape[2:]
        pt, ph, pw = self.card.patch
        if frames % pt or height % ph or width % pw:
            raise ValueError(f"latent {frames}x{height}x{width} does not divide into patches of {pt}x{ph}x{pw}")
        return frames // pt, height // ph, width // pw

    def _unpatch(self, patches: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """(B, L, pt*ph*pw*C), channels fastest -> (B, C, F, H, W)."""
        (f, h, w), (pt, ph, pw), channels = grid, self.card.patch, self.card.out_channels
        video = patches.reshape(-1, f, h, w, pt, ph, pw, channels).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return video.reshape(-1, channels, f * pt, h * ph, w * pw)

    def init_weights(self, seed: int = 0) -> None:
        """Fresh weights for training: Xavier matrices, zero biases, a silent head so that training starts at zero."""
        generator = torch.Generator().manual_seed(seed)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Conv3d):
                matrix = module.weight.data.flatten(1)
                if name.startswith(("text_embedding", "time_embedding")):
                    matrix.normal_(0.0, 0.02, generator=generator)
                else:
                    bound = math.sqrt(6.0 / sum(matrix.shape))
                    matrix.uniform_(-bound, bound, generator=generator)
                module.bias.data.zero_()  # type: ignore[union-attr]
            elif isinstance(module, RMSNorm):
                module.weight.data.fill_(1.0)
            elif isinstance(module, Block | Head):
                module.modulation.data.normal_(0.0, module.modulation.shape[-1] ** -0.5, generator=generator)
        self.head.head.weight.data.zero_()


class Block(nn.Module):
    """One layer: self-attention and feed-forward steered by time, cross-attention to the context between them."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.eps = card.eps
        self.self_attn = SelfAttention(card)
        self.norm3 = nn.LayerNorm(card.dim, eps=card.eps)
        self.cross_attn = CrossAttention(card)
        self.ffn = nn.Sequential(nn.Linear(card.dim, card.ffn), nn.GELU("tanh"), nn.Linear(card.ffn, card.dim))
        self.modulation = nn.Parameter(torch.zeros(1, 6, card.dim))

    def forward(self, x: Tensor, steering: Tensor, context: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """x (B, L, D) float32, steering (B, 6, D), context (B, text_len, D) -> (B, L, D) float32."""
        steer = (self.modulation.float() + steering).chunk(6, dim=1)
        shift_sa, scale_sa, gate_sa, shift_ffn, scale_ffn, gate_ffn = steer
        y = layer_norm(x, self.eps) * (1 + scale_sa) + shift_sa
        x = x + gate_sa * self.self_attn(y, rotary)
        x = x + self.cross_attn(layer_norm(x, self.eps, self.norm3.weight, self.norm3.bias), context)
        y = layer_norm(x, self.eps) * (1 + scale_ffn) + shift_ffn
        return x + gate_ffn * self.ffn(enter(self.ffn[0], y)).float()


class SelfAttention(nn.Module):
    """Every token looks at every token of the film; positions enter as rotations of queries and keys."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.heads = card.heads
        self.q, self.k, self.v, self.o = (nn.Linear(card.dim, card.dim) for _ in range(4))
        self.norm_q, self.norm_k = RMSNorm(card.dim, card.eps), RMSNorm(card.dim, card.eps)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """x (B, L, D) float32 -> (B, L, D) float32."""
        x = enter(self.q, x)
        q, k, v = self.norm_q(self.q(x)), self.norm_k(self.k(x)), self.v(x)
        q, k = rotate(self._split(q), *rotary), rotate(self._split(k), *rotary)
        return self.o(_attend(q, k, self._split(v))).float()

    def _split(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, N, E)."""
        return x.unflatten(2, (self.heads, -1))


class CrossAttention(SelfAttention):
    """Every token looks at the context; no positions, no mask."""

    def forward(self, x: Tensor, context: Tensor) -> Tensor:  # type: ignore[override]
        """x (B, L, D) float32, context (B, text_len, D) -> (B, L, D) float32."""
        q, context = self.norm_q(self.q(enter(self.q, x))), enter(self.k, context)
        k, v = self.norm_k(self.k(context)), self.v(context)
        return self.o(_attend(self._split(q), self._split(k), self._split(v))).float()


class Head(nn.Module):
    """Tokens -> patches of velocity."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.eps = card.eps
        self.head = nn.Linear(card.dim, math.prod(card.patch) * card.out_channels)
        self.modulation = nn.Parameter(torch.zeros(1, 2, card.dim))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, L, D), time (B, D) -> (B, L, patch * out_channels), in float32 as the last word should be."""
        shift, scale = (self.modulation.float() + time[:, None]).chunk(2, dim=1)
        with torch.autocast(x.device.type, enabled=False):
            return _fp32_linear(self.head, layer_norm(x, self.eps) * (1 + scale) + shift)


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the whole width, before it is split into heads; computed in float32."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) -> the same shape and dtype."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * self.weight.float()).to(x.dtype)


def layer_norm(x: Tensor, eps: float, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """LayerNorm over the last axis in float32, whatever x and the weights are."""
    weight, bias = (None if p is None else p.float() for p in (weight, bias))
    return F.layer_norm(x.float(), x.shape[-1:], weight, bias, eps)


def sinusoid(t: Tensor, width: int) -> Tensor:
    """t (B,) -> (B, width) float32: cosines, then sines, of t * 10000^(-i / half), in float64 where there is one."""
    wide = torch.float32 if t.device.type == "mps" else torch.float64
    half = width // 2
    rates = torch.pow(10000.0, -torch.arange(half, device=t.device, dtype=wide) / half)
    angles = t.to(wide)[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1).float()


def axes_of(head_dim: int) -> tuple[int, int, int]:
    """How a head's width is shared by time, height and width: 128 gives 44, 42, 42."""
    sixth = head_dim // 6
    return head_dim - 4 * sixth, 2 * sixth, 2 * sixth


@lru_cache(maxsize=8)
def rotary_table(grid: tuple[int, int, int], head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every token's angles, each (L, 1, E/2) float32, made in float64.

    Pair j of an axis that owns n of the head's channels turns by position * 10000^(-2j/n).
    """
    with torch.inference_mode(False):  # a table first made while rendering may next serve training
        columns = []
        for axis, (size, width) in enumerate(zip(grid, axes_of(head_dim), strict=True)):
            rates = torch.pow(10000.0, -torch.arange(0, width, 2, dtype=torch.float64) / max(width, 1))
            shape = [1, 1, 1, width // 2]
            shape[axis] = size
            angles = torch.arange(size, dtype=torch.float64)[:, None] * rates
            columns.append(angles.view(shape).expand(*grid, -1))
        table = torch.cat(columns, dim=-1).reshape(-1, 1, head_dim // 2)
        return table.cos().float().to(device), table.sin().float().to(device)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn neighbouring channels (2j, 2j+1) of x (B, L, N, E) by the table's angles; float32 inside, dtype kept."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).to(x.dtype)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, L, N, E) x (B, S, N, E) x (B, S, N, E) -> (B, L, D), full attention."""
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def enter(layer: nn.Module, x: Tensor) -> Any:
    """x as the layer reads it: in its dtype, or, for int8 layers, rounded once for all that read the same x."""
    return x.to(layer.weight.dtype) if isinstance(layer, nn.Linear) else layer.enter(x)  # type: ignore[operator]


def _fp32_linear(linear: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, linear.weight.float(), None if linear.bias is None else linear.bias.float())


def _fp32_mlp(layers: nn.Sequential, x: Tensor) -> Tensor:
    for layer in layers:
        x = _fp32_linear(layer, x) if isinstance(layer, nn.Linear) else layer(x)
    return x
