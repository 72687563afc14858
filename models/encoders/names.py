"""Parameter names of the encoders: those of other layouts -> the original's, which ours are. Torch-free.

    umT5   original: Wan's own files · Hugging Face: diffusers folders and ComfyUI files · GGUF
    CLIP   original: Wan's own file, under `visual.` · Hugging Face: image_encoder folders and ComfyUI files

Names are matched whole: the caller removes the prefixes of files that hold several networks. Facts: the key tables of
both projects, tested by loading transformers' networks with them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Names of a block's tensors, without the block's number: (original, Hugging Face, GGUF).
_TEXT_BLOCK = (
    ("norm1", "layer.0.layer_norm", "attn_norm"),
    ("attn.q", "layer.0.SelfAttention.q", "attn_q"),
    ("attn.k", "layer.0.SelfAttention.k", "attn_k"),
    ("attn.v", "layer.0.SelfAttention.v", "attn_v"),
    ("attn.o", "layer.0.SelfAttention.o", "attn_o"),
    ("pos_embedding.embedding", "layer.0.SelfAttention.relative_attention_bias", "attn_rel_b"),
    ("norm2", "layer.1.layer_norm", "ffn_norm"),
    ("ffn.gate.0", "layer.1.DenseReluDense.wi_0", "ffn_gate"),
    ("ffn.fc1", "layer.1.DenseReluDense.wi_1", "ffn_up"),
    ("ffn.fc2", "layer.1.DenseReluDense.wo", "ffn_down"),
)
_TEXT_WHOLE = (
    ("token_embedding", "shared", "token_embd"),
    ("norm", "encoder.final_layer_norm", "enc.output_norm"),
)
_TEXT = {name: original for original, *others in _TEXT_WHOLE for name in (original, *others)}
_TEXT_IN_BLOCK = {name: original for original, *others in _TEXT_BLOCK for name in (original, *others)}
_TEXT_NAME = re.compile(r"(?:(?:blocks|encoder\.block|enc\.blk)\.(\d+)\.)?(.+)\.weight")
TIED = "encoder.embed_tokens.weight"  # Hugging Face's second name of `shared.weight`, where a file has it

_VISION_BLOCK = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "self_attn.out_proj": "attn.proj",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
    "self_attn.q_proj": "attn.to_qkv",
    "self_attn.k_proj": "attn.to_qkv",
    "self_attn.v_proj": "attn.to_qkv",
}
_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_VISION_WHOLE = {
    "embeddings.class_embedding": "cls_embedding",
    "embeddings.position_embedding.weight": "pos_embedding",
    "embeddings.patch_embedding.weight": "patch_embedding.weight",
    "pre_layrnorm.weight": "pre_norm.weight",  # the misspelling is theirs
    "pre_layrnorm.bias": "pre_norm.bias",
    "post_layernorm.weight": "post_norm.weight",
    "post_layernorm.bias": "post_norm.bias",
}
_VISION_NAME = re.compile(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_VISION_ORIGINAL = re.compile(
    r"cls_embedding|pos_embedding|patch_embedding\.weight|head|(pre|post)_norm\.(weight|bias)"
    r"|transformer\.\d+\.(norm[12]|attn\.to_qkv|attn\.proj|mlp\.[02])\.(weight|bias)"
)


class Part(NamedTuple):
    """The original name of a tensor of another layout, and which third of its rows it is, if it is one."""

    name: str
    third: int | None = None


def original_text_name(name: str) -> str | None:
    """A tensor of umT5 in any layout -> the original's name; None if the encoder has no such tensor."""
    found = _TEXT_NAME.fullmatch(name)
    if name == TIED:
        return "token_embedding.weight"
    if not found:
        return None
    block, own = found.groups()
    own = (_TEXT if block is None else _TEXT_IN_BLOCK).get(own)
    if own is None:
        return None
    return f"{own}.weight" if block is None else f"blocks.{block}.{own}.weight"


def original_vision_part(name: str) -> Part | None:
    """A tensor of CLIP's vision tower in any layout -> its part of the original; None if that has no such tensor."""
    name = name.removeprefix("visual.").removeprefix("vision_model.")
    if _VISION_ORIGINAL.fullmatch(name):
        return Part(name)
    if name in _VISION_WHOLE:
        return Part(_VISION_WHOLE[name])
    found = _VISION_NAME.fullmatch(name)
    if not found or found[2] not in _VISION_BLOCK:
        return None
    third = _QKV.index(found[2]) if found[2] in _QKV else None
    return Part(f"transformer.{found[1]}.{_VISION_BLOCK[found[2]]}.{found[3]}", third)
