"""Write the package that ships from trained networks, and TRAINING.md, the record of its training, next to it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from models.card import Card
from models.loading.quantize import quantize
from models.training import run as training_run
from models.training.shots import scenes
from models.training.shots import shoot as footage
from models.vae.previs import VAE
from models.weight_files.package_header import SCHEME_INT8, card_to_json
from models.weight_files.tensors import open_package, save

LICENCE = "Apache-2.0"
PREDICTS = {"velocity": "the velocity of the flow", "change": "the difference between the film and its previs"}


def write(card: Card, vae: VAE, runs: Mapping[str, Path], calls: Sequence[Mapping], out: Path) -> None:
    """Write the package `out`, and curves.png in its folder.

    runs: the files of the runs by what they trained; "transformer" gives the network and "detail", if present, the
    detail network; the others only their record. calls: the record of each call of the training (`call`).
    """
    network, _ = training_run.read(runs["transformer"])
    facts = {name: training_run.read(path)[1] for name, path in runs.items()}
    training = {
        "shots": sum(each["shots"] for each in calls),
        "first_seed": scenes.TEST_SEEDS,
        "calls": [each["first_seed"] for each in calls],
        "pixels": f"{footage.WIDTH}x{footage.HEIGHT}",
        "frames": [footage.SHORT, footage.LONG],
        "runs": {name: _spent(run) for name, run in facts.items()},
        "hardware": ", ".join(dict.fromkeys(each["hardware"] for each in calls)),
        "torch": torch.__version__,
    }
    tensors = {f"transformer.{name}": tensor for name, tensor in quantize(network, card).items()}
    for name, tensor in vae.state_dict().items():
        dtype = torch.float32 if name in ("mean", "std") else torch.bfloat16
        tensors[f"vae.{name}"] = tensor.detach().to("cpu", dtype).contiguous()
    if "detail" in runs:
        for name, tensor in training_run.read(runs["detail"])[0].items():
            tensors[f"detail.{name}"] = tensor.to(torch.bfloat16).contiguous()
    metadata = {"scheme": SCHEME_INT8, "licence": LICENCE}
    metadata |= {"card": card_to_json(card), "training": json.dumps(training)}
    out.parent.mkdir(parents=True, exist_ok=True)
    save(out, tensors, metadata)
    _curves({name: run["history"] for name, run in facts.items()}, out.with_name("curves.png"))


def call(first_seed: int, shots: int, device: str) -> dict:
    """The record of a call: its first seed, the number of shots it rendered, and its hardware."""
    return {"first_seed": first_seed, "shots": shots, "hardware": _hardware(device)}


def _spent(facts: dict) -> dict:
    return {"steps": facts["step"], "minutes": round(facts["seconds"] / 60, 1), "last": facts["history"][-1]}


def record(package: Path, scores: Mapping[str, float]) -> None:
    """Write TRAINING.md next to a package: how it was trained, and its scores (evaluate.check) on test shots."""
    opened = open_package(package)
    training, card = json.loads(opened.metadata["training"]), opened.card
    lengths = " or ".join(map(str, training["frames"]))
    rows = "\n".join(
        f"| {name} | {run['steps']} | {run['minutes']} | loss {run['last']['loss']}"
        + (f", PSNR {run['last']['psnr']} dB on its last crops |" if "psnr" in run["last"] else " |")
        for name, run in training["runs"].items()
    )
    package.with_name("TRAINING.md").write_text(f"""# How {package.name} was trained

All of its training data was rendered by `models/stage/render.py`: {training["shots"]} random directed shots of
`models/training/shots/scenes.py`, seeds from {training["first_seed"]} on, {training["pixels"]} pixels, {lengths}
frames. Seeds below {training["first_seed"]} are reserved for testing.{_in_calls(training.get("calls", ()))}

The transformer is the card `{card.name}`: width {card.dim}, {card.layers} layers. It predicts
{PREDICTS[card.prediction]}.

| trained | steps | minutes | at the end |
|---|---|---|---|
{rows}

Hardware: {training["hardware"]}; torch {training["torch"]}. Licence of the weights: {LICENCE}.

## Scores on test shots

PSNR in dB against the stage's film, mean of {scores["shots"]} test shots, {scores["steps"]} steps:

| film | dB |
|---|---|
| of the network | {scores["film"]} |
| the previs alone, its input | {scores["previs"]} |
| the stage's film through the autoencoder and the detail network: the most that can be reached | {scores["ceiling"]} |
| of the network without control films, from camera rays and tokens alone | {scores["blind"]} |

![Learning curves](curves.png)

Made by `python -m models.training --work FOLDER` (see its `--help` for the budgets); scored by
`python -m models.training.evaluate`.
""")


def _in_calls(first_seeds: Sequence[int]) -> str:
    """A paragraph about a training in several calls; empty for one call."""
    if len(first_seeds) < 2:
        return ""
    seeds = " and ".join(filter(None, (", ".join(map(str, first_seeds[:-1])), str(first_seeds[-1]))))
    return f"""

It was trained in {len(first_seeds)} calls of the command, each with its own shots: seeds from {seeds} on. Each call
resumed from the averaged weights, in bfloat16, with a new warm-up of the optimiser. The curves span all calls."""


def _hardware(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    models = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{torch.get_num_threads()} threads of {models[0] if models else platform.processor()}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _curves(histories: Mapping[str, list[dict]], path: Path) -> None:
    """Plot the learning curves, one panel a run: PSNR where it was measured, else the loss, over minutes."""
    wide, high, edge = 400, 260, 40
    sheet = Image.new("RGB", (len(histories) * wide, high), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (name, rows) in enumerate(histories.items()):
        key, unit = ("psnr", "PSNR dB") if "psnr" in rows[-1] else ("loss", "loss")
        x = [row["minutes"] for row in rows]
        y = [row[key] for row in rows]
        low, top, last = min(y), max(max(y), min(y) + 1e-6), max(x[-1], 1e-6)
        left, right = column * wide + edge, (column + 1) * wide - edge
        draw.rectangle((left, edge, right, high - edge), outline="grey")
        points = [
            (left + (right - left) * a / last, high - edge - (high - 2 * edge) * (b - low) / (top - low))
            for a, b in zip(x, y, strict=True)
        ]
        draw.line(points, fill=(30, 90, 200), width=2)
        draw.text((left, 8), f"{name}: {unit} {y[-1]:g} after {last:g} min", fill="black")
        draw.text((left, 22), f"from {low:g} to {top:g}", fill="grey")
    sheet.save(path)


SHIPPED = Path(__file__).parents[1] / "weights" / "previs.safetensors"
