"""Trains what finishes a film from its previs (models/vae/detail.py) on films that the package itself makes.

An example is a shot of the footage: its film and previs, both as the autoencoder gives them back, and the film as the
trained network makes it in a few steps. Three crops of four are of that: the network's own blur is to be mended too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.dit.wan_variants import NO_EXTRAS, ExtraInputs
from models.loading.load import Model
from models.rendering.guidance import PREVIS_LATENT, GuidedVelocity, NetworkInputs
from models.rendering.sampler import denoise, noise, schedule
from models.training.run import WHOLE, Run, Sitting
from models.training.shots.latents import pixels
from models.vae.detail import Detail

CROP, PAIRS = 96, 16  # a step sees so many pairs of frames that follow one another
MADE = 0.75  # of the crops are of films that the network made
EXAMPLES, EVERY_SECONDS, SHARE = 256, 5.0, 0.3  # at most; so often more are made, for such a share of the time

Shot = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]  # a shot's pictures, uint8, and its latents
Example = dict[str, Tensor]  # film, previs; as they come back: kept, plain; as the network makes it: made. (T, 3, h, w)


def fit(
    model: Model,
    shots: Callable[[np.random.Generator], Shot],
    path: Path,
    minutes: float,
    seed: int = 0,
    sitting: Sitting = WHOLE,
) -> None:
    """Train (or go on training) for a budget of minutes in all; the run is kept at `path`."""
    torch.manual_seed(seed)
    device = model.device
    detail = Detail().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run(path, detail, minutes=minutes, lr=2e-3, average=0.995, sitting=sitting)
    run.ema.to(device)
    rng = np.random.default_rng([seed, run.step])
    examples: list[Example] = []
    looked, often, errors = -math.inf, 50 if device.type == "cpu" else 250, []
    while run.going:
        if time.monotonic() - looked > EVERY_SECONDS and len(examples) < EXAMPLES:
            ends = time.monotonic() + SHARE * EVERY_SECONDS
            while not examples or time.monotonic() < ends:
                examples.append(example(model, *shots(rng), seed=len(examples)))
            looked = time.monotonic()
        film, plain, previs, true = batch(examples, rng).to(device).flatten(1, 2).float() / 127.5 - 1
        with torch.autocast(device.type, torch.bfloat16):
            gap = detail(film, plain, previs) - true
        run.learn(distance(gap))
        errors.append(gap.detach().square().mean())
        if run.step % often == 0 or not run.going:
            error = float(torch.stack(errors).mean())
            run.note(loss=round(error, 6), psnr=round(-10 * math.log10(error / 4), 2))
            errors.clear()


def distance(gap: Tensor) -> Tensor:
    """What is minimised of an error (2 N, 3, h, w) of pairs of frames: itself, its edges, and what of it flickers."""
    edges = (gap[..., 1:] - gap[..., :-1]).abs().mean() + (gap[..., 1:, :] - gap[..., :-1, :]).abs().mean()
    flicker = (gap[1::2] - gap[::2]).abs().mean()
    return gap.abs().mean() + 0.5 * edges + 0.3 * flicker + 4 * gap.square().mean()


@torch.no_grad()
def example(model: Model, film: Mapping[str, Tensor], latents: Mapping[str, Tensor], seed: int) -> Example:
    """A shot as an example, uint8 on the processor."""
    card = model.card
    shown = {name: latents[name].to(model.device, torch.float32)[None] for name in ("rgb", "previs", "depth", "rays")}
    empty = torch.zeros_like(torch.cat([shown["rgb"], shown["rgb"][:, :4]], 1))  # no keyframe is given
    maps = torch.cat([empty, shown["previs"], shown["depth"], shown["rays"]], 1)
    beside = (
        ExtraInputs(reference=latents["sheet"].to(model.device)[None].float()) if card.reference_channels else NO_EXTRAS
    )
    reading = NetworkInputs((latents["context"].to(model.device)[None],), maps, beside)
    levels = schedule(card.solver, card.steps, card.shift, card.whole_times, card.levels)
    start = noise(tuple(shown["rgb"].shape), seed).to(model.device)
    *_, last = denoise(GuidedVelocity(model.experts.network, card, reading), start, levels, card.solver)
    films = {"kept": shown["rgb"], "plain": maps[:, PREVIS_LATENT], "made": last.latent}
    found = {name: torch.cat(list(model.vae.decode_stream(latent)), 2)[0] for name, latent in films.items()}
    found |= {"film": pixels(film["rgb"])[0], "previs": pixels(film["previs"])[0]}
    return {n: (x.transpose(0, 1) * 127.5 + 127.5).round().to("cpu", torch.uint8) for n, x in found.items()}


def batch(examples: list[Example], rng: np.random.Generator) -> Tensor:
    """Crops (4, PAIRS, 2, 3, CROP, CROP) uint8: film and previs as they come back, the previs, the film as it is."""
    crops = []
    for _ in range(PAIRS):
        of = examples[int(rng.integers(len(examples)))]
        frames, _, height, width = of["film"].shape
        t, y, x = (int(rng.integers(size - part + 1)) for size, part in ((frames, 2), (height, CROP), (width, CROP)))
        names = ("made" if rng.random() < MADE else "kept", "plain", "previs", "film")
        crops.append(torch.stack([of[name][t : t + 2, :, y : y + CROP, x : x + CROP] for name in names]))
    return torch.stack(crops, 1)
