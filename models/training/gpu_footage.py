"""Shots of the stage in a GPU's memory, rendered there while it trains: what a folder of footage is to a processor.

Processes beside this one draw the shots (models/training/shots/gpu_stage.py says how they look as tables), the GPU
renders them, in milliseconds each, and keeps them: as pictures, of which the autoencoder is shown crops, and, once that
is trained, as latents. So footage has no end, and nothing of it touches a disk.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.stage.model_sheet import sheet
from models.training.autoencoder import FRAMES, GPU_BATCH, GPU_CROP, KINDS, SHARES
from models.training.shots import scenes
from models.training.shots import shoot as footage
from models.training.shots.gpu_stage import Tables, film, tables
from models.training.shots.latents import FILMS, Shots, coded, told
from models.vae.previs import VAE

AHEAD = 8  # shots that each process draws before they are asked for
FILM_BYTES, SHOT_BYTES = 4.5e6, 0.55e6  # of a shot as pictures and as latents, on average
FILMS_SHARE, SHOTS_SHARE = 0.3, 0.25  # of the device's free memory, that may be taken by all of them
WITHOUT_GPU = 2**33  # bytes that are taken to be free
ENOUGH = 256  # to begin with
SHARE, EVERY_SECONDS = 0.2, 4.0  # of the time goes into new shots, so often


@dataclass(frozen=True, slots=True)
class Drawn:
    """A shot before it is rendered."""

    seed: int
    film: Tables
    sheet: Tables | None
    told: dict[str, np.ndarray]


def draw(seed: int) -> Drawn:
    """The shot of a seed; some tens of milliseconds."""
    shot = scenes.shot(seed, footage.frames_of(seed), footage.HEIGHT, footage.WIDTH)
    people = sheet(shot)
    numbers = {name: tensor.numpy() for name, tensor in told(shot).items()}
    return Drawn(seed, tables(shot), tables(people) if people else None, numbers)


class GpuFootage:
    """The shots of the seeds from `first` on, rendered as they are needed; ended with the block."""

    def __init__(self, first: int, shots: int, device: str, drawers: int) -> None:
        self.device, self.drawers = device, drawers
        self._seeds: Iterator[int] = iter(range(first, first + shots))
        self._shots = Shots(self._grow_a_share, EVERY_SECONDS)
        free = torch.cuda.mem_get_info(device)[0] if device != "cpu" else WITHOUT_GPU
        self.most_films, self.most_shots = int(FILMS_SHARE * free / FILM_BYTES), int(SHOTS_SHARE * free / SHOT_BYTES)
        self._kept: deque[tuple[dict[str, Tensor], dict[str, Tensor]]] = deque(maxlen=self.most_films)
        self._films: deque[dict[str, Tensor]] = deque(maxlen=self.most_films)
        self._uncoded: deque[tuple[Drawn, dict[str, Tensor]]] = deque()
        self._drawing: deque[Future[Drawn]] = deque()
        self._count, self._looked = 0, -math.inf
        self._vae: VAE | None = None

    def __enter__(self) -> GpuFootage:
        # Forked from a process that has touched a GPU, a drawer could not work.
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(self.drawers, spawn, torch.set_num_threads, (1,))
        self._ask()
        return self

    def __exit__(self, *_: Any) -> None:
        self._pool.shutdown(cancel_futures=True)

    def count(self) -> int:
        """How many shots were rendered."""
        return self._count

    def grow(self, shots: int, seconds: float = math.inf) -> None:
        """Render so many more shots, or as many as there is time and memory for."""
        ends = time.monotonic() + seconds
        for _ in range(shots):
            full = self._count >= self.most_shots or len(self._uncoded) >= self.most_films
            if full or not self._drawing or time.monotonic() > ends:
                break
            drawn = self._drawing.popleft().result()
            self._ask()
            shown = dict(zip(FILMS, film(drawn.film, self.device), strict=True))
            if drawn.sheet is not None:
                shown["sheet"] = film(drawn.sheet, self.device)[0][0]
            self._films.append(shown)
            self._count += 1
            self._uncoded.append((drawn, shown))
            if self._vae is not None:
                self._code()
        self._looked = time.monotonic()

    def ready(self, shots: int, until: float = math.inf) -> None:
        """Render until there are so many shots or ENOUGH, or any after `until`, as time.monotonic() counts: more come
        while they are used.
        """
        self.grow(int(not self._count))
        self.grow(min(shots, ENOUGH) - self._count, until - time.monotonic())

    def crops(self, rng: np.random.Generator) -> Tensor:
        """Random crops (B, 3, FRAMES, side, side) in -1..1 of all films; new shots join now and then."""
        if time.monotonic() - self._looked > EVERY_SECONDS:
            self._grow_a_share()
        return torch.stack([self._crop(rng) for _ in range(GPU_BATCH)]).float() / 127.5 - 1

    def pictures(self, films: int) -> Iterator[Tensor]:
        """The first films (T, h, w, 3) uint8."""
        return (shown["rgb"] for shown, _ in zip(self._films, range(films), strict=False))

    def shot(self, rng: np.random.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The pictures and the latents of one of the encoded shots."""
        return self._kept[int(rng.integers(len(self._kept)))]

    def encode_with(self, vae: VAE, _: float) -> Shots:
        """The encoded shots: all that are here, and from now on every new one."""
        self._vae = vae
        self._code()
        return self._shots

    def _ask(self) -> None:
        while len(self._drawing) < AHEAD * self.drawers and (seed := next(self._seeds, None)) is not None:
            self._drawing.append(self._pool.submit(draw, seed))

    def _grow_a_share(self) -> None:
        self.grow(self.most_shots, SHARE * EVERY_SECONDS)

    def _code(self) -> None:
        while self._uncoded and self._vae is not None:
            drawn, shown = self._uncoded.popleft()
            numbers = {name: torch.from_numpy(array).to(self.device) for name, array in drawn.told.items()}
            latents = coded(drawn.seed, shown, self._vae, self.device) | numbers
            self._shots.add(latents)
            self._kept.append((shown, latents))

    def _crop(self, rng: np.random.Generator) -> Tensor:
        shown = self._films[int(rng.integers(len(self._films)))]
        whole = shown[str(rng.choice(KINDS, p=SHARES))]
        room = zip(whole.shape, (FRAMES, GPU_CROP, GPU_CROP), strict=False)
        t, y, x = (int(rng.integers(size - part + 1)) for size, part in room)
        crop = whole[t : t + FRAMES, y : y + GPU_CROP, x : x + GPU_CROP]
        crop = crop[..., None].expand(-1, -1, -1, 3) if crop.dim() == 3 else crop
        return (crop.flip(2) if rng.random() < 0.5 else crop).permute(3, 0, 1, 2)
