"""Real sizes without real weights: every card, in both namings and under every prefix, is identified or asked about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.card import CARDS, PREVIS, Card
from models.cost.transformer import parameters
from models.errors import BadInput
from models.importing.identify import Answers, candidates, chosen, expert_of, hints_of, measured
from models.importing.layouts import PREFIXES, recognise
from models.importing.wan_names import diffusers_name

WAN_CARDS = [card for card in CARDS.values() if card is not PREVIS]
NONE: frozenset[str] = frozenset()


def shapes_of(card: Card) -> dict[str, tuple[int, ...]]:
    """The original's tensors of a card, written out from the published key lists."""
    d, f, cell = card.dim, card.ffn, 4

    def linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}

    def block(name: str) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {f"{name}.modulation": (1, 6, d)}
        for side in ("self_attn", "cross_attn"):
            for matrix in "qkvo":
                found |= linear(f"{name}.{side}.{matrix}", d, d)
            found |= {f"{name}.{side}.norm_q.weight": (d,), f"{name}.{side}.norm_k.weight": (d,)}
        if card.image_dim:
            found |= linear(f"{name}.cross_attn.k_img", d, d) | linear(f"{name}.cross_attn.v_img", d, d)
            found[f"{name}.cross_attn.norm_k_img.weight"] = (d,)
        found |= {f"{name}.norm3.weight": (d,), f"{name}.norm3.bias": (d,)}
        return found | linear(f"{name}.ffn.0", d, f) | linear(f"{name}.ffn.2", f, d)

    shapes: dict[str, tuple[int, ...]] = {
        "patch_embedding.weight": (d, card.in_channels, 1, 2, 2), "patch_embedding.bias": (d,),
        "head.modulation": (1, 2, d),
    }  # fmt: skip
    shapes |= linear("text_embedding.0", 4096, d) | linear("text_embedding.2", d, d)
    shapes |= linear("time_embedding.0", 256, d) | linear("time_embedding.2", d, d)
    shapes |= linear("time_projection.1", d, 6 * d) | linear("head.head", d, cell * card.out_channels)
    for layer in range(card.layers):
        shapes |= block(f"blocks.{layer}")
    if card.image_dim:
        shapes |= {f"img_emb.proj.{n}.{p}": (w,) for n, w in ((0, 1280), (4, d)) for p in ("weight", "bias")}
        shapes |= linear("img_emb.proj.1", 1280, 1280) | linear("img_emb.proj.3", 1280, d)
    if card.image_positions:
        shapes["img_emb.emb_pos"] = (1, 514, 1280)
    for number in range(len(card.vace_layers)):
        name = f"vace_blocks.{number}"
        shapes |= block(name) | linear(f"{name}.after_proj", d, d)
        shapes |= linear(f"{name}.before_proj", d, d) if number == 0 else {}
    if card.vace_layers:
        shapes |= {"vace_patch_embedding.weight": (d, 96, 1, 2, 2), "vace_patch_embedding.bias": (d,)}
    if card.camera_channels:
        shapes |= {"control_adapter.conv.weight": (d, 1536, 2, 2), "control_adapter.conv.bias": (d,)}
        for conv in ("conv1", "conv2"):
            inner = f"control_adapter.residual_blocks.0.{conv}"
            shapes |= {f"{inner}.weight": (d, d, 3, 3), f"{inner}.bias": (d,)}
    if card.reference_channels:
        shapes |= {"ref_conv.weight": (d, 16, 2, 2), "ref_conv.bias": (d,)}
    return shapes


def recognised(shapes: dict[str, tuple[int, ...]], dtype: str = "BF16", **changes):
    stored = {name: (dtype, shape) for name, shape in shapes.items()} | changes
    return recognise(stored, {}, lambda name: b"{}", "it")


@pytest.mark.parametrize("card", WAN_CARDS, ids=lambda card: card.name)
def test_every_card_is_found_by_its_shapes_or_asked_about(card):
    shapes = shapes_of(card)
    counts = {"wan2.1-t2v-1.3b": 825, "wan2.1-t2v-14b": 1095, "wan2.1-i2v-14b-480p": 1303, "wan2.1-flf2v-14b": 1304,
              "wan2.2-ti2v-5b": 825, "wan2.1-vace-1.3b": 1264, "wan2.1-vace-14b": 1331}  # fmt: skip
    assert len(shapes) == counts.get(card.name, len(shapes))
    total = sum(_size(shape) for shape in shapes.values())
    assert total == parameters(card)
    theirs = {diffusers_name(name): shape for name, shape in shapes.items()}
    alike = {
        "wan2.1-t2v-14b": "wan2.2-t2v-a14b", "wan2.2-t2v-a14b": "wan2.1-t2v-14b",
        "wan2.1-i2v-14b-480p": "wan2.1-i2v-14b-720p", "wan2.1-i2v-14b-720p": "wan2.1-i2v-14b-480p",
    }  # fmt: skip
    for names, layout in ((shapes, "original"), (theirs, "diffusers")):
        for prefix in ("", "model.diffusion_model.", "diffusion_model.", "model.", "net.", "transformer.", "module."):
            (found,) = recognised({prefix + name: shape for name, shape in names.items()})
            assert (found.part, found.layout) == ("transformer", layout) and found.shapes == shapes
            assert all(piece.keys == (prefix + _other(name, layout),) for name, piece in found.pieces.items())
    cards = candidates(measured(shapes, "it"), "it")
    assert {each.name for each in cards} == {card.name, *([alike[card.name]] if card.name in alike else [])}
    assert chosen(cards, NONE, Answers(card.name), "it") is card


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def _other(name: str, layout: str) -> str:
    return name if layout == "original" else str(diffusers_name(name))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("Wan2.2-T2V-A14B/high_noise_model/x.safetensors", {"high", "wan2.2"}),
        ("Wan2.2-T2V-A14B/low_noise_model/x.safetensors", {"low", "wan2.2"}),
        ("diffusion_models/wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors", {"low", "wan2.2"}),
        ("high_and_low/Wan2_2-T2V-A14B-LOW_fp8.safetensors", {"low", "wan2.2"}),
        ("wan2.1_i2v_480p_14B_fp16.safetensors", {"480p", "wan2.1"}),
        ("Wan2.1-I2V-14B-720P-Diffusers/transformer/diffusion_pytorch_model-00001-of-00014.safetensors",
         {"720p", "wan2.1"}),
        ("wan2.1_t2v_14b_lightx2v_4step.safetensors", {"lightx2v", "wan2.1"}),
        ("TurboDiffusion/TurboWan2.1-T2V-1.3B.safetensors", {"rcm", "wan2.1"}),
        ("slow/below/yellow_14stepson.safetensors", set()),
        ("a/b/model.safetensors", set()),
    ],
)  # fmt: skip
def test_hints_in_names_are_whole_words(path, says):
    assert hints_of(Path(path)) == says


def test_where_shapes_and_names_do_not_decide_the_option_is_named():
    t2v, i2v = ([CARDS[n] for n in names] for names in (
        ("wan2.1-t2v-14b", "wan2.2-t2v-a14b"), ("wan2.1-i2v-14b-480p", "wan2.1-i2v-14b-720p")
    ))  # fmt: skip
    with pytest.raises(BadInput, match=r"^it could be one of .*: add --card wan2.1-t2v-14b or --card wan2.2-t2v-a14b$"):
        chosen(t2v, NONE, Answers(), "it")
    with pytest.raises(BadInput, match=r"add --card wan2.1-i2v-14b-480p or --card wan2.1-i2v-14b-720p$"):
        chosen(i2v, frozenset({"wan2.1"}), Answers(), "it")
    with pytest.raises(BadInput, match=r"give it as --high it or --low it$"):
        expert_of(frozenset({"wan2.2"}), "it")
    assert chosen(t2v, frozenset({"high"}), Answers(), "it").name == "wan2.2-t2v-a14b"
    assert chosen(t2v, frozenset({"wan2.1"}), Answers(), "it").name == "wan2.1-t2v-14b"
    assert chosen(i2v, frozenset({"720p"}), Answers(), "it").name == "wan2.1-i2v-14b-720p"
    assert chosen(i2v, frozenset({"720p"}), Answers("wan2.1-i2v-14b-480p"), "it").name == "wan2.1-i2v-14b-480p"
    assert chosen(t2v, frozenset({"wan2.1", "lightx2v"}), Answers(distilled="base"), "it").steps == 50
    quick = chosen(t2v, frozenset({"low"}), Answers(distilled="lightx2v"), "it")
    assert (quick.steps, quick.guidance, quick.experts) == (4, (1.0, 1.0), 2)
    both = frozenset({"wan2.1", "lightx2v", "mean-flow"})
    assert chosen(t2v, both, Answers(), "it").steps == 2
    assert chosen(t2v, frozenset({"wan2.1", "fastwan"}), Answers(), "it").solver == "renoise"
    with pytest.raises(
        BadInput, match="--distilled is 'quickly': it must be lightx2v, mean-flow, fastwan, rcm, or base"
    ):
        chosen(t2v, frozenset({"wan2.1"}), Answers(distilled="quickly"), "it")


SMALL = {
    "head.modulation": (1, 2, 256), "patch_embedding.weight": (256, 16, 1, 2, 2), "blocks.0.ffn.0.weight": (512, 256),
}  # fmt: skip
REFUSED = [
    (SMALL | {"casual_audio_encoder.x.weight": (1,)},
     "it is Wan 2.2 S2V (it has casual_audio_encoder.x.weight), which Rushes does not support; `rushes models`"),
    (SMALL | {"face_adapter.fuser_blocks.0.k_norm.weight": (1,)}, "it is Wan 2.2 Animate"),
    (SMALL | {"audio_proj.audio_proj_glob_1.layer.bias": (1,)}, "it is HuMo"),
    (SMALL | {"blocks.0.self_attn.proj_l.weight": (1,)}, "it has sparse-linear attention (TurboDiffusion)"),
    (SMALL | {"blocks.0.to_gate_compress.weight": (1,)}, "it has video sparse attention (FastWan)"),
    (SMALL | {"blocks.0.ffn.0.weight_scale_2": ()}, "it stores blocks.0.ffn.0 as nvfp4"),
    (SMALL | {"blocks.0.ffn.0.int8_weight": ()}, "it stores blocks.0.ffn.0 as int8 in blocks (TurboDiffusion)"),
    (SMALL | {"blocks.0.ffn.0.weight._data": ()}, "it stores blocks.0.ffn.0.weight as quanto (Wan2GP)"),
    (SMALL | {"head.strange": (1,)}, "it has a tensor head.strange, which no Wan transformer has"),
    ({"a.b": (1,), "c.d": (2,)}, "it is not a Wan network: none of its 2 tensors is known (a.b, c.d ...)"),
    ({"x.lora_A.weight": (1, 1)}, "it is a LoRA, not a model"),
    ({"decoder.conv1.weight": (8, 16, 3, 3, 3)}, "it holds an autoencoder without its encoder"),
    ({"decoder.conv1.weight": (8,), "encoder.conv1.weight": (8, 4, 3, 3, 3)}, "an autoencoder that reads 4 channels"),
    ({"encoder.layers.0.self_attn.q_proj.weight": (4, 4)}, "1 of the three parts of transformer.0.attn.to_qkv.weight"),
]  # fmt: skip


@pytest.mark.parametrize(("shapes", "says"), REFUSED, ids=lambda value: value[:30] if isinstance(value, str) else "")
def test_unsupported_networks_are_named(shapes, says):
    with pytest.raises(BadInput) as error:
        recognised(shapes)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_formats_other_than_a_number_times_a_scale_are_refused():
    layer = {"blocks.0.ffn.0.weight": ("F8_E4M3", (512, 256)), "blocks.0.ffn.0.comfy_quant": ("U8", (20,))}
    rest = {"head.modulation": ("F32", (1, 2, 256))}
    for said, says in (
        ({"format": "nvfp4"}, "as 'nvfp4', which is not supported"),
        ({"format": "int8_tensorwise", "convrot": True}, "rotated (convrot)"),
        ([], "as '[]'"),
    ):
        with pytest.raises(BadInput) as error:
            recognise(layer | rest, {}, lambda name, said=said: json.dumps(said).encode(), "it")
        assert says in str(error.value)
    with pytest.raises(BadInput, match="quantization metadata that cannot be read"):
        recognise(layer | rest, {}, lambda name: b"\xff{", "it")
    with pytest.raises(BadInput, match="quantization metadata that cannot be read"):
        recognise(rest, {"_quantization_metadata": "[1]"}, lambda name: b"", "it")
    with pytest.raises(BadInput, match="in fp8 without a scale, which its other weights have"):
        recognised(SMALL, **{"blocks.0.ffn.0.weight": ("F8_E4M3", (512, 256)), "scaled_fp8": ("F8_E4M3", (2,))})
    with pytest.raises(BadInput, match="in int8 without a scale"):
        recognised(SMALL, **{"blocks.0.ffn.0.weight": ("I8", (512, 256))})
    with pytest.raises(BadInput, match="as U8, which is not supported for weights"):
        recognised(SMALL, **{"blocks.0.ffn.0.weight": ("U8", (512, 128))})


def test_one_file_may_hold_several_networks():
    vae = {"encoder.conv1.weight": (8, 3, 3, 3, 3), "decoder.conv1.weight": (8, 16, 3, 3, 3)}
    text = {"shared.weight": (800, 64), "encoder.final_layer_norm.weight": (64,)}
    whole = {f"model.diffusion_model.{name}": shape for name, shape in SMALL.items()}
    whole |= {f"first_stage_model.{name}": shape for name, shape in vae.items()}
    whole |= {f"text_encoders.umt5xxl.transformer.{name}": shape for name, shape in text.items()}
    found = {each.part: each for each in recognised(whole)}
    assert set(found) == {"transformer", "vae", "text"} and found["vae"].kind == "wan2.1"
    assert found["text"].shapes == {"token_embedding.weight": (800, 64), "norm.weight": (64,)}
    assert found["vae"].pieces["encoder.conv1.weight"].keys == ("first_stage_model.encoder.conv1.weight",)


def test_no_prefix_hides_another():
    for place, prefix in enumerate(PREFIXES):
        assert not any(prefix.startswith(before) for before in PREFIXES[:place])
