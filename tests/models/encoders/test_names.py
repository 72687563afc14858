"""Every parameter name of another layout maps to the original's, and to no other."""

from __future__ import annotations

import pytest

from models.encoders.names import Part, original_text_name, original_vision_part


@pytest.mark.parametrize(
    ("original", "twins"),
    [
        ("token_embedding.weight", ("shared.weight", "encoder.embed_tokens.weight", "token_embd.weight")),
        ("norm.weight", ("encoder.final_layer_norm.weight", "enc.output_norm.weight")),
        (
            "blocks.23.pos_embedding.embedding.weight",
            (
                "encoder.block.23.layer.0.SelfAttention.relative_attention_bias.weight",
                "enc.blk.23.attn_rel_b.weight",
            ),
        ),
        ("blocks.0.attn.o.weight", ("encoder.block.0.layer.0.SelfAttention.o.weight", "enc.blk.0.attn_o.weight")),
        ("blocks.7.norm2.weight", ("encoder.block.7.layer.1.layer_norm.weight", "enc.blk.7.ffn_norm.weight")),
        (
            "blocks.7.ffn.gate.0.weight",
            ("encoder.block.7.layer.1.DenseReluDense.wi_0.weight", "enc.blk.7.ffn_gate.weight"),
        ),
        ("blocks.7.ffn.fc1.weight", ("encoder.block.7.layer.1.DenseReluDense.wi_1.weight", "enc.blk.7.ffn_up.weight")),
        ("blocks.7.ffn.fc2.weight", ("encoder.block.7.layer.1.DenseReluDense.wo.weight", "enc.blk.7.ffn_down.weight")),
    ],
)
def test_a_text_encoder_in_three_layouts(original, twins):
    assert [original_text_name(name) for name in (original, *twins)] == [original] * (len(twins) + 1)


@pytest.mark.parametrize(
    "name",
    [
        "decoder.block.0.layer.0.SelfAttention.q.weight",
        "blocks.0.self_attn.q.weight",  # of the transformer
        "blocks.0.attn.q.bias",
        "encoder.block.0.layer.0.SelfAttention.q.weight_scale",
        "spiece_model",
        "attn.q.weight",
        "blocks.x.attn.q.weight",
        "lm_head.weight",
        "",
    ],
)
def test_what_is_no_text_encoders(name):
    assert original_text_name(name) is None


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("visual.cls_embedding", Part("cls_embedding")),
        ("visual.transformer.31.attn.to_qkv.bias", Part("transformer.31.attn.to_qkv.bias")),
        ("vision_model.embeddings.class_embedding", Part("cls_embedding")),
        ("embeddings.position_embedding.weight", Part("pos_embedding")),
        ("vision_model.pre_layrnorm.bias", Part("pre_norm.bias")),
        ("vision_model.encoder.layers.3.self_attn.q_proj.weight", Part("transformer.3.attn.to_qkv.weight", 0)),
        ("encoder.layers.3.self_attn.k_proj.bias", Part("transformer.3.attn.to_qkv.bias", 1)),
        ("encoder.layers.3.self_attn.v_proj.weight", Part("transformer.3.attn.to_qkv.weight", 2)),
        ("encoder.layers.3.mlp.fc2.weight", Part("transformer.3.mlp.2.weight")),
        ("textual.token_embedding.weight", None),
        ("vision_model.embeddings.position_ids", None),
        ("log_scale", None),
        ("encoder.layers.3.self_attn.rotary.weight", None),
    ],
)
def test_a_picture_tower_in_two_layouts(name, part):
    assert original_vision_part(name) == part
