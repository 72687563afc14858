"""Footage without a GPU: shots of the stage in a folder, rendered ahead by other processes.

The same interface as models/training/gpu_footage.py.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from models.training import autoencoder
from models.training.shots import latents
from models.training.shots.shoot import Rendering
from models.vae.previs import VAE


class DiskFootage:
    """The shots of the seeds from `first` on, as footage and as latents in folders of `work`; a context manager."""

    def __init__(self, work: Path, first: int, shots: int, renderers: int) -> None:
        self.footage, self.encoded = work / "footage", work / "latents"
        self._rendering = Rendering(self.footage, first, shots, renderers)

    def __enter__(self) -> DiskFootage:
        self._rendering.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._rendering.__exit__(*error)

    def count(self) -> int:
        """How many shots were rendered."""
        return self._rendering.count()

    def ready(self, shots: int, until: float = math.inf) -> None:
        """Wait until there are this many shots, or any after `until` (time.monotonic())."""
        self._rendering.wait_for(shots, until)

    def crops(self, rng: np.random.Generator) -> Tensor:
        """Random crops for the autoencoder (models/training/autoencoder.py)."""
        return autoencoder.batch(self.footage, rng)

    def pictures(self, films: int) -> Iterator[Tensor]:
        """Some films (T, h, w, 3) uint8."""
        return (load_file(film)["rgb"] for film in itertools.islice(sorted(self.footage.glob("*.safetensors")), films))

    def shot(self, rng: np.random.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The pictures and the latents of one of the encoded shots."""
        found = sorted(self.encoded.glob("*.safetensors"))
        name = found[int(rng.integers(len(found)))].name
        return load_file(self.footage / name), load_file(self.encoded / name)

    def encode_with(self, vae: VAE, seconds: float) -> latents.Shots:
        """The encoded shots: as many as `seconds` allow now, and those that arrive later."""
        arrive = functools.partial(latents.encode_all, self.footage, self.encoded, vae, "cpu", seconds)
        arrive()
        return latents.Folder(self.encoded, "cpu", arrive)
