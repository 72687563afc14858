"""Tensor names of Wan's transformers and autoencoders: the original's, which ours are, and those of diffusers.

Torch-free, both directions; names of other networks give None. Source: the key tables of both projects, checked
against diffusers' networks (tests/models/importing/test_wan_names.py). Names of the encoders: models/encoders/names.py.
"""

from __future__ import annotations

import re
from functools import lru_cache

# Pairs (original, diffusers). Names are matched completely, so one may be the start of another.
_WHOLE = (
    ("patch_embedding", "patch_embedding"),
    ("vace_patch_embedding", "vace_patch_embedding"),
    ("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("time_projection.1", "condition_embedder.time_proj"),
    ("img_emb.proj.0", "condition_embedder.image_embedder.norm1"),
    ("img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"),
    ("img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"),
    ("img_emb.proj.4", "condition_embedder.image_embedder.norm2"),
    ("img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed"),
    ("head.modulation", "scale_shift_table"),
    ("head.head", "proj_out"),
    # Fun: diffusers has no such networks, so both names are the original's
    ("ref_conv", "ref_conv"),
    ("control_adapter.conv", "control_adapter.conv"),
    ("control_adapter.residual_blocks.0.conv1", "control_adapter.residual_blocks.0.conv1"),
    ("control_adapter.residual_blocks.0.conv2", "control_adapter.residual_blocks.0.conv2"),
)
_IN_BLOCK = (
    ("modulation", "scale_shift_table"),
    *((f"self_attn.{m}", f"attn1.to_{m}") for m in "qkv"),
    ("self_attn.o", "attn1.to_out.0"),
    ("self_attn.norm_q", "attn1.norm_q"),
    ("self_attn.norm_k", "attn1.norm_k"),
    ("norm3", "norm2"),
    *((f"cross_attn.{m}", f"attn2.to_{m}") for m in "qkv"),
    ("cross_attn.o", "attn2.to_out.0"),
    ("cross_attn.norm_q", "attn2.norm_q"),
    ("cross_attn.norm_k", "attn2.norm_k"),
    ("cross_attn.k_img", "attn2.add_k_proj"),
    ("cross_attn.v_img", "attn2.add_v_proj"),
    ("cross_attn.norm_k_img", "attn2.norm_added_k"),
    ("ffn.0", "ffn.net.0.proj"),
    ("ffn.2", "ffn.net.2"),
    ("before_proj", "proj_in"),  # VACE
    ("after_proj", "proj_out"),
)
_NAME = re.compile(r"(?:((?:vace_)?blocks\.\d+\.))?(.+?)(\.weight|\.bias)?")
_BARE = {"modulation", "head.modulation", "img_emb.emb_pos"}  # parameters without .weight or .bias
_BARE |= {other for original, other in (*_WHOLE, *_IN_BLOCK) if original in _BARE}

_LEAVES = {
    "residual.0.gamma": "norm1.gamma", "residual.2.weight": "conv1.weight", "residual.2.bias": "conv1.bias",
    "residual.3.gamma": "norm2.gamma", "residual.6.weight": "conv2.weight", "residual.6.bias": "conv2.bias",
    "shortcut.weight": "conv_shortcut.weight", "shortcut.bias": "conv_shortcut.bias",
}  # fmt: skip
_LEVELS = 4
Tables = tuple[dict[str, str], dict[str, str]]


def _tables(source: int) -> Tables:
    whole, in_block = ({pair[source]: pair[1 - source] for pair in table} for table in (_WHOLE, _IN_BLOCK))
    return whole, in_block


_TO_DIFFUSERS, _TO_ORIGINAL = _tables(0), _tables(1)


def diffusers_name(name: str) -> str | None:
    """Original name of a transformer's tensor -> that of diffusers; None for an unknown one."""
    return _renamed(name, _TO_DIFFUSERS)


def original_name(name: str) -> str | None:
    """Diffusers name of a transformer's tensor -> the original's; None for an unknown one."""
    return _renamed(name, _TO_ORIGINAL)


def diffusers_coder_name(name: str, kind: str) -> str | None:
    """Original name of a tensor of the autoencoder `kind` ("wan2.1" or "wan2.2") -> that of diffusers, or None."""
    return _coder_renamed(name, _coder_layers(kind), _LEAVES)


def original_coder_name(name: str, kind: str) -> str | None:
    """Diffusers name of a tensor of the autoencoder `kind` ("wan2.1" or "wan2.2") -> the original's, or None."""
    layers = {other: original for original, other in _coder_layers(kind).items()}
    return _coder_renamed(name, layers, {other: original for original, other in _LEAVES.items()})


def _renamed(name: str, tables: Tables) -> str | None:
    found = _NAME.fullmatch(name)
    if not found:
        return None
    block, original, suffix = found[1] or "", found[2], found[3] or ""
    renamed = tables[bool(block)].get(original)
    return None if renamed is None or (original in _BARE) != (not suffix) else f"{block}{renamed}{suffix}"


def _coder_renamed(name: str, layers: dict[str, str], leaves: dict[str, str]) -> str | None:
    words = name.split(".")
    for count in range(len(words) - 1, 0, -1):
        layer, leaf = ".".join(words[:count]), ".".join(words[count:])
        if layer in layers:
            return f"{layers[layer]}.{leaves.get(leaf, leaf)}"
    return None


@lru_cache(maxsize=2)
def _coder_layers(kind: str) -> dict[str, str]:
    """Original layer -> diffusers layer. 2.1 numbers the layers of all levels consecutively, 2.2 within each level; the
    last layer of a level resizes the picture, except in the last level.
    """
    layers = {"conv1": "quant_conv", "conv2": "post_quant_conv"}
    for side, way, count in (("encoder", "down", 2), ("decoder", "up", 3)):
        layers |= {f"{side}.{original}": f"{side}.{other}" for original, other in _ENDS.items()}
        positions = [(level, index) for level in range(_LEVELS) for index in range(count + 1)][:-1]
        for row, (level, index) in enumerate(positions):
            resizes = index == count
            if kind == "wan2.2":
                original = f"{level}.{way}samples.{index}"
                other = f"{level}.{f'{way}sampler' if resizes else f'resnets.{index}'}"
            else:
                original = str(row)
                inside = f"{level}.{'upsamplers.0' if resizes else f'resnets.{index}'}"
                other = inside if side == "decoder" else original
            layers[f"{side}.{way}samples.{original}"] = f"{side}.{way}_blocks.{other}"
    return layers


_ENDS = {
    "conv1": "conv_in", "head.0": "norm_out", "head.2": "conv_out",
    "middle.0": "mid_block.resnets.0", "middle.1": "mid_block.attentions.0", "middle.2": "mid_block.resnets.1",
}  # fmt: skip
