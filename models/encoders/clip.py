"""What Wan 2.1 sees of a keyframe: the picture tower of CLIP ViT-H/14 (open-clip, XLM-R-large), as far as it is read.

    picture -> patches of 14 pixels and one token for the whole -> norm -> [ attention, feed-forward ] x 31

Image-to-video and first-last-frame models of Wan 2.1 read the 257 tokens as they leave the last layer but one: the
last layer, the norm after it and the head belong to CLIP's own purpose and are not built. Parameter names are those of
the original checkpoint under `visual.`; other names in models/encoders/names.py. Facts from wan/modules/clip.py of
Wan-Video/Wan2.1 (Apache-2.0). Norms are float32, matrices run in the dtype of their weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoders.names import original_vision_part
from models.errors import BadInput

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of the pictures CLIP learned


@dataclass(frozen=True, slots=True)
class VisionCard:
    """The sizes of a picture tower."""

    name: str
    image: int  # pixels of a side
    patch: int
    dim: int  # D
    ffn: int
    heads: int  # N
    layers: int  # in the checkpoint; the last is not read
    eps: float = 1e-5

    @property
    def tokens(self) -> int:
        """One for each patch, and one for the whole."""
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
        x = self.patch_embedding(prepared(pictures, self.card.image).to(self.patch_embedding.weight.dtype))
        whole = self.cls_embedding.expand(len(x), -1, -1)
        x = torch.cat([whole, x.flatten(2).transpose(1, 2)], 1) + self.pos_embedding
        x = self.pre_norm(x)
        for block in self.transformer:
            x = block(x)
        return x


class VisionBlock(nn.Module):
    """One layer: attention, then the feed-forward, each behind a norm and added to the stream."""

    def __init__(self, card: VisionCard) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(card), Norm(card)
        self.attn = VisionAttention(card)
        self.mlp = nn.Sequential(nn.Linear(card.dim, card.ffn), nn.GELU(), nn.Linear(card.ffn, card.dim))

    def forward(self, x: Tensor) -> Tensor:
        """The stream x (B, L, D) after this layer."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionAttention(nn.Module):
    """Every token looks at every token of its picture."""

    def __init__(self, card: VisionCard) -> None:
        super().__init__()
        self.heads = card.heads
        self.to_qkv, self.proj = nn.Linear(card.dim, 3 * card.dim), nn.Linear(card.dim, card.dim)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, L, D) -> (B, L, D)."""
        q, k, v = self.to_qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Norm(nn.LayerNorm):
    """LayerNorm in float32, whatever x and its weights are; gives the dtype of x."""

    def __init__(self, card: VisionCard) -> None:
        super().__init__(card.dim, card.eps)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, L, D) -> the same shape and dtype."""
        return F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps).to(x)


def prepared(pictures: Tensor, side: int) -> Tensor:
    """pictures (B, 3, h, w) in 0..1 -> (B, 3, side, side) float32 as CLIP reads them.

    Stretched to a square, not cropped, and bicubic without a filter before it: so Wan was trained, whatever the
    preprocessor files of other layouts say.
    """
    x = F.interpolate(pictures.float(), (side, side), mode="bicubic", align_corners=False)
    mean, std = (x.new_tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    return (x - mean) / std


def load_vision(card: VisionCard, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> VisionTower:
    """A tower from a checkpoint's tensors in any layout, in `dtype`. What a tower does not read is passed over.

    Raises BadInput when the tensors are not those of this card.
    """
    with torch.device("meta"):
        tower = VisionTower(card)
    expected = tower.state_dict()
    placed = {name: tensor.to(dtype) for name, tensor in original_vision(tensors).items() if name in expected}
    for name, want in expected.items():
        if name not in placed:
            raise BadInput(f"the weights lack {name}, which {card.name} needs: the file is not whole, copy it again")
        have = placed[name]
        if have.shape != want.shape:
            found, needed = tuple(have.shape), tuple(want.shape)
            raise BadInput(f"{name} in the weights is {found}; {card.name} needs {needed}: use the file made for Wan")
    tower.load_state_dict(placed, strict=True, assign=True)
    return tower.requires_grad_(False).eval()


def original_vision(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a picture tower under their original names and shapes, whatever layout they come in; those of
    other networks (a text tower beside it) are left out. Raises BadInput where a q, k or v lacks the other two.
    """
    found: dict[str, Tensor] = {}
    thirds: dict[str, dict[int, Tensor]] = {}
    for name, tensor in tensors.items():
        part = original_vision_part(name)
        if part is None:
            continue
        if part.third is not None:
            thirds.setdefault(part.name, {})[part.third] = tensor
        elif part.name in ("cls_embedding", "pos_embedding"):  # (D,) and (L, D) elsewhere
            found[part.name] = tensor.reshape(1, -1, tensor.shape[-1])
        else:
            found[part.name] = tensor
    for name, parts in thirds.items():
        if len(parts) != 3:
            raise BadInput(f"the weights hold {len(parts)} of the three parts of {name}: copy the file again")
        found[name] = torch.cat([parts[third] for third in range(3)])
    return found
