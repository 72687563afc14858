"""PSNR of a package on test shots, which it was not trained on.

Four numbers a shot, in dB against the stage's film: the network's film; its input, the previs (the score of adding
nothing); the stage's film through autoencoder and detail network (the most the network can reach); and the network's
film without control films, to see what camera rays and tokens carry alone.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from models.controls.films import SAMPLES
from models.events import Settings
from models.loading.load import Model, load
from models.rendering.conditioning import prepare_previs
from models.rendering.guidance import NetworkInputs
from models.rendering.render import decode, denoise_film, initial_state
from models.stage import render as stage
from models.stage.blocking import Array, Blocking
from models.training.release import SHIPPED
from models.training.shots import scenes
from models.training.shots import shoot as footage
from models.training.shots.latents import pixels

PREVIS_CHANNELS = slice(20, 52)  # of NetworkInputs.maps: after mask and keyframe, the latents of previs and depth


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.evaluate", description=__doc__)
    parser.add_argument("--package", type=Path, default=SHIPPED)
    parser.add_argument("--shots", type=int, default=6)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(json.dumps(check(options.package, options.shots, options.steps, options.device)))


def check(package: Path, shots: int, steps: int, device: str = "cpu", ends: float = math.inf) -> dict[str, float]:
    """Mean PSNR in dB over the first `shots` test seeds: film, previs, ceiling, blind (without control films).

    Except for the first, no shot is started after `ends` (time.monotonic()).
    """
    model = load(package, device)
    rows: list[list[float]] = []
    for seed in range(shots):
        if rows and time.monotonic() > ends:
            break
        blocking = scenes.shot(seed, footage.SHORT, footage.HEIGHT, footage.WIDTH)
        frames = list(stage.render(blocking, samples=SAMPLES))
        true, previs = (np.stack([getattr(f, name) for f in frames]) for name in ("rgb", "previs"))
        with torch.inference_mode():
            inputs = prepare_previs(model, blocking)
            assert inputs.maps is not None
            maps = inputs.maps.clone()
            maps[:, PREVIS_CHANNELS] = 0
            blind = replace(inputs, maps=maps, previs=None)
            film = pixels(torch.from_numpy(np.round(true * 255).astype(np.uint8)))
            latent = model.vae.encode(film.to(model.device, next(model.vae.parameters()).dtype))
            ceiling = np.concatenate(list(decode(model, latent, inputs=inputs)))
            films = [_film(model, r, blocking, Settings(steps, seed)) for r in (inputs, blind)]
        rows.append([psnr(f, true) for f in (films[0], previs, ceiling, films[1])])
    means = np.mean(rows, 0)
    return {"shots": len(rows), "steps": steps} | {
        name: round(float(v), 2) for name, v in zip(("film", "previs", "ceiling", "blind"), means, strict=True)
    }


def psnr(film: Array, true: Array) -> float:
    """Peak signal-to-noise ratio in dB of pictures in 0..1."""
    return float(-10 * np.log10(max(np.mean((film - true) ** 2), 1e-10)))


def _film(model: Model, inputs: NetworkInputs, blocking: Blocking, settings: Settings) -> Array:
    levels, state = initial_state(model, blocking, settings)
    *_, state = denoise_film(model, inputs, levels, settings, state)
    return np.concatenate(list(decode(model, state.latent, inputs=inputs)))


if __name__ == "__main__":
    main()
