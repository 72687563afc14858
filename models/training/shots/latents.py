"""Encode footage for the transformer: latents of film and controls, camera rays and tokens of each shot.

Encoding happens once, with the finished autoencoder; after that, an hour of training reads a few hundred MB.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.atomic_write import part_path, replace
from models.card import PREVIS
from models.controls.rays import camera_rays
from models.controls.tokens import context_tokens
from models.rendering.keyframes import keyframes
from models.stage.blocking import Blocking
from models.training.shots import scenes
from models.training.shots import shoot as footage
from models.vae.previs import VAE

FILMS = ("rgb", "previs", "depth")
KNOWN = ("key", "mask", "sheet")  # further conditions: frames of the film, and its people on a model sheet
LOOK_SECONDS = 20.0
GIVEN = ("first", "first", "first", "ends", "ends", "last", "any")  # which frames are keyframes, as often as listed


def nothing() -> None:
    """A callback that does nothing."""


def encode_all(films: Path, folder: Path, vae: VAE, device: str, seconds: float = math.inf) -> None:
    """Encode every finished film of a folder that is not yet encoded, or as many as time allows, at least one."""
    folder.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + seconds
    for film in sorted(films.glob("*.safetensors")):
        final = folder / film.name
        if final.exists():
            continue
        if time.monotonic() > ends and any(folder.glob("*.safetensors")):
            return
        part = part_path(final)
        save_file(encode(int(film.stem), load_file(film), vae, device), part)
        replace(part, final)


def encode(seed: int, film: dict[str, Tensor], vae: VAE, device: str) -> dict[str, Tensor]:
    """One shot of a folder of footage, with its conditions: see `encode_films` and `conditions`."""
    shot = scenes.shot(seed, footage.frames_of(seed), footage.HEIGHT, footage.WIDTH)
    found = encode_films(seed, film, vae, device)
    return {name: tensor.cpu().contiguous() for name, tensor in (found | conditions(shot)).items()}


def conditions(shot: Blocking) -> dict[str, Tensor]:
    """The conditions of a shot that are not pictures: rays (24, F, H, W) float16; context (n, 64)."""
    rays, context = camera_rays(shot), context_tokens(shot)
    return {"rays": torch.from_numpy(rays).half(), "context": torch.from_numpy(context)}


@torch.no_grad()
def encode_films(seed: int, film: Mapping[str, Tensor], vae: VAE, device: str) -> dict[str, Tensor]:
    """The pictures of a shot as latents, float16 on `device`: rgb, previs, depth, and key, the same film with only its
    keyframes, (16, F, H, W); mask (4, F, H, W), which those are; sheet (16, H, W), zeros where nobody is in the shot.
    """
    films = [pixels(film[name].to(device)) for name in FILMS]
    key, mask = keyframes(films[0], keyframes_of(seed, films[0].shape[2]))
    with torch.autocast(device.split(":")[0], torch.bfloat16):
        found = vae.encode(torch.cat([*films, key])).half()
        shown = torch.zeros_like(found[0, :, 0])
        if "sheet" in film:
            shown = vae.encode(pixels(film["sheet"][None].to(device)))[0, :, 0].half()
    return dict(zip((*FILMS, "key"), found, strict=True)) | {"mask": mask[0].half(), "sheet": shown}


def keyframes_of(seed: int, frames: int) -> tuple[int, ...]:
    """The indexes of the frames that are the keyframes of a seed's shot."""
    rng = np.random.default_rng([seed, frames])
    last = frames - 1
    chosen = {"first": (0,), "ends": (0, last), "last": (last,), "any": (int(rng.integers(frames)),)}
    return chosen[str(rng.choice(GIVEN))]


def pixels(film: Tensor) -> Tensor:
    """uint8 (T, h, w, 3) or (T, h, w) to (1, 3, T, h, w) in -1..1."""
    if film.dim() == 3:
        film = film[..., None].expand(-1, -1, -1, 3)
    return film.permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def statistics(films: Iterable[Tensor], vae: VAE, device: str) -> None:
    """Set the autoencoder's mean and standard deviation of each latent channel, measured over some films, uint8."""
    vae.mean.zero_()
    vae.std.fill_(1.0)
    encoded = []
    with torch.inference_mode(), torch.autocast(device.split(":")[0], torch.bfloat16):
        for film in films:
            encoded.append(vae.encode(pixels(film.to(device))).transpose(0, 1).flatten(1).cpu())
    z = torch.cat(encoded, 1)
    vae.mean.copy_(z.mean(1))
    vae.std.copy_(z.std(1))


class Shots:
    """Encoded shots in the memory of a device, handed out in batches of one length. Every `every` seconds `arrive` may
    add some.
    """

    def __init__(self, arrive: Callable[[], None] = nothing, every: float = LOOK_SECONDS) -> None:
        self.arrive, self.every = arrive, every
        self.by_length: dict[int, list[dict[str, Tensor]]] = {}
        self._looked = -math.inf

    def add(self, shot: dict[str, Tensor]) -> None:
        """Add a shot, as `encode` gives it, already on the device."""
        shot["context"] = F.pad(shot["context"], (0, 0, 0, PREVIS.text_len - len(shot["context"])))
        self.by_length.setdefault(shot["rgb"].shape[1], []).append(shot)

    def batch(self, cells: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """About `cells` latent cells of shots of one length, a length in proportion to its number of shots.

        Raises FileNotFoundError where there is no shot.
        """
        if time.monotonic() - self._looked > self.every:
            self.arrive()
            self._looked = time.monotonic()
        if not self.by_length:
            raise FileNotFoundError("no encoded shots")
        lengths = list(self.by_length)
        share = np.array([len(self.by_length[n]) for n in lengths], dtype=float)
        shots = self.by_length[lengths[rng.choice(len(lengths), p=share / share.sum())]]
        size = max(1, round(cells / shots[0]["rgb"][0].numel()))
        chosen = [shots[i] for i in rng.integers(len(shots), size=size)]
        names = (*FILMS, *KNOWN, "rays", "context")
        return {name: torch.stack([s[name] for s in chosen]).float() for name in names}


class Folder(Shots):
    """The encoded shots of a folder; new ones are added every LOOK_SECONDS."""

    def __init__(self, folder: Path, device: str = "cpu", arrive: Callable[[], None] = nothing) -> None:
        super().__init__(self._look)
        self.folder, self.device, self.encode_new = folder, device, arrive
        self._read: set[Path] = set()

    def _look(self) -> None:
        self.encode_new()
        for path in sorted(set(self.folder.glob("*.safetensors")) - self._read):
            self.add({name: tensor.to(self.device) for name, tensor in load_file(path).items()})
            self._read.add(path)
        if not self._read:
            raise FileNotFoundError(f"no encoded shots in {self.folder}")
