"""The picture tower gives what transformers' gives before its last layer, and reads pictures as Wan does."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F

from models.encoders.clip import (
    CLIP_VIT_H_14,
    MEAN,
    STD,
    VisionCard,
    VisionTower,
    load_vision,
    original_vision,
    prepared,
)
from models.errors import BadInput

TINY = VisionCard("clip-tiny", image=42, patch=14, dim=32, ffn=64, heads=4, layers=3)


def theirs(card: VisionCard):
    """transformers' tower, with weights that let every part be felt."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=card.dim, intermediate_size=card.ffn, num_hidden_layers=card.layers, patch_size=card.patch,
        num_attention_heads=card.heads, image_size=card.image, hidden_act="gelu",
    )  # fmt: skip
    network, generator = CLIPVisionModel(config).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name and name.endswith("weight"):
                weight.copy_(1 + 0.3 * noise)
            else:
                wide = weight.dim() > 1 and "position" not in name
                weight.copy_(noise / weight[0].numel() ** 0.5 if wide else 0.3 * noise)
    return network


def pictures(height: int = 30, width: int = 57, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


@pytest.mark.parametrize("prefix", ["", "vision_model."])
@torch.no_grad()
def test_it_gives_what_transformers_gives(prefix):
    network = theirs(TINY)
    tower = load_vision(TINY, {f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()})
    assert len(tower.transformer) == TINY.layers - 1
    seen = tower(pictures())
    expected = network(pixel_values=prepared(pictures(), TINY.image), output_hidden_states=True)
    assert seen.shape == (2, TINY.tokens, TINY.dim)
    assert relative(seen, expected.hidden_states[-2]) < 1e-5
    assert relative(seen, expected.hidden_states[-1]) > 0.1


@torch.no_grad()
def test_original_names_give_the_same_tower():
    one = load_vision(TINY, theirs(TINY).state_dict())
    original = {f"visual.{name}": tensor for name, tensor in original_vision(theirs(TINY).state_dict()).items()}
    assert original["visual.cls_embedding"].shape == (1, 1, TINY.dim)
    assert original["visual.transformer.2.attn.to_qkv.weight"].shape == (3 * TINY.dim, TINY.dim)
    beside = {"visual.head": torch.zeros(32, 16), "textual.norm.weight": torch.zeros(8), "log_scale": torch.zeros(())}
    assert torch.equal(load_vision(TINY, original | beside)(pictures()), one(pictures()))


@torch.no_grad()
def test_bf16_inside():
    small = load_vision(TINY, theirs(TINY).state_dict(), torch.bfloat16)
    assert small(pictures()).dtype == torch.bfloat16
    assert 1e-4 < relative(small(pictures()), load_vision(TINY, theirs(TINY).state_dict())(pictures())) < 0.03


def test_pictures_are_stretched_as_the_original_stretches_them():
    """It takes them in -1..1, resizes, and only then brings them to 0..1; no aspect is kept, nothing is cut off."""
    x = F.interpolate(pictures() * 2 - 1, (224, 224), mode="bicubic", align_corners=False)
    expected = (x * 0.5 + 0.5 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(prepared(pictures(), 224), expected, rtol=0, atol=5e-6)
    grey = torch.tensor(MEAN)[None, :, None, None].expand(1, 3, 480, 832)
    torch.testing.assert_close(prepared(grey, 224), torch.zeros(1, 3, 224, 224), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("encoder.layers.0.mlp.fc1.bias"), "lack transformer.0.mlp.0.bias"),
        (
            lambda s: s.pop("encoder.layers.1.self_attn.k_proj.weight"),
            "2 of the three parts of transformer.1.attn.to_qkv",
        ),
        (
            lambda s: s.update({"embeddings.position_embedding.weight": torch.zeros(5, 32)}),
            "pos_embedding in the weights",
        ),
        (lambda s: s.clear(), "lack cls_embedding"),
    ],
)
def test_weights_that_are_no_such_tower_are_refused(change, says):
    tensors = dict(theirs(TINY).state_dict())
    change(tensors)
    with pytest.raises(BadInput, match=re.escape(says)):
        load_vision(TINY, tensors)


def test_the_last_layer_may_lack_as_it_is_not_read():
    tensors = {name: tensor for name, tensor in theirs(TINY).state_dict().items() if "layers.2." not in name}
    assert load_vision(TINY, tensors)(pictures()).shape == (2, 10, 32)


def test_the_sizes_of_the_real_one():
    with torch.device("meta"):
        tower = VisionTower(CLIP_VIT_H_14)
    layer = sum(weight.numel() for weight in tower.transformer[0].parameters())
    found = sum(weight.numel() for weight in tower.parameters()) + layer + 2 * CLIP_VIT_H_14.dim
    assert found == 630_766_080 and CLIP_VIT_H_14.tokens == 257


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@torch.no_grad()
def test_the_gpu_agrees_with_the_cpu():
    torch.manual_seed(0)
    tower = VisionTower(TINY).eval()
    tower.cls_embedding.normal_()
    tower.pos_embedding.normal_()
    expected = tower(pictures())
    assert relative(tower.cuda()(pictures().cuda()).cpu(), expected) < 1e-3
