"""The image encoder of Wan 2.1: the vision tower of CLIP ViT-H/14 (open-clip, XLM-R-large), without its last layer.

    picture -> patches of 14 pixels and one class token -> norm -> [ self-attention, feed-forward ] x 31

Image-to-video and first-last-frame models of Wan 2.1 read the 257 tokens that leave the last layer but one: the last
layer, the norm after it and the head serve CLIP alone and are not built. Parameter names are those of the original
checkpoint under `visual.`; names of other layouts are in models/encoders/names.py. Facts from wan/modules/clip.py of
Wan-Video/Wan2.1 (Apache-2.0). Norms are float32, matrices run in the dtype of their weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import BadInput

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training pictures


@dataclass(frozen=True, slots=True)
class VisionCard:
    """The sizes of a vision tower."""

    name: str
    image: int  # pixels of a side
    patch: int
    dim: int  # D
    ffn: int
    heads: int  # N
    layers: int  # in the checkpoint; the last is not used
    eps: float = 1e-5

    @property
    def tokens(self) -> int:
        """One for each patch, and the class token."""
        return (self.image // self.patch) ** 2 + 1


CLIP_VIT_H_14 = VisionCard("clip-vit-h-14", image=224, patch=14, dim=1280, ffn=5120, heads=16, layers=32)


class VisionTower(nn.Module):
    """Pictures -> tokens."""

    def __init__(self, card: VisionCard) -> None:
        super().__init__()
        self.card = card
        self.patch_embedding = nn.Conv2d(3, card.dim, card.patch, card.patch, bias=False)
        self.cls_embedding = nn.Parameter(torch.zeros(1, 1, card.dim))
        self.pos_embedding = nn.Parameter(torch.zeros(1, card.tokens, card.dim))
        self.pre_norm = Norm(card)
        self.transformer = nn.ModuleList(VisionBlock(card) for _ in range(card.layers - 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures (B, 3, h, w) in 0..1, any size -> (B, tokens, D) in the dtype of the weights."""
        x = self.patch_embedding(preprocess(pictures, self.card.image).to(self.patch_embedding.weight.dtype))
        cls_token = self.cls_embedding.expand(len(x), -1, -1)
        x = torch.cat([cls_token, x.flatten(2).transpose(1, 2)], 1) + self.pos_embedding
        x = self.pre_norm(x)
        for block in self.transformer:
            x = block(x)
        return x


class VisionBlock(nn.Module):
    """One pre-norm layer: self-attention, then the feed-forward."""

    def __init__(self, card: VisionCard) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(card), Norm(card)
        self.attn = VisionAttention(card)
        self.mlp = nn.Sequential(nn.Linear(card.dim, card.ffn), nn.GELU(), nn.Linear(card.ffn, card.dim))

    def forward(self, x: Tensor) -> Tensor:
        """The residual stream x (B, L, D) after this layer."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionAttention(nn.Module):
    """Self-attention over the tokens of one picture."""

    def __init__(self, card: VisionCard) -> None:
        super().__init__()
        self.heads = card.heads
        self.to_qkv, self.proj = nn.Linear(card.dim, 3 * card.dim), nn.Linear(card.dim, card.dim)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, L, D) -> (B, L, D)."""
        q, k, v = self.to_qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Norm(nn.LayerNorm):
    """LayerNorm in float32, whatever x and its weights are; returns the dtype of x."""

    def __init__(self, card: VisionCard) -> None:
        super().__init__(card.dim, card.eps)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, L, D) -> the same shape and dtype."""
        return F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps).to(x)


def preprocess(pictures: Tensor, side: int) -> Tensor:
    """pictures (B, 3, h, w) in 0..1 -> (B, 3, side, side) float32, normalised for CLIP.

    Stretched to a square, not cropped, and bicubic without antialiasing: Wan was trained so, whatever the preprocessor
    files of other layouts say.
    """
    x = F.interpolate(pictures.float(), (side, side), mode="bicubic", align_corners=False)
    mean, std = (x.new_tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    return (x - mean) / std


def load_vision(
    card: VisionCard, tensors: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype = torch.float32
) -> VisionTower:
    """The encoder with the tensors of a package, in `dtype` on a device. Raises BadInput naming the first tensor that
    is missing, of another shape, or not one of this card's.
    """
    with torch.device("meta"):
        tower = VisionTower(card)
    expected = {name: tensor.shape for name, tensor in tower.state_dict().items()}
    given = {name: tensor.shape for name, tensor in tensors.items()}
    wrong = min((name for name in expected.keys() | given if expected.get(name) != given.get(name)), default=None)
    if wrong is not None:
        found, needed = (tuple(shapes[wrong]) if wrong in shapes else "nothing" for shapes in (given, expected))
        raise BadInput(
            f"the weights hold no whole image encoder: {wrong} is {found}, not {needed}; import the model again"
        )
    tower.load_state_dict(tensors, assign=True)
    return tower.to(device, dtype).requires_grad_(False).eval()
