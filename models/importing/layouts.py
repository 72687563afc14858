"""Which network a file holds and how its tensors are named, by names and shapes, never by the name of the file.

    transformer   original (also ComfyUI, GGUF and LightX2V) or diffusers
    vae           of Wan 2.1 or 2.2: original or diffusers
    text          umT5: original, Hugging Face or GGUF
    vision        CLIP's image encoder: original or Hugging Face

A file may hold several, each under a prefix. Every tensor must be known: one that is not means that the network is a
different one. Torch-free; shapes are compared with those of our networks in models/importing/plan.py.
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
SIGNS = {  # tensors that identify a network: one is enough
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
FOREIGN = {  # prefixes of the tensors of related models
    "casual_audio_encoder.": "Wan 2.2 S2V", "audio_injector.": "Wan 2.2 S2V", "face_adapter.": "Wan 2.2 Animate",
    "motion_encoder.": "Wan 2.2 Animate", "audio_proj.": "HuMo", "patch_embedding_pose.": "SCAIL",
    "patch_embedding_mask.": "SCAIL 2", "patch_embedding_global.": "WanDancer",
}  # fmt: skip
LAYERS = {  # parts of names: layers that some programs add
    ".proj_l.": "sparse-linear attention (TurboDiffusion)", "to_gate_compress": "video sparse attention (FastWan)",
    "lora_": "an unmerged LoRA among its weights",
}  # fmt: skip
UNUSED = ("norm_q_img", "norm_added_q")  # in some old files; unused by all programs
MODEL = {
    "transformer": "Wan transformer", "vae": "Wan autoencoder", "text": "umT5 encoder", "vision": "CLIP image encoder",
}  # fmt: skip


class Piece(NamedTuple):
    """What a tensor of the package is read from."""

    keys: tuple[str, ...]  # tensors in the file; several are concatenated by rows
    scale: str | None = None  # a tensor in the file: the stored numbers are multiplied by it


@dataclass(frozen=True, slots=True)
class Found:
    """A network in a file."""

    part: str  # "transformer" | "vae" | "text" | "vision"
    layout: str
    stored: str  # in words
    pieces: dict[str, Piece]  # by the original names
    shapes: dict[str, tuple[int, ...]]  # of the pieces, as in the file
    kind: str = ""  # of an autoencoder: "wan2.1" or "wan2.2"


def recognise(
    tensors: Tensors, metadata: Mapping[str, str], read: Callable[[str], bytes], where: str = "the file"
) -> list[Found]:
    """The networks in a file. `read` gives the bytes of a small tensor. Raises BadInput where there is none or one is
    not supported; messages call the file `where`.
    """
    if metadata.get("format") == FORMAT:
        raise BadInput(f"{where} is already a Rushes package: copy it into the folder `models` of RUSHES_HOME")
    networks = _networks(tensors)
    if not networks:
        if any("lora_" in name or name.endswith((".diff", ".diff_b")) for name in tensors):
            raise BadInput(f"{where} is a LoRA, not a model: give the file of the model, and this one with --lora")
        some = ", ".join(sorted(tensors)[:3])
        raise BadInput(
            f"{where} is not a Wan network: none of its {len(tensors)} tensors is known ({some} ...); "
            "give a Wan 2.1 or 2.2 checkpoint"
        )
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
            found = original_vision_part(name)
            original, third = found if found else (None, None)
            if original is not None and third is not None:
                thirds.setdefault(original, {})[third] = name
                continue
        else:
            original = _original_name(part, layout, kind, name)
        if original is None:
            raise _unknown_tensor(part, name, where)
        if original in pieces:
            raise BadInput(
                f"{where} holds {original} twice, as {pieces[original].keys[0]} and as {prefix + name}; use another"
            )
        pieces[original] = Piece((prefix + name,), scale and prefix + scale)
        shapes[original] = shape
    for original, names in thirds.items():
        if len(names) != 3:
            raise BadInput(f"{where} holds {len(names)} of the three parts of {original}; copy it again")
        pieces[original] = Piece(tuple(prefix + names[third] for third in range(3)))
        rows = [weights.tensors[name][1] for name in names.values()]
        shapes[original] = (sum(shape[0] if shape else 0 for shape in rows), *rows[0][1:])
    return Found(part, layout, weights.stored, pieces, shapes, kind)


def _original_name(part: str, layout: str, kind: str, name: str) -> str | None:
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
    """The autoencoder of 2.1 reads 3 channels, that of 2.2 the 12 of 2x2 pixels."""
    for name in ("encoder.conv1.weight", "encoder.conv_in.weight"):
        if name in tensors:
            shape = tensors[name][1]
            channels = shape[1] if len(shape) == 5 else 0
            if channels in (3, 12):
                return "wan2.1" if channels == 3 else "wan2.2"
            raise BadInput(
                f"{where} holds an autoencoder that reads {channels} channels; those of Wan read 3 or 12: "
                "use Wan2.1_VAE or Wan2.2_VAE"
            )
    raise BadInput(f"{where} holds an autoencoder without its encoder; use the complete file")


def _unknown_tensor(part: str, name: str, where: str) -> BadInput:
    """The refusal of a file with an unknown tensor."""
    for beginning, kin in FOREIGN.items():
        if name.startswith(beginning):
            return BadInput(
                f"{where} is {kin} (it has {name}), which Rushes does not support; `rushes models` lists what it does"
            )
    for word, layer in LAYERS.items():
        if word in name:
            return BadInput(f"{where} has {layer} ({name}), which is not supported: use the model without it")
    return BadInput(f"{where} has a tensor {name}, which no {MODEL[part]} has: use the file as it was published")
