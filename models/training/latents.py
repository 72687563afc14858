"""Footage -> what the transformer learns from: latents of the film and of its controls, rays and tokens, per shot.

Encoding happens once, with the finished autoencoder; afterwards an hour of training reads a few hundred MB.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from models import conditions
from models.card import PREVIS
from models.training import footage, scenes
from models.training.state import nothing
from models.vae import VAE

FILMS = ("rgb", "previs", "depth")
LOOK_SECONDS = 20.0


def encode_all(films: Path, folder: Path, vae: VAE, device: str, seconds: float = math.inf) -> None:
    """Encode every finished film of a folder that is not yet encoded, or as many as there is time for, one at least."""
    folder.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + seconds
    for film in sorted(films.glob("*.safetensors")):
        final = folder / film.name
        if final.exists():
            continue
        if time.monotonic() > ends and any(folder.glob("*.safetensors")):
            return
        part = final.with_suffix(f".{os.getpid()}.part")
        save_file(encode(int(film.stem), load_file(film), vae, device), part)
        os.replace(part, final)


@torch.inference_mode()
def encode(seed: int, film: dict[str, Tensor], vae: VAE, device: str) -> dict[str, Tensor]:
    """One shot: rgb, previs, depth and first (16, F, H, W), rays (24, F, H, W), all float16; context (n, 64)."""
    with torch.autocast(device.split(":")[0], torch.bfloat16):
        found = {name: vae.encode(pixels(film[name]).to(device))[0].half().cpu() for name in FILMS}
        found["first"] = vae.encode(keyframe(pixels(film["rgb"])).to(device))[0].half().cpu()
    shot = scenes.shot(seed, footage.frames_of(seed), footage.HEIGHT, footage.WIDTH)
    found["rays"] = torch.from_numpy(conditions.rays(shot)).half()
    found["context"] = torch.from_numpy(conditions.context(shot))
    return {name: tensor.contiguous() for name, tensor in found.items()}


def pixels(film: Tensor) -> Tensor:
    """uint8 (T, h, w, 3) or (T, h, w) to (1, 3, T, h, w) in -1..1."""
    if film.dim() == 3:
        film = film[..., None].expand(-1, -1, -1, 3)
    return film.permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def keyframe(film: Tensor) -> Tensor:
    """The film with everything after its first frame mid-grey: what a given first frame looks like to Wan."""
    return torch.cat([film[:, :, :1], torch.zeros_like(film[:, :, 1:])], 2)


def statistics(films: Path, vae: VAE, device: str, shots: int = 64) -> None:
    """Measure mean and deviation of each latent channel over some footage, and keep them in the autoencoder."""
    vae.mean.zero_()
    vae.std.fill_(1.0)
    kept = []
    with torch.inference_mode(), torch.autocast(device.split(":")[0], torch.bfloat16):
        for film in sorted(films.glob("*.safetensors"))[:shots]:
            kept.append(vae.encode(pixels(load_file(film)["rgb"]).to(device)).transpose(0, 1).flatten(1).cpu())
    z = torch.cat(kept, 1)
    vae.mean.copy_(z.mean(1))
    vae.std.copy_(z.std(1))


class Shots:
    """Encoded shots in the memory of a device, handed out in batches of one length.

    Shots that arrive later join every LOOK_SECONDS; `arrive` is called before, and may bring some.
    """

    def __init__(
        self, folder: Path, rng: np.random.Generator, device: str = "cpu", arrive: Callable[[], None] = nothing
    ) -> None:
        self.folder, self.rng, self.device, self.arrive = folder, rng, device, arrive
        self.by_length: dict[int, list[dict[str, Tensor]]] = {}
        self._read: set[Path] = set()
        self._look()
        if not self.by_length:
            raise FileNotFoundError(f"no encoded shots in {folder}")

    def _look(self) -> None:
        self.arrive()
        for path in sorted(set(self.folder.glob("*.safetensors")) - self._read):
            shot = {name: tensor.to(self.device) for name, tensor in load_file(path).items()}
            shot["context"] = F.pad(shot["context"], (0, 0, 0, PREVIS.text_len - len(shot["context"])))
            self.by_length.setdefault(shot["rgb"].shape[1], []).append(shot)
            self._read.add(path)
        self._looked = time.monotonic()

    def batch(self, cells: int) -> dict[str, Tensor]:
        """About `cells` latent cells of shots of one length, a length as often as there are shots of it."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._look()
        lengths = list(self.by_length)
        share = np.array([len(self.by_length[n]) for n in lengths], dtype=float)
        shots = self.by_length[lengths[self.rng.choice(len(lengths), p=share / share.sum())]]
        size = max(1, round(cells / shots[0]["rgb"][0].numel()))
        chosen = [shots[i] for i in self.rng.integers(len(shots), size=size)]
        names = (*FILMS, "first", "rays", "context")
        return {name: torch.stack([s[name] for s in chosen]).float() for name in names}
