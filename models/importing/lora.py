"""LoRA files of every naming scheme, merged into float weights one tensor at a time.

    original, DiffSynth   diffusion_model.blocks.0.self_attn.q.lora_A.weight, .lora_B.weight
    LightX2V              ... .lora_down.weight, .lora_up.weight; full differences .diff, .diff_b, .diff_m
    kohya, musubi         lora_unet_blocks_0_self_attn_q.lora_down.weight, .lora_up.weight, .alpha
    diffusers, PEFT       transformer.blocks.0.attn1.to_q.lora_A.weight; base_model.model. before it, .default. within

A layer's weight grows by strength * alpha / rank * (B @ A), with A = lora_A = lora_down (rank, in) and B = lora_B =
lora_up (out, rank); where the file gives no alpha, alpha is the rank. A full difference is added as it is. Every
tensor of the file must match a layer of the model: otherwise the file was made for another model.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from models.errors import BadInput
from models.importing.sources import Source
from models.importing.wan_names import diffusers_name

PREFIXES = (  # before the name of a layer; several may follow one another
    "base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer.", "unet.", "model.",
    "lora_unet__", "lora_unet_", "lora_transformer_", "diffusion_model_",
)  # fmt: skip
ROLES = {  # role of a tensor in its layer
    "down": r"\.lora_A(\.[\w-]+)?\.weight|\.lora_down\.weight|[._]lora(_linear_layer)?\.down\.weight",
    "up": r"\.lora_B(\.[\w-]+)?\.weight|\.lora_up\.weight|[._]lora(_linear_layer)?\.up\.weight",
    "up_bias": r"\.lora_B(\.[\w-]+)?\.bias|\.lora_up\.bias",
    "alpha": r"\.alpha",
    "weight": r"\.diff",
    "bias": r"\.diff_b",
    "modulation": r"\.diff_m",
}
WHOLE = {
    "weight": "weight",
    "bias": "bias",
    "up_bias": "bias",
    "modulation": "modulation",
}  # role -> the tensor that it changes
ROLE = re.compile("(?P<layer>.+?)(?:" + "|".join(f"(?P<{role}>{pattern})" for role, pattern in ROLES.items()) + ")")
OTHERS = {  # adapters that are not plain LoRA, by parts of their tensors' names
    "dora_scale": "DoRA", "lora_magnitude_vector": "DoRA", "lokr_": "LoKr", "hada_": "LoHa", "oft_": "OFT",
    "lora_mid": "LoCon with a middle matrix", "glora": "GLoRA",
}  # fmt: skip
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
PEFT_METADATA = "lora_adapter_metadata"  # where diffusers stores alpha, which is not among its tensors
MAX_ALPHA = 1e6
OTHER_MODEL = "it was made for another model or variant: use a LoRA of this one"


@dataclass(frozen=True, slots=True)
class Delta:
    """One change of one tensor: factor * (up @ down), or factor * a full difference."""

    factor: float
    keys: tuple[str, ...]  # in the file: (up, down) or (difference,)


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA file that matches a model."""

    source: Source
    shapes: Mapping[str, tuple[int, ...]]  # of the model's tensors
    deltas: dict[str, tuple[Delta, ...]]  # by the original names of the model's tensors
    rank: int  # the largest of all layers; 0 where there are only full differences

    def delta(self, name: str) -> Tensor:
        """The change of a tensor at strength 1, in its shape, float32. Raises BadInput if it is not finite."""
        total = torch.zeros(self.shapes[name], dtype=torch.float32)
        for delta in self.deltas.get(name, ()):
            first, *second = (self.source.read(key).float() for key in delta.keys)
            change = first.flatten(1) @ second[0].flatten(1) if second else first
            total.view(-1).add_(change.reshape(-1), alpha=delta.factor)
        if not total.isfinite().all():
            raise BadInput(
                f"{self.source.paths[0]} changes {name} by numbers that are not finite: the file is damaged; "
                "download it again"
            )
        return total

    def merged(self, name: str, weight: Tensor, strength: float = 1.0) -> Tensor:
        """A float weight with this file's change at `strength`, summed in float32; an unchanged weight as it is."""
        if name not in self.deltas:
            return weight
        return weight.float().add(self.delta(name), alpha=strength).to(weight.dtype)


def read_lora(source: Source, shapes: Mapping[str, tuple[int, ...]]) -> Lora:
    """Match a LoRA file with a model, given by original names and shapes. Of the data, only alphas are read.

    Raises BadInput for other kinds of adapters, for tensors that match no layer, and for incomplete pairs.
    """
    path, layers = source.paths[0], _layers(source, _spellings(shapes))
    deltas: dict[str, list[Delta]] = {}
    rank = 0
    for layer, keys in layers.items():
        factor = 1.0
        if "down" in keys or "up" in keys:
            if "down" not in keys or "up" not in keys:
                some = next(iter(keys.values()))
                raise BadInput(f"{path} has only one of the two matrices for {layer}: {some}; download it again")
            weight = _name(layer, "weight", shapes)
            ranked = _rank(source, weight, shapes.get(weight), keys["up"], keys["down"])
            factor, rank = _factor(source, keys.get("alpha"), ranked), max(rank, ranked)
            deltas.setdefault(weight, []).append(Delta(factor, (keys["up"], keys["down"])))
        for role, kind in WHOLE.items():
            if role in keys:
                name = _name(layer, kind, shapes)
                _check_same(source, name, shapes.get(name), keys[role])
                times = factor if role == "up_bias" else 1.0
                deltas.setdefault(name, []).append(Delta(times, (keys[role],)))
    if not deltas:
        raise BadInput(f"{path} holds no LoRA: it changes no layer; give a LoRA file")
    return Lora(source, shapes, {name: tuple(changes) for name, changes in deltas.items()}, rank)


def _spellings(names: Iterable[str]) -> dict[str, str]:
    """Every spelling of a layer -> the original's: with dots or (kohya) underscores, and diffusers' names."""
    found: dict[str, str] = {}
    for name in names:
        layer = _layer(name)
        for spelled in (layer, _layer(diffusers_name(name) or name)):
            found[spelled] = found[spelled.replace(".", "_")] = layer
    return found


def _layer(name: str) -> str:
    return re.sub(r"\.(weight|bias|modulation|scale_shift_table)$", "", name)


def _name(layer: str, kind: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The tensor of a layer; a bare parameter has the name of the layer itself."""
    return layer if layer in shapes else f"{layer}.{kind}"


def _layers(source: Source, spellings: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The file's tensors by layer and role. Raises BadInput for a tensor that matches no layer."""
    path = source.paths[0]
    layers: dict[str, dict[str, str]] = {}
    unknown = []
    for key, (dtype, _) in source.tensors.items():
        for mark, kind in OTHERS.items():
            if mark in key:
                raise BadInput(f"{path} is a {kind} ({key}), which is not supported; use a plain LoRA")
        found = ROLE.fullmatch(key)
        layer = _known(found["layer"], spellings) if found else None
        if found is None or layer is None:
            unknown.append(key)
            continue
        role = next(role for role in ROLES if found[role] is not None)
        if dtype not in FLOATS:
            raise BadInput(f"{path} stores {key} as {dtype}; only {', '.join(FLOATS)} are supported")
        if role in layers.setdefault(layer, {}):
            raise BadInput(
                f"{path} changes {layer} twice, by {layers[layer][role]} and {key}; use a file with one LoRA"
            )
        layers[layer][role] = key
    if unknown:
        some = ", ".join(unknown[:3]) + (" ..." if len(unknown) > 3 else "")
        raise BadInput(f"{path} has {len(unknown)} tensors that match no layer of this model: {some}; {OTHER_MODEL}")
    return layers


def _known(layer: str, spellings: Mapping[str, str]) -> str | None:
    while layer not in spellings:
        prefix = next((prefix for prefix in PREFIXES if layer.startswith(prefix)), None)
        if prefix is None:
            return None
        layer = layer.removeprefix(prefix)
    return spellings[layer]


def _rank(source: Source, name: str, shape: tuple[int, ...] | None, up: str, down: str) -> int:
    """The rank of a pair that matches its weight. Convolutions are flattened: (out, in * kernel). Raises BadInput."""
    outer, inner = source.tensors[up].shape, source.tensors[down].shape
    if shape is None or len(shape) < 2 or len(outer) < 2 or not inner:
        raise BadInput(f"{source.paths[0]} changes {name} by {up}, which is not a matrix of this model; {OTHER_MODEL}")
    rank = inner[0]
    fits = rank and outer[:2] == (shape[0], rank) and math.prod(outer[2:]) == 1
    if not fits or math.prod(inner[1:]) != math.prod(shape[1:]):
        raise BadInput(f"{source.paths[0]} changes {name} {shape} by {outer} times {inner}; {OTHER_MODEL}")
    return rank


def _check_same(source: Source, name: str, shape: tuple[int, ...] | None, key: str) -> None:
    found = source.tensors[key].shape
    if shape is None or [n for n in found if n != 1] != [n for n in shape if n != 1]:
        what = "which this model does not have" if shape is None else f"which has {shape}"
        raise BadInput(f"{source.paths[0]} changes {name}, {what}, by {key} of {found}; {OTHER_MODEL}")


def _factor(source: Source, key: str | None, rank: int) -> float:
    """alpha / rank, with alpha from its tensor, else from diffusers' metadata, else equal to the rank."""
    path = source.paths[0]
    if key is None:
        return _peft_factor(source, rank)
    if math.prod(source.tensors[key].shape) != 1:
        raise BadInput(f"{path} has {key} of shape {source.tensors[key].shape}; alpha must be one number")
    return _checked(path, key, float(source.read(key).float())) / rank


def _peft_factor(source: Source, rank: int) -> float:
    """alpha / rank by PEFT's metadata, or alpha / sqrt(rank) for rslora. Raises BadInput for alphas by layer."""
    text = source.metadata.get(PEFT_METADATA)
    if text is None:
        return 1.0
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise BadInput(
            f"{source.paths[0]} has adapter metadata that cannot be read ({PEFT_METADATA}); download it again"
        )
    facts = {name.rpartition(".")[2]: value for name, value in facts.items()}
    if facts.get("alpha_pattern") or facts.get("use_dora"):
        raise BadInput(f"{source.paths[0]} uses alpha_pattern or DoRA, which are not supported; use a plain LoRA")
    alpha = facts.get("lora_alpha", rank)
    if type(alpha) not in (int, float):
        raise BadInput(f"{source.paths[0]} has lora_alpha {str(alpha)[:20]!a}; alpha must be one number")
    return _checked(source.paths[0], "lora_alpha", alpha) / (math.sqrt(rank) if facts.get("use_rslora") else rank)


def _checked(path: object, key: str, alpha: float) -> float:
    if not abs(alpha) <= MAX_ALPHA:
        raise BadInput(
            f"{path} has {key} {str(alpha)[:20]}; it must be a number from -{MAX_ALPHA:.0f} to {MAX_ALPHA:.0f}"
        )
    return float(alpha)
