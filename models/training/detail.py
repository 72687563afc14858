"""Train the detail network (models/vae/detail.py), which sharpens a film with its previs, on the package's own films.

An example is a shot of the footage: its film and previs, both after the autoencoder, and the film as the trained
transformer makes it in a few steps. Three crops of four are of the latter, so that its blur is corrected too.
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
from models.training.run import UNLIMITED, Run, Session
from models.training.shots.latents import pixels
from models.vae.detail import Detail

CROP, PAIRS = 96, 16  # pixels; pairs of consecutive frames in a step
MADE = 0.75  # share of crops from films of the transformer
EXAMPLES, EVERY_SECONDS, SHARE = 256, 5.0, 0.3  # at most; new ones are made this often, for this share of the time

Shot = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]  # a shot's pictures, uint8, and its latents
Example = dict[str, Tensor]  # film, previs; after the autoencoder: kept, plain; of the transformer: made. (T, 3, h, w)


def fit(
    model: Model,
    shots: Callable[[np.random.Generator], Shot],
    path: Path,
    minutes: float,
    seed: int = 0,
    session: Session = UNLIMITED,
) -> None:
    """Train for a budget of minutes in all, resuming the run that is saved at `path`."""
    torch.manual_seed(seed)
    device = model.device
    detail = Detail().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run(path, detail, minutes=minutes, lr=2e-3, average=0.995, session=session)
    run.ema.to(device)
    rng = np.random.default_rng([seed, run.step])
    examples: list[Example] = []
    made_at, interval, errors = -math.inf, 50 if device.type == "cpu" else 250, []
    while run.going:
        if time.monotonic() - made_at > EVERY_SECONDS and len(examples) < EXAMPLES:
            ends = time.monotonic() + SHARE * EVERY_SECONDS
            while not examples or time.monotonic() < ends:
                examples.append(example(model, *shots(rng), seed=len(examples)))
            made_at = time.monotonic()
        film, plain, previs, target = batch(examples, rng).to(device).flatten(1, 2).float() / 127.5 - 1
        with torch.autocast(device.type, torch.bfloat16):
            gap = detail(film, plain, previs) - target
        run.learn(loss_of(gap))
        errors.append(gap.detach().square().mean())
        if run.step % interval == 0 or not run.going:
            error = float(torch.stack(errors).mean())
            run.note(loss=round(error, 6), psnr=round(-10 * math.log10(error / 4), 2))
            errors.clear()


def loss_of(gap: Tensor) -> Tensor:
    """The loss of an error (2 N, 3, h, w) of pairs of frames: absolute, of edges, of flicker, and squared."""
    edges = (gap[..., 1:] - gap[..., :-1]).abs().mean() + (gap[..., 1:, :] - gap[..., :-1, :]).abs().mean()
    flicker = (gap[1::2] - gap[::2]).abs().mean()
    return gap.abs().mean() + 0.5 * edges + 0.3 * flicker + 4 * gap.square().mean()


@torch.no_grad()
def example(model: Model, film: Mapping[str, Tensor], latents: Mapping[str, Tensor], seed: int) -> Example:
    """A shot as an example, uint8 on the CPU."""
    card = model.card
    shown = {name: latents[name].to(model.device, torch.float32)[None] for name in ("rgb", "previs", "depth", "rays")}
    empty = torch.zeros_like(torch.cat([shown["rgb"], shown["rgb"][:, :4]], 1))  # no keyframe
    maps = torch.cat([empty, shown["previs"], shown["depth"], shown["rays"]], 1)
    extras = (
        ExtraInputs(reference=latents["sheet"].to(model.device)[None].float()) if card.reference_channels else NO_EXTRAS
    )
    inputs = NetworkInputs((latents["context"].to(model.device)[None],), maps, extras)
    levels = schedule(card.solver, card.steps, card.shift, card.whole_times, card.levels)
    start = noise(tuple(shown["rgb"].shape), seed).to(model.device)
    *_, last = denoise(GuidedVelocity(model.experts.network, card, inputs), start, levels, card.solver)
    films = {"kept": shown["rgb"], "plain": maps[:, PREVIS_LATENT], "made": last.latent}
    found = {name: torch.cat(list(model.vae.decode_stream(latent)), 2)[0] for name, latent in films.items()}
    found |= {"film": pixels(film["rgb"])[0], "previs": pixels(film["previs"])[0]}
    return {n: (x.transpose(0, 1) * 127.5 + 127.5).round().to("cpu", torch.uint8) for n, x in found.items()}


def batch(examples: list[Example], rng: np.random.Generator) -> Tensor:
    """Crops (4, PAIRS, 2, 3, CROP, CROP) uint8: film and previs after the autoencoder, the previs, the film."""
    crops = []
    for _ in range(PAIRS):
        of = examples[int(rng.integers(len(examples)))]
        frames, _, height, width = of["film"].shape
        t, y, x = (int(rng.integers(size - part + 1)) for size, part in ((frames, 2), (height, CROP), (width, CROP)))
        names = ("made" if rng.random() < MADE else "kept", "plain", "previs", "film")
        crops.append(torch.stack([of[name][t : t + 2, :, y : y + CROP, x : x + CROP] for name in names]))
    return torch.stack(crops, 1)
