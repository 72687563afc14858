"""Trained networks -> the package that ships, and the record beside it of how it came to be."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import torch

from models.card import Card
from models.header import card_to_json
from models.quantize import SCHEME, quantize
from models.training import footage, scenes, state
from models.vae import VAE
from models.weights import save

LICENCE = "Apache-2.0"


def write(card: Card, vae: VAE, vae_run: Path, fit_run: Path, shots: int, out: Path) -> None:
    """Write the package `out`, and TRAINING.md and curves.png in its folder."""
    network, facts = state.read(fit_run)
    _, vae_facts = state.read(vae_run)
    training = {
        "shots": shots,
        "first_seed": scenes.TEST_SEEDS,
        "pixels": [footage.HEIGHT, footage.WIDTH],
        "frames": [footage.SHORT, footage.LONG],
        "vae": _spent(vae_facts),
        "transformer": _spent(facts),
        "hardware": _hardware(),
        "torch": torch.__version__,
    }
    tensors = {f"transformer.{name}": tensor for name, tensor in quantize(network, card).items()}
    for name, tensor in vae.state_dict().items():
        kept = torch.float32 if name in ("mean", "std") else torch.bfloat16
        tensors[f"vae.{name}"] = tensor.detach().to("cpu", kept).contiguous()
    metadata = {"scheme": SCHEME, "licence": LICENCE}
    metadata |= {"card": card_to_json(card), "training": json.dumps(training)}
    out.parent.mkdir(parents=True, exist_ok=True)
    save(out, tensors, metadata)
    _curves(vae_facts["history"], facts["history"], out.with_name("curves.png"))
    out.with_name("TRAINING.md").write_text(_record(card, training, out))


def _spent(facts: dict) -> dict:
    return {"steps": facts["step"], "minutes": round(facts["seconds"] / 60, 1), "last": facts["history"][-1]}


def _hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    models = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{torch.get_num_threads()} threads of {models[0] if models else platform.processor()}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _record(card: Card, training: dict, out: Path) -> str:
    vae, net, first = training["vae"], training["transformer"], training["first_seed"]
    (high, wide), lengths = training["pixels"], " or ".join(map(str, training["frames"]))
    width = f"`{card.name}`: width {card.dim}, {card.layers} layers"
    return f"""# How {out.name} was trained

Everything it has seen was rendered by `models/stage.py`: {training["shots"]} random directed shots of
`models/training/scenes.py`, seeds from {first} on, {wide}x{high} pixels, {lengths} frames.
Seeds below {first} are kept for testing.

| network | steps | minutes | at the end |
|---|---|---|---|
| autoencoder | {vae["steps"]} | {vae["minutes"]} | PSNR {vae["last"]["psnr"]} dB on training crops |
| transformer ({width}) | {net["steps"]} | {net["minutes"]} | loss {net["last"]["loss"]} |

Hardware: {training["hardware"]}; torch {training["torch"]}. Licence of the weights: {LICENCE}.

![Learning curves](curves.png)

Made by `python -m models.training --work FOLDER --vae-minutes {vae["minutes"]:g} --minutes {net["minutes"]:g}`.
"""


def _curves(vae: list[dict], network: list[dict], path: Path) -> None:
    """Both learning curves as a picture: PSNR of the autoencoder, loss of the transformer, over minutes."""
    from PIL import Image, ImageDraw

    wide, high, edge = 480, 260, 40
    sheet = Image.new("RGB", (2 * wide, high), "white")
    draw = ImageDraw.Draw(sheet)
    curves = (("autoencoder, PSNR dB", vae, "psnr"), ("transformer, loss", network, "loss"))
    for column, (name, rows, key) in enumerate(curves):
        x = [row["minutes"] for row in rows]
        y = [row[key] for row in rows]
        low, top, last = min(y), max(max(y), min(y) + 1e-6), max(x[-1], 1e-6)
        left = column * wide + edge
        box = (left, edge, (column + 1) * wide - edge, high - edge)
        draw.rectangle(box, outline="grey")
        points = [
            (box[0] + (box[2] - box[0]) * a / last, box[3] - (box[3] - box[1]) * (b - low) / (top - low))
            for a, b in zip(x, y, strict=True)
        ]
        draw.line(points, fill=(30, 90, 200), width=2)
        draw.text((left, 12), f"{name}: {y[-1]:g} after {last:g} minutes (range {low:g} to {top:g})", fill="black")
    sheet.save(path)
