"""Train the autoencoder on random crops of footage: pictures, previs and depth, since it encodes all three."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from models.training.run import UNLIMITED, Run, Session
from models.vae.previs import VAE, group

CROP, FRAMES, BATCH = 96, 9, 8
GPU_CROP, GPU_BATCH = 128, 32  # with less, a GPU is idle half of the time
KINDS, SHARES = ("rgb", "previs", "depth"), (0.6, 0.25, 0.15)
NOISE = 0.08  # on latents of about unit variance: the decoder must tolerate noise that the sampler leaves
LATENT_WEIGHT = 1e-3  # of the latents' mean square in the loss: they must not grow to make the noise irrelevant


Crops = Callable[[np.random.Generator], Tensor]  # gives random crops (B, 3, FRAMES, side, side) in -1..1


def fit(crops: Crops, path: Path, minutes: float, device: str, seed: int = 0, session: Session = UNLIMITED) -> None:
    """Train the whole autoencoder for a budget of minutes in all, resuming the run that is saved at `path`."""
    torch.manual_seed(seed)
    vae = VAE().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not path.exists():
        vae.start_from_components(cells(crops, np.random.default_rng(seed)).to(device))
    run = Run(path, vae, minutes=minutes, lr=1.5e-3, average=0.99, session=session)
    if run.going and isinstance(run.ema, VAE):  # the measured statistics of its latents become invalid
        run.ema.mean.zero_()
        run.ema.std.fill_(1.0)
    _train(run, vae, crops, device, seed)


def polish(
    crops: Crops, vae: VAE, path: Path, minutes: float, device: str, seed: int = 1, session: Session = UNLIMITED
) -> None:
    """Train the decoder of a finished autoencoder further; the latents, and networks trained on them, stay valid.

    The moving average of the run replaces the decoder of `vae`.
    """
    torch.manual_seed(seed)
    for part in (vae.analysis, vae.encoder):
        part.requires_grad_(False)
    half = nn.ModuleDict({"synthesis": vae.synthesis, "decoder": vae.decoder})
    run = Run(path, half, minutes=minutes, lr=1e-3, average=0.99, session=session)
    _train(run, vae, crops, device, seed)
    half.load_state_dict(run.ema.state_dict())


def _train(run: Run, vae: VAE, crops: Crops, device: str, seed: int) -> None:
    run.ema.to(device)
    rng = np.random.default_rng([seed, run.step])
    interval = 50 if device == "cpu" else 250
    while run.going:
        groups = group(crops(rng).to(device))
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            z = vae.code(groups)
            seen = vae.film(z + NOISE * torch.randn_like(z))
        loss, error = loss_of(seen, groups)
        run.learn(loss + LATENT_WEIGHT * z.square().mean())
        if run.step % interval == 0 or not run.going:
            run.note(loss=round(loss.item(), 5), psnr=round(-10 * math.log10(error.item() / 4), 2))


def cells(crops: Crops, rng: np.random.Generator, batches: int = 12) -> Tensor:
    """Cells (n, 768) of random crops, as inputs of the autoencoder's linear path."""
    films = torch.cat([crops(rng).cpu() for _ in range(batches)])
    return F.pixel_unshuffle(group(films).flatten(0, 1), 8).permute(0, 2, 3, 1).flatten(0, 2)


def loss_of(seen: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and the mean squared error of groups (B, F, 12, h, w) in -1..1.

    Absolute error on pixels, on their differences across, down and over time (edges and motion), and on an 8x
    smaller picture (colour and light).
    """
    gap = seen - true
    edges = (gap[..., 1:] - gap[..., :-1]).abs().mean() + (gap[..., 1:, :] - gap[..., :-1, :]).abs().mean()
    motion = (gap[:, :, 3:] - gap[:, :, :-3]).abs().mean()
    color = F.avg_pool2d(gap.flatten(0, 1), 8).abs().mean()
    square = gap.square().mean()
    return gap.abs().mean() + 0.5 * edges + 0.3 * motion + color + 2 * square, square.detach()


def batch(footage: Path, rng: np.random.Generator) -> Tensor:
    """BATCH random crops (B, 3, FRAMES, CROP, CROP) in -1..1."""
    return torch.stack([_crop(footage, rng) for _ in range(BATCH)])


def _crop(footage: Path, rng: np.random.Generator) -> Tensor:
    files = _listing(footage)
    with safe_open(files[rng.integers(len(files))], "np") as file:
        kind = rng.choice(KINDS, p=SHARES)
        view = file.get_slice(kind)
        frames, height, width = view.get_shape()[:3]
        room = ((frames, FRAMES), (height, CROP), (width, CROP))
        t, y, x = (int(rng.integers(size - part + 1)) for size, part in room)
        pixels = view[t : t + FRAMES, y : y + CROP, x : x + CROP]
    if pixels.ndim == 3:
        pixels = np.repeat(pixels[..., None], 3, -1)
    if rng.random() < 0.5:
        pixels = pixels[:, :, ::-1]
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(3, 0, 1, 2).float() / 127.5 - 1


_listed: dict[Path, tuple[float, list[Path]]] = {}


def _listing(folder: Path) -> list[Path]:
    """The folder's finished files, listed again every 30 s: footage arrives during training."""
    when, files = _listed.get(folder, (-1e9, []))
    if time.monotonic() - when > 30 or not files:
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise FileNotFoundError(f"no footage in {folder}: run `python -m models.training.shots.shoot {folder}`")
        _listed[folder] = (time.monotonic(), files)
    return files
