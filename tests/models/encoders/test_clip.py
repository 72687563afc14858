"""The CLIP image encoder agrees with transformers' before its last layer, and preprocesses pictures as Wan does."""

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
    preprocess,
)
from models.errors import BadInput
from models.importing.layouts import recognise

TINY = VisionCard("clip-tiny", image=42, patch=14, dim=32, ffn=64, heads=4, layers=3)


def theirs(card: VisionCard):
    """transformers' tower, with weights under which every part matters."""
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


def imported(state: dict[str, torch.Tensor], card: VisionCard = TINY) -> dict[str, torch.Tensor]:
    """The tensors of a file as a package holds them: found by the importer, those that a tower has, in its shapes."""
    (found,) = recognise({name: ("F32", tuple(tensor.shape)) for name, tensor in state.items()}, {}, lambda name: b"")
    assert found.part == "vision"
    return {
        name: torch.cat([state[key] for key in found.pieces[name].keys]).reshape(tensor.shape)
        for name, tensor in VisionTower(card).state_dict().items()
    }


def tower_of(state: dict[str, torch.Tensor], dtype: torch.dtype = torch.float32) -> VisionTower:
    return load_vision(TINY, imported(state), torch.device("cpu"), dtype)


@pytest.fixture(scope="module")
def network():
    return theirs(TINY)


@pytest.mark.parametrize("prefix", ["", "vision_model."])
@torch.no_grad()
def test_it_gives_what_transformers_gives(network, prefix):
    tower = tower_of({f"{prefix}{name.removeprefix('vision_model.')}": x for name, x in network.state_dict().items()})
    assert len(tower.transformer) == TINY.layers - 1
    seen = tower(pictures())
    expected = network(pixel_values=preprocess(pictures(), TINY.image), output_hidden_states=True)
    assert seen.shape == (2, TINY.tokens, TINY.dim)
    assert relative(seen, expected.hidden_states[-2]) < 1e-5
    assert relative(seen, expected.hidden_states[-1]) > 0.1


@torch.no_grad()
def test_original_names_give_the_same_tower(network):
    one = imported(network.state_dict())
    assert one["cls_embedding"].shape == (1, 1, TINY.dim)
    assert one["transformer.1.attn.to_qkv.weight"].shape == (3 * TINY.dim, TINY.dim)
    last = {"visual.transformer.2.norm1.weight": torch.zeros(TINY.dim), "visual.head": torch.zeros(TINY.dim, 16)}
    again = imported({f"visual.{name}": tensor for name, tensor in one.items()} | last)
    assert all(torch.equal(again[name], tensor) for name, tensor in one.items())


@torch.no_grad()
def test_bf16_inside(network):
    small = tower_of(network.state_dict(), torch.bfloat16)
    assert small(pictures()).dtype == torch.bfloat16
    assert 1e-4 < relative(small(pictures()), tower_of(network.state_dict())(pictures())) < 0.03


def test_pictures_are_stretched_as_the_original_stretches_them():
    """It takes them in -1..1, resizes, and only then brings them to 0..1; no aspect is kept, nothing is cut off."""
    x = F.interpolate(pictures() * 2 - 1, (224, 224), mode="bicubic", align_corners=False)
    expected = (x * 0.5 + 0.5 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(preprocess(pictures(), 224), expected, rtol=0, atol=5e-6)
    grey = torch.tensor(MEAN)[None, :, None, None].expand(1, 3, 480, 832)
    torch.testing.assert_close(preprocess(grey, 224), torch.zeros(1, 3, 224, 224), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("transformer.0.mlp.0.bias"), "transformer.0.mlp.0.bias is nothing, not (64,)"),
        (
            lambda s: s.update({"pos_embedding": torch.zeros(1, 5, 32)}),
            "pos_embedding is (1, 5, 32), not (1, 10, 32)",
        ),
        (lambda s: s.update({"head": torch.zeros(3)}), "head is (3,), not nothing"),
        (lambda s: s.clear(), "cls_embedding is nothing, not (1, 1, 32)"),
    ],
)
def test_a_package_without_the_whole_encoder_is_refused(network, change, says):
    tensors = imported(network.state_dict())
    change(tensors)
    with pytest.raises(BadInput, match=re.escape(f"hold no whole image encoder: {says}; import the model again")):
        load_vision(TINY, tensors, torch.device("cpu"))


def test_a_file_may_lack_the_last_layer(network):
    tensors = {name: tensor for name, tensor in network.state_dict().items() if "layers.2." not in name}
    assert tower_of(tensors)(pictures()).shape == (2, 10, 32)


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
