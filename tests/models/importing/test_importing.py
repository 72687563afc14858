"""The same small Wan in every layout becomes the same package; an interrupted import resumes; memory is bounded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from kernels import ops
from models.card import CARDS, WAN_14B, TextCard
from models.dit.wan import Transformer
from models.encoders.names import _TEXT_BLOCK, _TEXT_WHOLE
from models.importing.wan_names import diffusers_coder_name, diffusers_name
from models.loading.quantize import load_quantized
from models.weight_files.package_header import card_from_json
from models.weight_files.tensors import open_package

ROOT = Path(__file__).parents[3]
SMALL = replace(WAN_14B, dim=256, ffn=512, heads=2, layers=2, text_dim=64)
TEXT = TextCard("umt5", words=800, dim=64, ffn=128, heads=4, layers=2)
BASE = ("--card", "wan2.1-t2v-14b")
LOST = {"int8": 0.009, "int4": 0.11, "bf16": 0.0025}  # of a normal matrix, and a little more
BLOCK_MATRIX = ("attn.", "ffn.")
State = dict[str, Tensor]


def import_files(house, *arguments: object) -> tuple[State, dict[str, str]]:
    """One import that succeeds: the tensors in floats, and the metadata."""
    code, events = house.run(*arguments)
    assert code == 0, events[-1]
    package = open_package(Path(events[-1]["path"]))
    return dequantized(package.tensors), package.metadata


def dequantized(tensors: State) -> State:
    """A package in float32."""
    floats = {}
    for name, tensor in tensors.items():
        if name.endswith(("_scale", "_multiplier")):
            continue
        if f"{name}_multiplier" in tensors:
            tensor = ops.dequant_int4(tensor, tensors[f"{name}_multiplier"])
        floats[name] = tensor.float() * (tensors[f"{name}_scale"][:, None] if f"{name}_scale" in tensors else 1)
    return floats


def apart(found: State, wanted: State, prefix: str) -> float:
    """The largest relative RMS difference of any tensor; every tensor must be there."""
    assert {name for name in found if name.startswith(prefix)} == {prefix + name for name in wanted}
    return max(float((found[prefix + name] - w).norm() / w.norm()) for name, w in wanted.items())


def small(name: str) -> bool:
    """The matrices that programs store in eight bits."""
    return name.startswith("blocks.") and name.endswith(".weight") and any(part in name for part in BLOCK_MATRIX)


def fp8(state: State, dtype=torch.float8_e4m3fn, rows=False, top: float | None = 448.0) -> tuple[State, State]:
    """Matrices in eight bits, and the scale of each: one, or one a row; top None: plain, no scale at all."""
    stored, scales = {}, {}
    for name, tensor in state.items():
        if not (small(name) and tensor.dim() == 2):
            stored[name] = tensor.to(torch.bfloat16)
        elif top is None:
            stored[name] = tensor.to(dtype)
        else:
            scale = (tensor.abs().amax(1, keepdim=True) if rows else tensor.abs().max()) / top
            q = tensor / scale
            stored[name] = q.round().to(dtype) if dtype == torch.int8 else q.to(dtype)
            scales[name.removesuffix(".weight")] = scale
    return stored, scales


def text_bytes(text: str) -> Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def write_original(state: State, disk: Path) -> Path:
    save_file(state, disk / "dit.safetensors")
    return disk / "dit.safetensors"


def write_prefixed(state: State, disk: Path) -> Path:
    save_file({f"model.diffusion_model.{name}": t for name, t in state.items()}, disk / "dit.safetensors")
    return disk / "dit.safetensors"


def write_diffusers(state: State, disk: Path) -> Path:
    """Three shards and their index, in the order of their names, under diffusers' names."""
    folder = disk / "transformer"
    folder.mkdir()
    names = sorted((diffusers_name(name) or "", name) for name in state)
    index = {}
    for shard in range(3):
        file = f"diffusion_pytorch_model-0000{shard + 1}-of-00003.safetensors"
        part = {other: state[own] for other, own in names[shard::3]}
        save_file(part, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def write_half(dtype: torch.dtype):
    def write(state: State, disk: Path) -> Path:
        save_file({name: t.to(dtype) for name, t in state.items()}, disk / "dit.safetensors")
        return disk / "dit.safetensors"

    return write


def write_plain_fp8(state: State, disk: Path) -> Path:
    save_file(fp8(state, top=None)[0], disk / "dit.safetensors")
    return disk / "dit.safetensors"


def write_scaled_old(state: State, disk: Path) -> Path:
    stored, scales = fp8(state)
    for layer, scale in scales.items():
        stored |= {f"{layer}.scale_weight": scale, f"{layer}.scale_input": torch.ones(())}
    save_file(stored | {"scaled_fp8": torch.empty(2, dtype=torch.float8_e4m3fn)}, disk / "dit.safetensors")
    return disk / "dit.safetensors"


def write_scaled_new(state: State, disk: Path) -> Path:
    stored, scales = fp8(state)
    for layer, scale in scales.items():
        form = text_bytes('{"format": "float8_e4m3fn", "full_precision_matrix_mult": true}')
        stored |= {f"{layer}.weight_scale": scale, f"{layer}.comfy_quant": form}
    save_file(stored, disk / "dit.safetensors")
    return disk / "dit.safetensors"


def write_scaled_said(state: State, disk: Path) -> Path:
    """As before, with the forms in the file's metadata."""
    stored, scales = fp8(state)
    said = json.dumps({"layers": {layer: {"format": "float8_e4m3fn"} for layer in scales}})
    stored |= {f"{layer}.weight_scale": scale for layer, scale in scales.items()}
    save_file(stored, disk / "dit.safetensors", {"_quantization_metadata": said})
    return disk / "dit.safetensors"


def write_rows(dtype: torch.dtype, top: float):
    def write(state: State, disk: Path) -> Path:
        stored, scales = fp8(state, dtype, rows=True, top=top)
        save_file(stored | {f"{layer}.weight_scale": s for layer, s in scales.items()}, disk / "dit.safetensors")
        return disk / "dit.safetensors"

    return write


def write_gguf(kind: str):
    def write(state: State, disk: Path) -> Path:
        import gguf

        writer = gguf.GGUFWriter(disk / "dit.gguf", "wan")
        form = gguf.GGMLQuantizationType[kind]
        for name, tensor in state.items():
            data = tensor.numpy()
            if name == "patch_embedding.weight":
                writer.add_array(f"comfy.gguf.orig_shape.{name}", list(tensor.shape))
                data = data.reshape(tensor.shape[0], -1)
            quantized = small(name) and tensor.dim() == 2
            writer.add_tensor(
                name, gguf.quants.quantize(data, form) if quantized else data, raw_dtype=form if quantized else None
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return disk / "dit.gguf"

    return write


# How far each form is from the weights that it was made from: fp8 has 3 digits, uniform in a step of 1/8 to 1/16;
# int8 and Q8_0 round to 1/127 of the largest of a row or block, Q4_0 to 1/8.
LAYOUTS = {
    "original": (write_original, 0.0), "prefixed": (write_prefixed, 0.0), "diffusers in shards": (write_diffusers, 0.0),
    "fp16": (write_half(torch.float16), 0.001), "bf16": (write_half(torch.bfloat16), 0.003),
    "fp8": (write_plain_fp8, 0.05), "fp8_scaled, old": (write_scaled_old, 0.03),
    "fp8_scaled, new": (write_scaled_new, 0.03), "fp8_scaled, said": (write_scaled_said, 0.03),
    "lightx2v fp8": (write_rows(torch.float8_e4m3fn, 448.0), 0.03),
    "lightx2v int8": (write_rows(torch.int8, 127.0), 0.009),
    "gguf Q8_0": (write_gguf("Q8_0"), 0.007), "gguf Q4_0": (write_gguf("Q4_0"), 0.12),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_becomes_the_same_package(layout, house, states):
    write, error = LAYOUTS[layout]
    write(states["transformer"], house.disk)
    found, metadata = import_files(house, house.disk, *BASE)
    assert apart(found, states["transformer"], "transformer.") <= (error**2 + LOST["int8"] ** 2) ** 0.5
    assert apart(found, states["vae"], "vae.") == 0 and apart(found, states["text"], "text.") <= LOST["int8"]
    assert bytes(found["tokenizer.file"].to(torch.uint8).tolist()) == (house.disk / "spiece.model").read_bytes()
    card = card_from_json(metadata["card"])
    assert card == replace(SMALL, name="wan2.1-t2v-14b-256x2")
    assert metadata["scheme"] == "w8a8/1" and "Apache-2.0" in metadata["licence"]


@pytest.mark.parametrize("precision", LOST)
def test_each_precision_has_its_usual_error_and_loads(precision, house, states):
    write_original(states["transformer"], house.disk)
    found, metadata = import_files(house, house.disk, *BASE, "--precision", precision)
    assert apart(found, states["transformer"], "transformer.") <= LOST[precision]
    report = json.loads(metadata["report"])
    assert report["transformer.blocks.1.ffn.2.weight"][0] == precision
    assert report["transformer.head.head.weight"][0] == "bf16"
    for name, (_, error) in report.items():
        prefix, _, own = name.partition(".")
        weight = states[prefix][own]
        assert error == pytest.approx(float((found[name] - weight).norm() / weight.norm()), abs=1e-4)
    package = open_package(next(house.models.glob("*.safetensors")))
    load_quantized(package.card, package.part("transformer."))
    load_quantized(TEXT, package.part("text."))


def test_two_experts_are_known_by_their_names_or_by_options(house, states):
    for folder, state in (("high_noise_model", "transformer"), ("low_noise_model", "expert")):
        (house.disk / folder).mkdir()
        save_file(states[state], house.disk / folder / "diffusion_pytorch_model.safetensors")
    by_name, metadata = import_files(house, house.disk)
    card = card_from_json(metadata["card"])
    assert card.experts == 2 and card.boundary == 0.875 and card.guidance == (4.0, 3.0)
    assert apart(by_name, states["transformer"], "transformer.") <= LOST["int8"]
    assert apart(by_name, states["expert"], "transformer_2.") <= LOST["int8"]
    for file, state in (("a", "transformer"), ("b", "expert")):
        save_file(states[state], house.disk / f"{file}.safetensors")
    parts = (house.disk / "umt5.safetensors", house.disk / "vae.safetensors", house.disk / "spiece.model")
    asked, _ = import_files(
        house,
        *parts,
        "--low",
        house.disk / "a.safetensors",
        "--high",
        house.disk / "b.safetensors",
        "--name",
        "turned",
    )
    assert apart(asked, states["transformer"], "transformer_2.") <= LOST["int8"]


def test_a_lora_is_merged_before_anything_is_rounded(house, states):
    generator = torch.Generator().manual_seed(5)
    up, down = torch.randn(256, 4, generator=generator) / 8, torch.randn(4, 512, generator=generator) / 8
    layer = "diffusion_model.blocks.0.ffn.2"
    save_file({f"{layer}.lora_B.weight": up, f"{layer}.lora_A.weight": down}, house.disk.parent / "lora.safetensors")
    write_original(states["transformer"], house.disk)
    found, metadata = import_files(house, house.disk, *BASE, "--lora", f"{house.disk.parent / 'lora.safetensors'}:0.5")
    wanted = dict(states["transformer"])
    wanted["blocks.0.ffn.2.weight"] = wanted["blocks.0.ffn.2.weight"] + 0.5 * up @ down
    assert apart(found, wanted, "transformer.") <= LOST["int8"]
    assert json.loads(metadata["loras"])[0]["strength"] == 0.5


def test_a_lora_that_distils_makes_a_distilled_model(house, states):
    generator = torch.Generator().manual_seed(5)
    layer = "diffusion_model.blocks.0.ffn.2"
    pair = {f"{layer}.lora_up.weight": torch.randn(256, 4, generator=generator) / 8}
    pair |= {f"{layer}.lora_down.weight": torch.randn(4, 512, generator=generator) / 8}
    lora = house.disk.parent / "Wan21_T2V_14B_lightx2v_cfg_step_distill_lora_rank32.safetensors"
    save_file(pair, lora)
    house.write(states["transformer"])
    _, metadata = import_files(house, house.disk, *BASE, "--lora", lora)
    card = card_from_json(metadata["card"])
    assert (card.steps, card.passes, card.solver) == (4, 1, "euler")


def test_a_distilled_file_is_sampled_as_it_was_made(house, states):
    save_file(states["transformer"], house.disk / "wan2.1_lightx2v_4step.safetensors")
    _, metadata = import_files(house, house.disk, *BASE)
    card = card_from_json(metadata["card"])
    assert (card.name, card.steps, card.guidance, card.passes, card.solver) == (
        "wan2.1-t2v-14b-256x2", 4, (1.0,), 1, "euler",
    )  # fmt: skip


def test_the_encoder_in_hugging_faces_names_with_its_vocabulary_inside(house, states, spiece):
    whole = {f"{own}.weight": f"{other}.weight" for own, other, _ in _TEXT_WHOLE}
    inside = {own: other for own, other, _ in _TEXT_BLOCK}
    named = {}
    for name, tensor in states["text"].items():
        words = name.removesuffix(".weight").split(".", 2)
        block = f"encoder.block.{words[1]}.{inside[words[2]]}.weight" if words[0] == "blocks" else ""
        named[whole.get(name) or block] = tensor
    named["encoder.embed_tokens.weight"] = named["shared.weight"].clone()  # tied, and in some files twice
    inside_it = torch.tensor(list(spiece()), dtype=torch.uint8)
    save_file(named | {"spiece_model": inside_it}, house.disk / "umt5.safetensors")
    (house.disk / "spiece.model").unlink()
    coder = {diffusers_coder_name(name, "wan2.1"): tensor for name, tensor in states["vae"].items()}
    save_file(coder, house.disk / "vae.safetensors")
    write_original(states["transformer"], house.disk)
    found, _ = import_files(house, house.disk, *BASE)
    assert apart(found, states["text"], "text.") <= LOST["int8"] and apart(found, states["vae"], "vae.") == 0
    assert "tokenizer.file" in found


def test_a_pickle_is_converted_in_a_sandbox(house, states):
    (house.disk / "vae.safetensors").unlink()
    torch.save(states["vae"], house.disk / "Wan2.1_VAE.pth")
    write_original(states["transformer"], house.disk)
    found, _ = import_files(house, house.disk, *BASE)
    assert apart(found, states["vae"], "vae.") == 0


def test_the_package_records_its_sources(house, states):
    import hashlib

    file = write_original(states["transformer"], house.disk)
    _, metadata = import_files(house, house.disk, *BASE, "--licence", "ours alone", "--origin", "a drive from B")
    sources = {each["file"]: each for each in json.loads(metadata["sources"])}
    assert sources["dit.safetensors"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(sources) == 3 and metadata["licence"] == "ours alone" and metadata["origin"] == "a drive from B"


def test_a_killed_import_resumes(house, states, tmp_path):
    write_original(states["transformer"], house.disk)
    slow = tmp_path / "slow.py"  # killed in the middle of the fifth group
    slow.write_text(
        "import os, sys\nfrom models.importing import __main__ as importing\nseen = []\nconvert = importing.converted\n"
        "def stop(network, names):\n    seen.append(names)\n"
        "    if len(seen) == 5: os.kill(os.getpid(), 9)\n    return convert(network, names)\n"
        "importing.converted = stop\nsys.exit(importing.main(sys.argv[1:]))\n"
    )
    command = [sys.executable, str(slow), str(house.models), str(house.disk), *BASE]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(command, env=env, capture_output=True).returncode == -signal.SIGKILL
    (work,) = house.models.iterdir()
    with open(work / "package.part", "ab") as part:  # and a write that was cut off
        part.write(b"torn")
    with open(work / "journal.jsonl", "ab") as journal:
        journal.write(b'{"group": "torn')
    code, events = house.run(house.disk, *BASE)
    resumed = next(event for event in events if event["event"] == "resumed")
    assert code == 0 and 0 < resumed["done"] < resumed["of"]
    went_on = Path(events[-1]["path"]).read_bytes()
    os.rename(events[-1]["path"], tmp_path / "first.safetensors")
    code, events = house.run(house.disk, *BASE)
    assert code == 0 and not any(event["event"] == "resumed" for event in events)
    assert Path(events[-1]["path"]).read_bytes() == went_on
    assert [path.name for path in house.models.iterdir()] == [Path(events[-1]["path"]).name]


def test_other_options_start_again(house, states, tmp_path):
    write_original(states["transformer"], house.disk)
    from models.importing import __main__ as importing

    def stop(network, names):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        done = []
        convert = importing.converted
        patch.setattr(
            importing, "converted", lambda n, m: stop(n, m) if len(done) == 3 else done.append(1) or convert(n, m)
        )
        house.run(house.disk, *BASE)
    _, events = house.run(house.disk, *BASE, "--precision", "int4")
    assert events[-1]["event"] == "done" and not any(event["event"] == "resumed" for event in events)


def test_memory_is_bounded_by_the_largest_tensor(house, tmp_path):
    """A network of 230 MB in float32, whose largest tensor has 17 MB, in 150 MB more than the program."""
    wide = replace(SMALL, dim=1024, ffn=4096, heads=8, layers=4)
    network = Transformer(wide).requires_grad_(False).state_dict()
    save_file({name: t.normal_() for name, t in network.items()}, tmp_path / "dit.safetensors")
    assert (tmp_path / "dit.safetensors").stat().st_size > 200e6
    code = (
        "import resource, sys\nfrom models.importing.__main__ import main\n"
        "from models.loading.quantize import quantize\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak()\ncode = main(sys.argv[1:])\nprint(peak() - before)\nsys.exit(code)\n"
    )
    command = [sys.executable, "-c", code, house.models, tmp_path / "dit.safetensors", house.disk, *BASE]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    # The whole group of a block in int8 (17 MB), a matrix of 4 million in float32 a few times over, and torch's start.
    assert int(ran.stdout.splitlines()[-1]) < 150e6


@pytest.mark.parametrize(
    "base", ["wan2.1-i2v-14b-480p", "wan2.1-flf2v-14b", "wan2.1-vace-14b", "wan2.1-fun-control-14b-v1.1",
             "wan2.1-fun-camera-14b", "wan2.2-ti2v-5b"],
)  # fmt: skip
def test_every_kind_of_transformer_imports_and_loads(base, house):
    """Nine blocks, so that five of them stay in bf16, with the VACE blocks that add to them."""
    hinted = (0, 3, 6) if CARDS[base].vace_layers else ()
    card = replace(CARDS[base], dim=128, ffn=128, heads=1, layers=9, text_dim=64, vace_layers=hinted)
    generator = torch.Generator().manual_seed(6)
    state = {name: torch.randn(t.shape, generator=generator) / 8 for name, t in Transformer(card).state_dict().items()}
    file = house.write(state, "x.safetensors")
    found, metadata = import_files(house, file, "--card", base, "--partial", "--name", "x")
    assert apart(found, state, "transformer.") <= LOST["int8"]
    imported = card_from_json(metadata["card"])
    assert imported == replace(card, name=f"{base}-128x9")
    package = open_package(house.models / "x.safetensors")
    load_quantized(imported, package.part("transformer."))
    forms = {name: form for name, (form, _) in json.loads(metadata["report"]).items()}
    assert forms["transformer.blocks.1.ffn.0.weight"] == "bf16" and forms["transformer.blocks.4.ffn.0.weight"] == "int8"
