"""LoRA: every naming scheme of one change gives the same dense weights, and whatever matches no layer is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from models.errors import BadInput
from models.importing.lora import Lora, read_lora
from models.importing.sources import open_source
from models.importing.wan_names import diffusers_name

SHAPES = {
    "patch_embedding.weight": (12, 4, 1, 2, 2),
    "patch_embedding.bias": (12,),
    "blocks.0.self_attn.q.weight": (12, 12),
    "blocks.0.self_attn.q.bias": (12,),
    "blocks.0.self_attn.norm_q.weight": (12,),
    "blocks.0.norm3.weight": (12,),
    "blocks.0.cross_attn.k_img.weight": (12, 12),
    "blocks.0.ffn.0.weight": (20, 12),
    "blocks.0.ffn.2.weight": (12, 20),
    "blocks.0.modulation": (1, 6, 12),
    "head.head.weight": (8, 12),
    "head.modulation": (1, 2, 12),
    "img_emb.emb_pos": (1, 5, 12),
}
CHANGED = ("blocks.0.self_attn.q", "blocks.0.ffn.0", "blocks.0.ffn.2", "blocks.0.cross_attn.k_img", "head.head")
RANK = 3


def pairs() -> dict[str, tuple[Tensor, Tensor]]:
    """Of each changed layer, up (out, rank) and down (rank, in)."""
    torch.manual_seed(0)
    sizes = {layer: SHAPES[f"{layer}.weight"] for layer in CHANGED}
    return {layer: (torch.randn(out, RANK), torch.randn(RANK, into)) for layer, (out, into) in sizes.items()}


def theirs(layer: str) -> str:
    return str(diffusers_name(f"{layer}.weight")).removesuffix(".weight")


DIALECTS: dict[str, tuple[Callable[[str], str], str, str]] = {
    "original": (lambda layer: f"diffusion_model.{layer}", "lora_A.weight", "lora_B.weight"),
    "bare": (lambda layer: layer, "lora_A.weight", "lora_B.weight"),
    "lightx2v": (lambda layer: f"diffusion_model.{layer}", "lora_down.weight", "lora_up.weight"),
    "kohya": (lambda layer: "lora_unet_" + layer.replace(".", "_"), "lora_down.weight", "lora_up.weight"),
    "musubi": (lambda layer: "lora_unet__" + layer.replace(".", "_"), "lora_down.weight", "lora_up.weight"),
    "diffusers": (lambda layer: f"transformer.{theirs(layer)}", "lora_A.weight", "lora_B.weight"),
    "old diffusers": (lambda layer: f"transformer.{theirs(layer)}", "lora.down.weight", "lora.up.weight"),
    "kohya of diffusers": (
        lambda layer: "lora_transformer_" + theirs(layer).replace(".", "_"), "lora_down.weight", "lora_up.weight"
    ),
    "peft": (lambda layer: f"base_model.model.{theirs(layer)}", "lora_A.default.weight", "lora_B.default.weight"),
}  # fmt: skip


def opened(folder: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Lora:
    safetensors.torch.save_file(tensors, folder / "l.safetensors", metadata)
    return read_lora(open_source(folder / "l.safetensors"), SHAPES)


def close(ours: Tensor, dense: Tensor) -> None:
    assert ours.shape == dense.shape
    assert torch.allclose(ours.double(), dense, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("dialect", "alpha"),
    [*((dialect, alpha) for dialect in DIALECTS for alpha in (None, 1.5)), ("original", 3.0), ("original", -2.0)],
)
def test_every_dialect_is_the_same_dense_change(tmp_path: Path, dialect: str, alpha: float | None) -> None:
    spelled, down, up = DIALECTS[dialect]
    tensors = {}
    for layer, (outer, inner) in pairs().items():
        tensors |= {f"{spelled(layer)}.{up}": outer, f"{spelled(layer)}.{down}": inner}
        if alpha is not None:
            tensors[f"{spelled(layer)}.alpha"] = torch.tensor(alpha)
    lora = opened(tmp_path, tensors)
    assert lora.rank == RANK and set(lora.deltas) == {f"{layer}.weight" for layer in CHANGED}
    scale = 1.0 if alpha is None else alpha / RANK
    for layer, (outer, inner) in pairs().items():
        weight = torch.randn(SHAPES[f"{layer}.weight"])
        dense = weight.double() + 0.7 * scale * (outer.double() @ inner.double())
        close(lora.merged(f"{layer}.weight", weight, 0.7), dense)
    alone = torch.randn(12)
    assert lora.merged("blocks.0.norm3.weight", alone, 0.7) is alone


def test_full_differences_are_added(tmp_path: Path) -> None:
    """As LightX2V writes them: of norms and heads, biases and modulations; next to a pair both count."""
    outer, inner = pairs()["head.head"]
    tensors = {
        "diffusion_model.blocks.0.norm3.diff": torch.randn(12),
        "diffusion_model.blocks.0.self_attn.norm_q.diff": torch.randn(12),
        "diffusion_model.blocks.0.self_attn.q.diff_b": torch.randn(12),
        "diffusion_model.blocks.0.diff_m": torch.randn(1, 6, 12),
        "diffusion_model.head.diff_m": torch.randn(2, 12),
        "diffusion_model.img_emb.emb_pos.diff": torch.randn(1, 5, 12),
        "diffusion_model.patch_embedding.diff": torch.randn(12, 4, 1, 2, 2).bfloat16(),
        "diffusion_model.patch_embedding.diff_b": torch.randn(12),
        "diffusion_model.head.head.diff": torch.randn(8, 12),
        "diffusion_model.head.head.lora_up.weight": outer,
        "diffusion_model.head.head.lora_down.weight": inner,
        "diffusion_model.head.head.alpha": torch.tensor(6.0),
    }
    lora = opened(tmp_path, tensors)
    held = {name.removeprefix("diffusion_model."): tensor.double() for name, tensor in tensors.items()}
    changes = {
        "blocks.0.norm3.weight": held["blocks.0.norm3.diff"],
        "blocks.0.self_attn.norm_q.weight": held["blocks.0.self_attn.norm_q.diff"],
        "blocks.0.self_attn.q.bias": held["blocks.0.self_attn.q.diff_b"],
        "blocks.0.modulation": held["blocks.0.diff_m"],
        "head.modulation": held["head.diff_m"].unsqueeze(0),
        "img_emb.emb_pos": held["img_emb.emb_pos.diff"],
        "patch_embedding.weight": held["patch_embedding.diff"],
        "patch_embedding.bias": held["patch_embedding.diff_b"],
        "head.head.weight": held["head.head.diff"] + 2 * outer.double() @ inner.double(),
    }
    assert set(lora.deltas) == set(changes)
    for name, change in changes.items():
        weight = torch.randn(SHAPES[name])
        close(lora.merged(name, weight, -0.5), weight.double() - 0.5 * change)


def test_a_convolution_grows_by_its_kernel_laid_flat(tmp_path: Path) -> None:
    up, down = torch.randn(12, 2, 1, 1, 1), torch.randn(2, 4, 1, 2, 2)
    lora = opened(tmp_path, {"patch_embedding.lora_up.weight": up, "patch_embedding.lora_down.weight": down})
    dense = torch.einsum("or,rcthw->octhw", up.flatten(1).double(), down.double())
    close(lora.merged("patch_embedding.weight", torch.zeros(SHAPES["patch_embedding.weight"])), dense)


def test_the_bias_of_a_pair_is_scaled_with_it(tmp_path: Path) -> None:
    outer, inner = pairs()["blocks.0.self_attn.q"]
    bias, layer = torch.randn(12), "transformer.blocks.0.attn1.to_q"
    tensors = {f"{layer}.lora_A.weight": inner, f"{layer}.lora_B.weight": outer, f"{layer}.lora_B.bias": bias}
    lora = opened(tmp_path, {**tensors, f"{layer}.alpha": torch.tensor(6.0)})
    close(lora.delta("blocks.0.self_attn.q.bias"), 2 * bias.double())


@pytest.mark.parametrize(("rslora", "root"), [(False, 3.0), (True, 3.0**0.5)])
def test_the_alpha_in_diffusers_metadata(tmp_path: Path, rslora: bool, root: float) -> None:
    outer, inner = pairs()["blocks.0.self_attn.q"]
    layer = "transformer.blocks.0.attn1.to_q"
    facts = {"transformer.r": 3, "transformer.lora_alpha": 12, "transformer.use_rslora": rslora}
    tensors = {f"{layer}.lora_A.weight": inner, f"{layer}.lora_B.weight": outer}
    lora = opened(tmp_path, tensors, {"lora_adapter_metadata": json.dumps(facts)})
    close(lora.delta("blocks.0.self_attn.q.weight"), 12 / root * outer.double() @ inner.double())
    for facts, says in (({"t.alpha_pattern": {"a": 1}}, "alpha_pattern"), ({"t.lora_alpha": "x"}, "one number")):
        with pytest.raises(BadInput, match=says):
            opened(tmp_path, tensors, {"lora_adapter_metadata": json.dumps(facts)})
    with pytest.raises(BadInput, match="cannot be read"):
        opened(tmp_path, tensors, {"lora_adapter_metadata": "[" * 100_000})


def test_narrow_weights_keep_their_type(tmp_path: Path) -> None:
    outer, inner = pairs()["blocks.0.ffn.0"]
    layer = "blocks.0.ffn.0"
    lora = opened(tmp_path, {f"{layer}.lora_B.weight": outer.half(), f"{layer}.lora_A.weight": inner.half()})
    weight = torch.randn(20, 12).bfloat16()
    dense = weight.float() + outer.half().float() @ inner.half().float()
    assert torch.equal(lora.merged("blocks.0.ffn.0.weight", weight), dense.bfloat16())


Q = "diffusion_model.blocks.0.self_attn.q"
GOOD = {f"{Q}.lora_A.weight": torch.ones(3, 12), f"{Q}.lora_B.weight": torch.ones(12, 3)}


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (
            {**GOOD, "diffusion_model.blocks.7.self_attn.q.lora_A.weight": torch.ones(3, 12)},
            "match no layer .*blocks.7",
        ),
        ({**GOOD, "lora_te_x.lora_up.weight": torch.ones(3, 12)}, "1 tensors that match no layer .*: lora_te_x"),
        ({"head.modulation": torch.ones(1, 2, 12)}, "match no layer"),
        ({f"{Q}.lora_A.weight": torch.ones(3, 12)}, "only one of the two matrices for blocks.0.self_attn.q"),
        ({**GOOD, f"{Q}.lora_A.weight": torch.ones(4, 12)}, r"by \(12, 3\) times \(4, 12\)"),
        ({**GOOD, f"{Q}.lora_A.weight": torch.ones(3, 16)}, r"\(12, 12\) by \(12, 3\) times \(3, 16\)"),
        ({f"{Q}.lora_A.weight": torch.ones(0, 12), f"{Q}.lora_B.weight": torch.ones(12, 0)}, r"times \(0, 12\)"),
        ({**GOOD, f"{Q}.lora_B.weight": torch.ones(36)}, "is not a matrix of this model"),
        ({**GOOD, f"{Q}.alpha": torch.ones(2)}, "alpha must be one number"),
        ({**GOOD, f"{Q}.alpha": torch.tensor(float("nan"))}, "must be a number from -1000000 to 1000000"),
        ({**GOOD, f"{Q}.lora_A.weight": torch.ones(3, 12, dtype=torch.int8)}, "as I8; only F64"),
        ({**GOOD, "blocks.0.self_attn.q.lora_down.weight": torch.ones(3, 12)}, "twice, by .*lora_"),
        ({f"{Q}.diff_b": torch.ones(13)}, r"has \(12,\), by .*diff_b of \(13,\)"),
        ({"blocks.0.ffn.0.diff_b": torch.ones(20)}, "blocks.0.ffn.0.bias, which this model does not have"),
        ({f"{Q}.dora_scale": torch.ones(12, 1)}, "is a DoRA"),
        ({"lora_unet_blocks_0_self_attn_q.lokr_w1": torch.ones(2, 2)}, "is a LoKr"),
        ({f"{Q}.alpha": torch.tensor(1.0)}, "holds no LoRA"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tensors_that_match_no_layer_are_named_in_one_line(
    tmp_path: Path, tensors: dict[str, Tensor], says: str
) -> None:
    with pytest.raises(BadInput, match=says) as told:
        opened(tmp_path, tensors)
    assert "\n" not in str(told.value) and len(str(told.value)) < 400 + len(str(tmp_path))


def test_changes_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    lora = opened(tmp_path, {**GOOD, f"{Q}.lora_A.weight": torch.full((3, 12), float("inf"))})
    with pytest.raises(BadInput, match=r"changes blocks\.0\.self_attn\.q\.weight by numbers that are not finite"):
        lora.merged("blocks.0.self_attn.q.weight", torch.zeros(12, 12))
