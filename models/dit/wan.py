"""The diffusion transformer of Wan 2.1 / 2.2 and its variants, with their architecture and parameter names.

A latent film and a time in, the velocity of the flow out:

    patches -> [ self-attention with 3-D rotary positions -> cross-attention to the context -> feed-forward ] x layers
            -> head -> velocity

Time modulates every block by six vectors (shift, scale and gate of self-attention and feed-forward), for a whole film
or for each of its latent frames. Extra inputs of variants are in models/dit/wan_variants.py. Parameter names are
those of the original Wan checkpoints, so one loads strictly into this class and our small shipped model is the same
network with other sizes (Wan-Video/Wan2.1, wan/modules/model.py, Apache-2.0, for the facts).

Precision: norms, modulation, time, and rotary products are computed in float32 whatever the weights are; matrices run
in the dtype of their weights, or of an enclosing autocast. The residual stream is float32. The matrices of a block may
be replaced by int8 ones (models/loading/quantize.py), which have the same methods (models/dit/linear.py).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.dispatch import Attention
from models.card import Card
from models.dit.attention import CrossAttention, RMSNorm, Rotary, SelfAttention, rotary_of
from models.dit.linear import Linear, Norm, QuantizedRows, add_residual, modulated
from models.dit.wan_variants import NO_EXTRAS, Camera, ExtraInputs, Pictures


class Transformer(nn.Module):
    """The velocity field of a flow-matching video model of the size of `card`.

    attention: implementation of self-attention, of kernels/dispatch.py. ffn_rows: tokens that a feed-forward computes
    at once, 0 for all. Both depend on the machine, not on the weights: the caller that loads the weights sets them.
    """

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card
        self.attention: Attention = "sdpa"
        self.ffn_rows = 0
        dim = card.dim
        self.patch_embedding = nn.Conv3d(card.in_channels, dim, kernel_size=card.patch, stride=card.patch)
        self.text_embedding = nn.Sequential(nn.Linear(card.text_dim, dim), nn.GELU("tanh"), nn.Linear(dim, dim))
        self.time_embedding = nn.Sequential(nn.Linear(card.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(card) for _ in range(card.layers))
        self.head = Head(card)
        if card.image_dim:
            self.img_emb = Pictures(card)
        if card.camera_channels:
            self.control_adapter = Camera(card)
        if card.reference_channels:
            self.ref_conv = nn.Conv2d(card.reference_channels, dim, kernel_size=card.patch[1:], stride=card.patch[1:])
        if card.vace_layers:
            if card.vace_layers[0] != 0:
                raise ValueError(f"hinted blocks are {card.vace_layers}: the first must be 0, where the stream begins")
            self.vace_patch_embedding = nn.Conv3d(card.vace_channels, dim, kernel_size=card.patch, stride=card.patch)
            self.vace_blocks = nn.ModuleList(HintBlock(card, first=not layer) for layer in card.vace_layers)

    def forward(self, x: Tensor, t: Tensor, context: Tensor, extras: ExtraInputs = NO_EXTRAS) -> Tensor:
        """The velocity at time `t`.

        x (B, in_channels, F, H, W), H and W even; t in 0..1000, fractions count: (B,), or (B, F) where latent frames
        differ; context (B, n, text_dim) with n <= text_len, padded with zeros that are not masked (Wan was trained
        so). Returns (B, out_channels, F, H, W) in float32.
        Raises ValueError for inputs that do not fit the card, or that it needs and `extras` lacks.
        """
        self._check(x, t, extras)
        grid = self._grid(x)
        stream = self._embed_patches(x, extras.rays)
        before = 0
        if extras.reference is not None:
            tokens = _tokens(self.ref_conv(extras.reference.to(self.ref_conv.weight.dtype)))
            stream, before = torch.cat([tokens, stream], 1), tokens.shape[1]
        time, modulation = self.embed_time(t)
        rotary = rotary_of((grid[0] + bool(before), *grid[1:]), self.card.head_dim, x.device)
        pictures = None if extras.pictures is None else self.img_emb(extras.pictures)
        given = BlockInputs(modulation, self.embed_context(context), rotary, self.attention, self.ffn_rows, pictures)
        stream = self._run_blocks(stream, given, extras)
        return self._unpatch(self.head(stream, time)[:, before:], grid)

    def _run_blocks(self, stream: Tensor, given: BlockInputs, extras: ExtraInputs) -> Tensor:
        """The residual stream (B, L, D) after all blocks. Each hint is computed just before its block: one is alive."""
        scale = None if extras.hint_scale == 1 else stream.new_full((1, 1, self.card.dim), extras.hint_scale)
        hint_stream = None
        if extras.hints is not None:
            hint_stream = _embedded(self.vace_patch_embedding, extras.hints)
        for layer, block in enumerate(self.blocks):
            hint = None
            if hint_stream is not None and layer in self.card.vace_layers:
                hints = self.vace_blocks[self.card.vace_layers.index(layer)]
                hint_stream, hint = hints(hint_stream, stream, given)
            stream = block(stream, given)
            if hint is not None:
                stream = add_residual(stream, hint, scale)
        return stream

    def _embed_patches(self, x: Tensor, rays: Tensor | None) -> Tensor:
        """(B, C, F, H, W) -> (B, L, D) float32, the start of the residual stream."""
        patches = _embedded(self.patch_embedding, x)
        return patches if rays is None else patches + _tokens(self.control_adapter(rays))

    def embed_time(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """t (B,) or (B, F) -> the time embedding of the head (G, D) and of the blocks (G, 6, D), float32; G is B or
        B * F: the tokens of a latent frame are consecutive, and share a row.
        """
        with torch.autocast(t.device.type, enabled=False):
            angles = sinusoid(t.flatten(), self.card.freq_dim)
            time = _fp32_mlp(self.time_embedding, angles)
            modulation = _fp32_mlp(self.time_projection, time).unflatten(1, (6, self.card.dim))
        return time, modulation

    def embed_context(self, context: Tensor) -> Tensor:
        """(B, n, text_dim) -> (B, text_len, D): zero tokens pad it, and pass through the biases too."""
        missing = self.card.text_len - context.shape[1]
        if missing < 0:
            raise ValueError(f"context has {context.shape[1]} tokens; this model reads at most {self.card.text_len}")
        context = F.pad(context, (0, 0, 0, missing))
        return self.text_embedding(context.to(self.patch_embedding.weight.dtype))

    def _check(self, x: Tensor, t: Tensor, extras: ExtraInputs) -> None:
        card = self.card
        for name, given, wanted in (
            ("pictures", extras.pictures, card.image_dim), ("hints", extras.hints, card.vace_channels),
            ("rays", extras.rays, card.camera_channels), ("reference", extras.reference, card.reference_channels),
        ):  # fmt: skip
            if given is not None and not wanted:
                raise ValueError(f"{name} were given to {card.name}, which does not read them")
            if given is None and wanted and name in ("pictures", "hints"):
                raise ValueError(f"{card.name} reads {name}, and none were given")
        if t.dim() == 2 and (t.shape[1] != x.shape[2] or extras.reference is not None):
            raise ValueError(f"{t.shape[1]} times were given for {x.shape[2]} latent frames")

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
        """Fresh weights for training: Xavier matrices, zero biases, a zero head so that training starts at zero."""
        generator = torch.Generator().manual_seed(seed)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
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


class BlockInputs(NamedTuple):
    """What every block of one forward reads besides the residual stream."""

    modulation: Tensor  # (G, 6, D) float32, of `embed_time`
    context: Tensor  # (B, text_len, D)
    rotary: Rotary
    attention: Attention
    ffn_rows: int
    pictures: Tensor | None = None  # (B, S, D)


class Block(nn.Module):
    """One layer: self-attention, cross-attention to the context, feed-forward; the first and last modulated by time."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.eps = card.eps
        self.self_attn = SelfAttention(card)
        self.norm3 = nn.LayerNorm(card.dim, eps=card.eps)
        self.cross_attn = CrossAttention(card)
        self.ffn = FeedForward(Linear(card.dim, card.ffn), nn.GELU("tanh"), Linear(card.ffn, card.dim))
        self.modulation = nn.Parameter(torch.zeros(1, 6, card.dim))

    def forward(self, x: Tensor, given: BlockInputs) -> Tensor:
        """The residual stream x (B, L, D) float32 after this layer; without autograd in place."""
        parts = (self.modulation.float() + given.modulation).chunk(6, dim=1)
        shift_sa, scale_sa, gate_sa, shift_ffn, scale_ffn, gate_ffn = parts
        before_sa, before_ffn = Norm(1 + scale_sa, shift_sa, self.eps), Norm(1 + scale_ffn, shift_ffn, self.eps)
        # Branches are not bound to names, so that each is freed before the next one needs memory.
        x, rows = self.cross_attn.q.add_residual(
            x, self.self_attn(x, before_sa, given.rotary, given.attention), gate_sa, self._norm3()
        )
        x, rows = self.ffn.first.add_residual(x, self.cross_attn(rows, given.context, given.pictures), None, before_ffn)
        return add_residual(x, self.ffn(rows, given.ffn_rows), gate_ffn)

    def _norm3(self) -> Norm:
        """The norm before the cross-attention, which has weights instead of modulation by time."""
        gain, shift = (part.float().view(1, 1, -1) for part in (self.norm3.weight, self.norm3.bias))
        return Norm(gain, shift, self.eps)


class HintBlock(Block):
    """A VACE block: a layer of the hint stream, whose output is added to a block of the film's stream."""

    def __init__(self, card: Card, first: bool) -> None:
        super().__init__(card)
        self.before_proj = nn.Linear(card.dim, card.dim) if first else None
        self.after_proj = nn.Linear(card.dim, card.dim)

    def forward(self, hint_stream: Tensor, stream: Tensor, given: BlockInputs) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """The hint stream (B, L, D) float32 after this layer, and the hint to add to the film's stream. The first layer
        adds the film's stream (B, L, D) to it, as it is before the first block.
        """
        if self.before_proj is not None:
            hint_stream = self.before_proj(hint_stream.to(self.before_proj.weight.dtype)).float() + stream
        hint_stream = super().forward(hint_stream, given)
        return hint_stream, self.after_proj(hint_stream.to(self.after_proj.weight.dtype))


class FeedForward(nn.Sequential):
    """D -> F -> D with a tanh-GELU between, per token."""

    @property
    def first(self) -> Linear:
        """The first matrix."""
        return self[0]  # type: ignore[return-value]

    def forward(self, rows: Tensor | QuantizedRows, at_once: int = 0) -> Tensor:
        """rows (B, L, D), prepared for `first` -> (B, L, D). `at_once`: tokens computed at a time, 0 for all. Same bits
        in int8; float matrices may round differently for fewer rows.
        """
        if not at_once:
            return super().forward(rows)
        return torch.cat([super(FeedForward, self).forward(part) for part in rows.split(at_once, 1)], 1)


class Head(nn.Module):
    """Tokens -> patches of velocity."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.eps = card.eps
        self.head = nn.Linear(card.dim, math.prod(card.patch) * card.out_channels)
        self.modulation = nn.Parameter(torch.zeros(1, 2, card.dim))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, L, D), time (G, D) -> (B, L, patch * out_channels), in float32."""
        shift, scale = (self.modulation.float() + time[:, None]).chunk(2, dim=1)
        with torch.autocast(x.device.type, enabled=False):
            return _fp32_linear(self.head, modulated(x, Norm(1 + scale, shift, self.eps)))


def sinusoid(t: Tensor, width: int) -> Tensor:
    """t (B,) -> (B, width) float32: cosines, then sines, of t * 10000^(-i / half), in float64 where there is one."""
    wide = torch.float32 if t.device.type == "mps" else torch.float64
    half = width // 2
    rates = torch.pow(10000.0, -torch.arange(half, device=t.device, dtype=wide) / half)
    angles = t.to(wide)[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1).float()


def _embedded(embedding: nn.Conv3d, x: Tensor) -> Tensor:
    """(B, C, F, H, W) -> (B, L, D) float32. Patches do not overlap, so the convolution is one matrix product, which is
    fast on every device; 3-D convolutions are slow on most.
    """
    patches = x.to(embedding.weight.dtype)
    for axis, size in zip((2, 4, 6), embedding.kernel_size, strict=True):
        patches = patches.unflatten(axis, (-1, size))
    patches = patches.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)
    return F.linear(patches, embedding.weight.flatten(1), embedding.bias).float()


def _tokens(patches: Tensor) -> Tensor:
    """(B, D, F, H, W) or (B, D, H, W) -> (B, L, D) float32."""
    return patches.flatten(2).transpose(1, 2).contiguous().float()


def _fp32_linear(linear: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, linear.weight.float(), None if linear.bias is None else linear.bias.float())


def _fp32_mlp(layers: nn.Sequential, x: Tensor) -> Tensor:
    for layer in layers:
        x = _fp32_linear(layer, x) if isinstance(layer, nn.Linear) else layer(x)
    return x
