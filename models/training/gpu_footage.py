"""Footage in a GPU's memory, rendered there during training.

Other processes sample the shots (as tables: models/training/shots/gpu_stage.py); the GPU renders them, in milliseconds
each, and holds them as pictures, for crops for the autoencoder, and, once that is trained, as latents. So footage is
unlimited, and none of it is written to a disk.
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
from models.training.shots.latents import FILMS, Shots, conditions, encode_films
from models.vae.previs import VAE

AHEAD = 8  # shots that each process samples in advance
FILM_BYTES, SHOT_BYTES = 4.5e6, 0.55e6  # of a shot as pictures and as latents, on average
FILMS_SHARE, SHOTS_SHARE = 0.3, 0.25  # shares of the device's free memory that all of them may take
WITHOUT_GPU = 2**33  # free bytes that are assumed without one
ENOUGH = 256  # to start with
SHARE, EVERY_SECONDS = 0.2, 4.0  # share of the time for new shots, and how often


@dataclass(frozen=True, slots=True)
class SampledShot:
    """A shot before it is rendered."""

    seed: int
    film: Tables
    sheet: Tables | None
    conditions: dict[str, np.ndarray]  # rays and context


def sample(seed: int) -> SampledShot:
    """The shot of a seed; takes some tens of milliseconds."""
    shot = scenes.shot(seed, footage.frames_of(seed), footage.HEIGHT, footage.WIDTH)
    people = sheet(shot)
    numbers = {name: tensor.numpy() for name, tensor in conditions(shot).items()}
    return SampledShot(seed, tables(shot), tables(people) if people else None, numbers)


class GpuFootage:
    """The shots of the seeds from `first` on, rendered as they are needed; a context manager."""

    def __init__(self, first: int, shots: int, device: str, processes: int) -> None:
        self.device, self.processes = device, processes
        self._seeds: Iterator[int] = iter(range(first, first + shots))
        self._shots = Shots(self._grow_a_share, EVERY_SECONDS)
        free = torch.cuda.mem_get_info(device)[0] if device != "cpu" else WITHOUT_GPU
        self.most_films, self.most_shots = int(FILMS_SHARE * free / FILM_BYTES), int(SHOTS_SHARE * free / SHOT_BYTES)
        self._encoded: deque[tuple[dict[str, Tensor], dict[str, Tensor]]] = deque(maxlen=self.most_films)
        self._films: deque[dict[str, Tensor]] = deque(maxlen=self.most_films)
        self._unencoded: deque[tuple[SampledShot, dict[str, Tensor]]] = deque()
        self._sampling: deque[Future[SampledShot]] = deque()
        self._count, self._grown_at = 0, -math.inf
        self._vae: VAE | None = None

    def __enter__(self) -> GpuFootage:
        # A process forked from one that uses CUDA could not work.
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(self.processes, spawn, torch.set_num_threads, (1,))
        self._submit()
        return self

    def __exit__(self, *_: Any) -> None:
        self._pool.shutdown(cancel_futures=True)

    def count(self) -> int:
        """How many shots were rendered."""
        return self._count

    def grow(self, shots: int, seconds: float = math.inf) -> None:
        """Render this many more shots, or as many as time and memory allow."""
        ends = time.monotonic() + seconds
        for _ in range(shots):
            full = self._count >= self.most_shots or len(self._unencoded) >= self.most_films
            if full or not self._sampling or time.monotonic() > ends:
                break
            shot = self._sampling.popleft().result()
            self._submit()
            shown = dict(zip(FILMS, film(shot.film, self.device), strict=True))
            if shot.sheet is not None:
                shown["sheet"] = film(shot.sheet, self.device)[0][0]
            self._films.append(shown)
            self._count += 1
            self._unencoded.append((shot, shown))
            if self._vae is not None:
                self._encode()
        self._grown_at = time.monotonic()

    def ready(self, shots: int, until: float = math.inf) -> None:
        """Render until there are `shots` or ENOUGH, or any after `until` (time.monotonic()); more come while they are
        used.
        """
        self.grow(int(not self._count))
        self.grow(min(shots, ENOUGH) - self._count, until - time.monotonic())

    def crops(self, rng: np.random.Generator) -> Tensor:
        """Random crops (B, 3, FRAMES, side, side) in -1..1 of all films; new shots are added now and then."""
        if time.monotonic() - self._grown_at > EVERY_SECONDS:
            self._grow_a_share()
        return torch.stack([self._crop(rng) for _ in range(GPU_BATCH)]).float() / 127.5 - 1

    def pictures(self, films: int) -> Iterator[Tensor]:
        """The first films (T, h, w, 3) uint8."""
        return (shown["rgb"] for shown, _ in zip(self._films, range(films), strict=False))

    def shot(self, rng: np.random.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The pictures and the latents of one of the encoded shots."""
        return self._encoded[int(rng.integers(len(self._encoded)))]

    def encode_with(self, vae: VAE, _: float) -> Shots:
        """The encoded shots: all so far, and from now on every new one."""
        self._vae = vae
        self._encode()
        return self._shots

    def _submit(self) -> None:
        while len(self._sampling) < AHEAD * self.processes and (seed := next(self._seeds, None)) is not None:
            self._sampling.append(self._pool.submit(sample, seed))

    def _grow_a_share(self) -> None:
        self.grow(self.most_shots, SHARE * EVERY_SECONDS)

    def _encode(self) -> None:
        while self._unencoded and self._vae is not None:
            shot, shown = self._unencoded.popleft()
            numbers = {name: torch.from_numpy(array).to(self.device) for name, array in shot.conditions.items()}
            latents = encode_films(shot.seed, shown, self._vae, self.device) | numbers
            self._shots.add(latents)
            self._encoded.append((shown, latents))

    def _crop(self, rng: np.random.Generator) -> Tensor:
        shown = self._films[int(rng.integers(len(self._films)))]
        whole = shown[str(rng.choice(KINDS, p=SHARES))]
        room = zip(whole.shape, (FRAMES, GPU_CROP, GPU_CROP), strict=False)
        t, y, x = (int(rng.integers(size - part + 1)) for size, part in room)
        crop = whole[t : t + FRAMES, y : y + GPU_CROP, x : x + GPU_CROP]
        crop = crop[..., None].expand(-1, -1, -1, 3) if crop.dim() == 3 else crop
        return (crop.flip(2) if rng.random() < 0.5 else crop).permute(3, 0, 1, 2)
