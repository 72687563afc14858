"""What an import refuses, and what it asks for: every message, each in one line with the way out."""

from __future__ import annotations

import os
import re

import pytest
import torch
from safetensors.torch import save_file

BASE = ("--card", "wan2.1-t2v-14b")

NEEDS = (
    "which a wan2.1-t2v-14b-256x2 network needs: the file is incomplete; give all of its shards, or download it again"
)
BROKEN = {
    "nan": "has 1 numbers in blocks.1.ffn.0.weight that are not finite: the file is damaged; copy it again",
    "fp8 nan": "has 1 numbers in blocks.0.ffn.0.weight that are not finite: the file is damaged; copy it again",
    "cut off": "is cut off: it should hold 8908032 bytes of data and has 8907032; copy it again",
    "lacks one": f"lacks blocks.1.norm3.bias, {NEEDS}",
    "lacks a block": "has no block 0 of its 2: the file is incomplete; give all of its shards",
    "other shape": "has blocks.1.ffn.2.weight of shape (256, 511), a wan2.1-t2v-14b-256x2 network needs (256, 512): "
    "use the file as it was published",
    "unknown": "has a tensor blocks.0.extra.weight, which no Wan transformer has: use the file as it was published",
    "bad scale": "has blocks.0.ffn.0.weight_scale of shape (3,) for a weight of (512, 256): "
    "it must be one number, or one for each row",
}


@pytest.mark.parametrize("harm", BROKEN)
def test_damaged_files_are_refused_in_one_line(harm, house, states):
    state = {name: tensor.clone() for name, tensor in states["transformer"].items()}
    if harm == "nan":
        state["blocks.1.ffn.0.weight"][3, 5] = float("nan")
    elif harm in ("fp8 nan", "bad scale"):
        for name in [
            name for name in state if re.fullmatch(r"blocks.*(attn|ffn)\..+\.weight", name) and state[name].dim() > 1
        ]:
            state[name] = state[name].to(torch.float8_e4m3fn)
        layer = state["blocks.0.ffn.0.weight"]
        layer.view(torch.uint8)[3, 5] = 0x7F if harm == "fp8 nan" else 0
        if harm == "bad scale":
            state = {
                n: t.float() if t.dtype == torch.float8_e4m3fn and n != "blocks.0.ffn.0.weight" else t
                for n, t in state.items()
            }
            state["blocks.0.ffn.0.weight_scale"] = torch.ones(3)
    elif harm == "lacks one":
        del state["blocks.1.norm3.bias"]
    elif harm == "lacks a block":
        state = {name: tensor for name, tensor in state.items() if not name.startswith("blocks.0.")}
    elif harm == "other shape":
        state["blocks.1.ffn.2.weight"] = torch.zeros(256, 511)
    elif harm == "unknown":
        state["blocks.0.extra.weight"] = torch.zeros(3)
    file = house.write(state)
    if harm == "cut off":
        os.truncate(file, file.stat().st_size - 1000)
    assert house.refused(house.disk, *BASE) == f"dit.safetensors {BROKEN[harm]}"


def test_unclear_or_missing_parts_are_refused_before_weights_are_read(house, states, tmp_path):
    """Every message about which files belong together."""
    file = house.write(states["transformer"])
    ask = house.refused
    assert ask(house.disk) == (
        "dit.safetensors could be one of several models: "
        "add --card wan2.1-t2v-1.3b or --card wan2.1-t2v-14b or --card wan2.2-t2v-a14b"
    )
    assert ask(house.disk, "--card", "wan2.2-ti2v-5b") == (
        "--card is 'wan2.2-ti2v-5b', whose shapes are not those of dit.safetensors: "
        "it must be one of wan2.1-t2v-1.3b, wan2.1-t2v-14b, wan2.2-t2v-a14b"
    )
    assert ask(house.disk, "--card", "wan2.2-t2v-a14b") == (
        "dit.safetensors is one of the two experts of wan2.2-t2v-a14b-256x2: "
        "give the other too, as --high FILE --low FILE"
    )
    assert ask(file, *BASE) == (
        "wan2.1-t2v-14b-256x2 needs its autoencoder (Wan2.1_VAE or Wan2.2_VAE) and its text encoder (umt5-xxl) and its "
        "tokenizer (spiece.model of umt5): give the missing files too, or use --partial to import without them"
    )
    assert ask(house.disk / "vae.safetensors") == (
        "no transformer was given: give the file of the model itself, not only its other parts"
    )
    assert ask(house.disk / "nothing") == "there is no file nothing; check the name, and that the disk is mounted"
    assert ask(house.disk, *BASE, "--name", "../x").startswith("--name is '../x': it must be letters")
    assert ask(house.disk, *BASE, "--lora", f"{file}:x").endswith("it must be a number from -10 to 10, as in FILE:0.8")
    assert ask() == "no file was given: give the files of a model, or the folder that holds them"
    house.write(states["expert"], "other.safetensors")
    assert ask(house.disk) == (
        "dit.safetensors could be the high-noise or the low-noise expert: "
        "give it as --high dit.safetensors or --low dit.safetensors"
    )
    (house.disk / "other.safetensors").unlink()
    house.write(states["vae"], "vae2.safetensors")
    assert ask(house.disk, *BASE) == (
        "vae.safetensors and vae2.safetensors could both be its autoencoder (Wan2.1_VAE or Wan2.2_VAE): "
        "give one of them"
    )
    (house.disk / "vae2.safetensors").unlink()
    save_file({"x.lora_A.weight": torch.zeros(1, 1)}, tmp_path / "l.safetensors")
    assert house.refused(tmp_path / "l.safetensors").endswith(
        "is a LoRA, not a model: give the file of the model, and this one with --lora"
    )
    assert not house.models.exists() or not list(house.models.iterdir())
    assert house.run(house.disk, *BASE, "--name", "mine")[0] == 0
    code, events = house.run(house.disk, *BASE, "--name", "mine")
    assert code == 2 and "there is already a model mine: choose another name with --name" in events[-1]["text"]
    code, events = house.run(house.models / "mine.safetensors", "--name", "again")
    assert code == 2 and "is already a Rushes package" in events[-1]["text"]
