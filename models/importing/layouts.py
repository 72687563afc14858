"""Which network a file of weights is, and in whose layout: told by names and shapes, never by the file's name.

    transformer   original (ComfyUI, GGUF and LightX2V keep these names) or diffusers
    vae           of Wan 2.1 or 2.2: original or diffusers
    text          umT5: original, Hugging Face or GGUF
    vision        CLIP's picture tower: original or Hugging Face

A file may hold several, each under a prefix. Every tensor must find its place: one that is left over means another
network than the one it seems. Torch-free; the shapes are compared where the networks are
(models/importing/__main__.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from models.encoders.names import TIED, original_text_name, original_vision_part
from models.errors import BadInput
from models.importing.wan_names import diffusers_coder_name, diffusers_name, original_coder_name, original_name
from models.weight_files.package_header import FORMAT
from models.weight_files.scales import Tensors, weights_of

PREFIXES = (  # of all-in-one files and of training programs, longest first where one begins another
    "text_encoders.umt5xxl.transformer.", "text_encoders.umt5xxl.", "model.diffusion_model.", "cond_stage_model.",
    "first_stage_model.", "diffusion_model.", "clip_vision.", "text_encoder.", "transformer.", "module.", "visual.",
    "model.", "vae.", "net.",
)  # fmt: skip
SIGNS = {  # tensors by one of which a network is known
    ("transformer", "original"): ("head.modulation", "blocks.0.self_attn.q.weight"),
    ("transformer", "diffusers"): ("condition_embedder.time_proj.weight", "blocks.0.attn1.to_q.weight"),
    ("vae", "original"): ("decoder.middle.0.residual.2.weight", "decoder.conv1.weight"),
    ("vae", "diffusers"): ("decoder.mid_block.resnets.0.conv1.weight", "decoder.conv_in.weight"),
    ("text", "original"): ("blocks.0.attn.q.weight", "blocks.0.pos_embedding.embedding.weight"),
    ("text", "hugging face"): ("encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"),
    ("text", "gguf"): ("enc.blk.0.attn_q.weight", "token_embd.weight"),
    ("vision", "original"): ("transformer.0.attn.to_qkv.weight", "cls_embedding"),
    ("vision", "hugging face"): (
        "encoder.layers.0.self_attn.q_proj.weight",
        "vision_model.encoder.layers.0.self_attn.q_proj.weight",
    ),
}
FOREIGN = {  # how the names of networks begin that are Wan's kin
    "casual_audio_encoder.": "Wan 2.2 S2V", "audio_injector.": "Wan 2.2 S2V", "face_adapter.": "Wan 2.2 Animate",
    "motion_encoder.": "Wan 2.2 Animate", "audio_proj.": "HuMo", "patch_embedding_pose.": "SCAIL",
    "patch_embedding_mask.": "SCAIL 2", "patch_embedding_global.": "WanDancer",
}  # fmt: skip
LAYERS = {  # within names: layers that some programs add
    ".proj_l.": "sparse-linear attention (TurboDiffusion)", "to_gate_compress": "video sparse attention (FastWan)",
    "lora_": "a LoRA inside its weights",
}  # fmt: skip
UNUSED = ("norm_q_img", "norm_added_q")  # of some old files: no program reads it
MODEL = {"transformer": "transformer of Wan", "vae": "autoencoder of Wan", "text": "umT5", "vision": "CLIP tower"}


class Piece(NamedTuple):
    """A tensor of ours, and what it is made of."""

    keys: tuple[str, ...]  # in the file; several: their rows one after another
    scale: str | None = None  # in the file: what the stored numbers are multiplied by


@dataclass(frozen=True, slots=True)
class Found:
    """A network in a file."""

    part: str  # "transformer" | "vae" | "text" | "vision"
    layout: str
    stored: str  # in words
    pieces: dict[str, Piece]  # by our names, which are the original's
    shapes: dict[str, tuple[int, ...]]  # of the pieces, as the file has them
    kind: str = ""  # of an autoencoder: "wan2.1" or "wan2.2"


def recognise(
    tensors: Tensors, metadata: Mapping[str, str], read: Callable[[str], bytes], where: str = "the file"
) -> list[Found]:
    """The networks in a file. `read` gives the bytes of a small tensor. Raises BadInput where there is none, or where
    one is not as it should be; the sentences name the file as `where`.
    """
    if metadata.get("format") == FORMAT:
        raise BadInput(f"{where} is a package of Rushes already: copy it into the models folder of the house")
    networks = _networks(tensors)
    if not networks:
        if any("lora_" in name or name.endswith((".diff", ".diff_b")) for name in tensors):
            raise BadInput(f"{where} is a LoRA and no model: name the model's file, and this one with --lora")
        some = ", ".join(sorted(tensors)[:3])
        raise BadInput(f"{where} is no network of Wan: none of its {len(tensors)} tensors is known ({some} ...)")
    return [_found(part, layout, prefix, tensors, metadata, read, where) for prefix, part, layout in networks]


def _networks(tensors: Tensors) -> list[tuple[str, str, str]]:
    """(prefix, part, layout) of each network."""
    if sign := _sign(tensors):
        return [("", *sign)]
    groups: dict[str, set[str]] = {}
    for name in tensors:
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
        groups.setdefault(prefix, set()).add(name.removeprefix(prefix))
    found = ((prefix, _sign(names)) for prefix, names in groups.items())
    return [(prefix, *sign) for prefix, sign in found if sign]


def _sign(names: Tensors | set[str]) -> tuple[str, str] | None:
    return next((network for network, signs in SIGNS.items() if any(sign in names for sign in signs)), None)


def _found(
    part: str,
    layout: str,
    prefix: str,
    tensors: Tensors,
    metadata: Mapping[str, str],
    read: Callable[[str], bytes],
    where: str,
) -> Found:
    named = {name.removeprefix(prefix): facts for name, facts in tensors.items() if name.startswith(prefix)}
    weights = weights_of(named, metadata, lambda name: read(prefix + name), where)
    kind = _coder_kind(weights.tensors, where) if part == "vae" else ""
    pieces: dict[str, Piece] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    thirds: dict[str, dict[int, str]] = {}
    for name, (_, shape) in weights.tensors.items():
        if any(word in name for word in UNUSED) or (name == TIED and "shared.weight" in weights.tensors):
            continue
        scale = weights.scales.get(name)
        if part == "vision":
            place = original_vision_part(name)
            own, third = place if place else (None, None)
            if own is not None and third is not None:
                thirds.setdefault(own, {})[third] = name
                continue
        else:
            own = _own_name(part, layout, kind, name)
        if own is None:
            raise _stranger(part, name, where)
        if own in pieces:
            raise BadInput(f"{where} holds {own} twice, as {pieces[own].keys[0]} and as {prefix + name}; use another")
        pieces[own] = Piece((prefix + name,), scale and prefix + scale)
        shapes[own] = shape
    for own, names in thirds.items():
        if len(names) != 3:
            raise BadInput(f"{where} holds {len(names)} of the three parts of {own}; copy it again")
        pieces[own] = Piece(tuple(prefix + names[third] for third in range(3)))
        rows = [weights.tensors[name][1] for name in names.values()]
        shapes[own] = (sum(shape[0] if shape else 0 for shape in rows), *rows[0][1:])
    return Found(part, layout, weights.stored, pieces, shapes, kind)


def _own_name(part: str, layout: str, kind: str, name: str) -> str | None:
    if part == "text":
        return original_text_name(name)
    if part == "vae":
        if layout == "diffusers":
            return original_coder_name(name, kind)
        return name if diffusers_coder_name(name, kind) else None
    if layout == "diffusers":
        return original_name(name)
    return name if diffusers_name(name) else None


def _coder_kind(tensors: Tensors, where: str) -> str:
    """2.1 reads three colours, 2.2 reads those of 2x2 pixels."""
    for name in ("encoder.conv1.weight", "encoder.conv_in.weight"):
        if name in tensors:
            shape = tensors[name][1]
            channels = shape[1] if len(shape) == 5 else 0
            if channels in (3, 12):
                return "wan2.1" if channels == 3 else "wan2.2"
            raise BadInput(f"{where} holds an autoencoder that reads {channels} channels; those of Wan read 3 or 12")
    raise BadInput(f"{where} holds an autoencoder without its encoder; bring the whole file")


def _stranger(part: str, name: str, where: str) -> BadInput:
    """What a tensor without a place means."""
    for beginning, kin in FOREIGN.items():
        if name.startswith(beginning):
            return BadInput(f"{where} is {kin} ({name}), which Rushes does not shoot with")
    for word, layer in LAYERS.items():
        if word in name:
            return BadInput(f"{where} has {layer} ({name}), which is not read: bring the model without it")
    return BadInput(f"{where} holds {name}, which no {MODEL[part]} has: bring the file as it was published")
