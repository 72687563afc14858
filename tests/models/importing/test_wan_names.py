"""Names of both projects against diffusers' own networks, for every variant that it has."""

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from models.importing.wan_names import diffusers_coder_name, diffusers_name, original_coder_name, original_name  # noqa: E402

SMALL = {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 16, "text_dim": 16, "ffn_dim": 32}
PICTURES = {"image_dim": 20, "added_kv_proj_dim": 24}


def _transformer(kind: str):
    from diffusers import WanTransformer3DModel, WanVACETransformer3DModel

    with torch.device("meta"):
        if kind == "vace":
            return WanVACETransformer3DModel(**SMALL, num_layers=2, vace_layers=[0, 1], vace_in_channels=96)
        extra = {"t2v": {}, "i2v": PICTURES, "flf2v": {**PICTURES, "pos_embed_seq_len": 514}}[kind]
        return WanTransformer3DModel(**SMALL, num_layers=2, **extra)


@pytest.mark.parametrize("kind", ["t2v", "i2v", "flf2v", "vace"])
def test_every_name_of_a_transformer_is_renamed_both_ways(kind):
    names = list(_transformer(kind).state_dict())
    originals = [original_name(name) for name in names]
    assert None not in originals and len(set(originals)) == len(names)
    assert [diffusers_name(name) for name in originals] == names
    assert {"head.modulation", "head.head.bias", "blocks.1.norm3.weight", "blocks.0.modulation"} <= set(originals)
    if kind == "vace":
        assert {"vace_blocks.0.before_proj.weight", "vace_blocks.1.after_proj.bias"} <= set(originals)
    if kind == "flf2v":
        assert {"img_emb.emb_pos", "img_emb.proj.3.weight", "blocks.0.cross_attn.norm_k_img.weight"} <= set(originals)


@pytest.mark.parametrize("kind", ["wan2.1", "wan2.2"])
def test_every_name_of_an_autoencoder_is_renamed_both_ways(kind):
    wide = {"is_residual": True, "in_channels": 12, "out_channels": 12, "patch_size": 2, "z_dim": 48}
    wide |= {"latents_mean": [0.0] * 48, "latents_std": [1.0] * 48, "scale_factor_spatial": 16}
    with torch.device("meta"):
        names = list(diffusers.AutoencoderKLWan(base_dim=4, **(wide if kind == "wan2.2" else {})).state_dict())
    originals = [original_coder_name(name, kind) for name in names]
    assert None not in originals and len(set(originals)) == len(names) == (196 if kind == "wan2.2" else 194)
    assert [diffusers_coder_name(name, kind) for name in originals] == names
    deep = (
        "decoder.upsamples.0.upsamples.3.time_conv.weight"
        if kind == "wan2.2"
        else "decoder.upsamples.3.time_conv.weight"
    )
    assert {"conv1.bias", "conv2.weight", "encoder.head.0.gamma", "decoder.middle.1.to_qkv.weight", deep} <= set(
        originals
    )


@pytest.mark.parametrize(
    "name", ["", "weight", "blocks.0.attn1.to_q", "blocks.0.self_attn.q.weight.weight", "blocks.x.ffn.net.2.weight",
             "scale_shift_table.weight", "proj_out", "blocks.0.lora.weight"]
)  # fmt: skip
def test_unknown_names_are_not_renamed(name):
    assert original_name(name) is None
    assert original_coder_name(name, "wan2.1") is None
