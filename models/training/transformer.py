"""Train the transformer on encoded shots by rectified flow, with each condition dropped independently at times.

x_s = (1 - s) x0 + s noise at t = 1000 s; the network predicts v = noise - x0, or x0 - previs.
s is logit-normal, then shifted towards noise by the card's shift as in sampling (Esser et al. 2024, eq. 23).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.card import Card
from models.dit.wan import Transformer
from models.dit.wan_variants import ExtraInputs
from models.rendering.guidance import PREVIS_LATENT
from models.training.run import UNLIMITED, Run, Session, read
from models.training.shots.latents import Shots

CELLS = 4 * 5 * 16 * 28  # latent cells a step: four short shots, two long ones
GPU_BATCHES = 12  # times CELLS in a step on a GPU, which would be idle with fewer tokens
# Drop rates. Conditions determine the film so densely that a network which often gets none wastes capacity on guessing.
DROP = {"previs": 0.08, "depth": 0.15, "rays": 0.2, "context": 0.1, "sheet": 0.3}
DROP_ALL, KEYFRAME = 0.02, 0.25


def fit(
    shots: Shots,
    path: Path,
    card: Card,
    minutes: float,
    device: str,
    lr: float = 4e-4,
    seed: int = 0,
    fuse: bool = False,
    start: Path | None = None,
    session: Session = UNLIMITED,
) -> None:
    """Train for a budget of minutes in all, resuming the run that is saved at `path`. A new run may start from the
    averaged weights of the run at `start`, except for its head, which starts at zero.

    `fuse` compiles the blocks first: about a minute, then half the time a step.
    """
    torch.manual_seed(seed)
    network = Transformer(card)
    network.init_weights(seed)
    if start is not None and not path.exists():
        learnt, _ = read(start)
        network.load_state_dict({k: v for k, v in learnt.items() if not k.startswith("head.head.")}, strict=False)
    network.to(device)
    run = Run(path, network, minutes=minutes, lr=lr, session=session)
    if not run.going:
        return
    run.ema.to(device)
    if fuse:
        torch._dynamo.config.suppress_errors = True  # what cannot be compiled runs without
        for block in network.blocks:  # compiled once for each length of shots
            block.compile(dynamic=False)
    generator = torch.Generator(device).manual_seed(seed * 1_000_003 + run.step)
    rng = np.random.default_rng([seed, run.step])
    losses: list[Tensor] = []
    cells, interval = (CELLS, 50) if device == "cpu" else (CELLS * GPU_BATCHES, 500)
    while run.going:
        batch = shots.batch(cells, rng)
        x0 = batch["rgb"]
        size = len(x0)
        s = torch.sigmoid(torch.randn(size, generator=generator, device=device))
        s = card.shift * s / (1 + (card.shift - 1) * s)
        noise = torch.randn(x0.shape, generator=generator, device=device)
        level = s[:, None, None, None, None]
        x = (1 - level) * x0 + level * noise
        given, context, extras = drop(batch, card, generator)
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            out = network(torch.cat([x, given], 1), 1000 * s, context, extras)
        loss = error(card, out.float(), x0, noise, level, given[:, PREVIS_LATENT])
        run.learn(loss)
        losses.append(loss.detach())
        if run.step % interval == 0 or not run.going:
            run.note(loss=round(float(torch.stack(losses).mean()), 5))
            losses.clear()


def error(card: Card, out: Tensor, x0: Tensor, noise: Tensor, level: Tensor, shown: Tensor) -> Tensor:
    """Mean squared error of a network's output (B, 16, F, H, W) at noise `level`, with `shown` the previs.

    With prediction "change", low noise levels weigh up to five times more: they decide the edges.
    """
    if card.prediction == "velocity":
        return (out - (noise - x0)).square().mean()
    return ((out + shown - x0).square() / (level.square() + 0.25)).mean()


def worth_compiling(device: str, minutes: float) -> bool:
    """Whether torch.compile can fuse the network's small operations, half of its time, and the budget allows for it.

    On the CPU that needs a C++ compiler. Compiling takes two minutes itself.
    """
    return minutes >= 4 if device != "cpu" else minutes >= 10 and shutil.which("g++") is not None


def drop(batch: dict[str, Tensor], card: Card, generator: torch.Generator) -> tuple[Tensor, Tensor, ExtraInputs]:
    """The network's conditions with some dropped: (B, 76, F, H, W) in the order of the card, the context, and the model
    sheet where the card reads one.
    """
    size = len(batch["rgb"])

    def keep_mask(chance: float) -> Tensor:
        return (torch.rand(size, generator=generator, device=generator.device) >= chance).float()

    anything = keep_mask(DROP_ALL)
    keep = {name: keep_mask(chance) * anything for name, chance in DROP.items()}
    known = keep_mask(1 - KEYFRAME) * anything
    pieces = [_scale(batch[name], known) for name in ("mask", "key")]
    pieces += [_scale(batch[name], keep[name]) for name in ("previs", "depth", "rays")]
    sheet = batch["sheet"] * keep["sheet"][:, None, None, None] if card.reference_channels else None
    return torch.cat(pieces, 1), batch["context"] * keep["context"][:, None, None], ExtraInputs(reference=sheet)


def _scale(x: Tensor, keep: Tensor) -> Tensor:
    return x * keep[:, None, None, None, None]
