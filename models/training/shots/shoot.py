"""Render training shots ahead into files: `python -m models.training.shots.shoot FOLDER`.

One safetensors file a shot: rgb and previs (T, h, w, 3), depth (T, h, w) and, where somebody is in the shot, the model
sheet (h, w, 3), all uint8. The blocking is not stored: the file is named after its seed, from which scenes.shot samples
it again. Several processes may share a folder, each with its own first seed and a common stride.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from models.atomic_write import part_path, replace
from models.controls.films import SAMPLES, code_depth
from models.stage import render as stage
from models.stage.blocking import Blocking
from models.stage.model_sheet import sheet
from models.training.shots import scenes

HEIGHT, WIDTH = 128, 224
SHORT, LONG = 17, 33  # frames; two of three shots are short


def frames_of(seed: int) -> int:
    """The number of frames of a seed's shot."""
    return LONG if seed % 3 == 0 else SHORT


def shoot(seed: int) -> dict[str, np.ndarray]:
    """The footage of a seed."""
    blocking = scenes.shot(seed, frames_of(seed), HEIGHT, WIDTH)
    people = sheet(blocking)
    return expose(blocking) | ({} if people is None else {"sheet": expose(people)["rgb"][0]})


def expose(blocking: Blocking) -> dict[str, np.ndarray]:
    """The stage's film of a blocking: rgb and previs (T, h, w, 3), depth (T, h, w), uint8."""
    rgb, previs, depth = [], [], []
    for frame in stage.render(blocking, samples=SAMPLES):
        rgb.append(_bytes(frame.rgb))
        previs.append(_bytes(frame.previs))
        depth.append(_bytes(code_depth(frame.depth, blocking.subject_distance_m)))
    return {"rgb": np.stack(rgb), "previs": np.stack(previs), "depth": np.stack(depth)}


class Rendering:
    """Processes that render shots ahead into a folder: the seeds from `first` on; a context manager."""

    def __init__(self, folder: Path, first: int, shots: int, renderers: int) -> None:
        self.folder, self.seeds = folder, range(first, first + shots)
        self.commands = [
            [sys.executable, "-m", "models.training.shots.shoot", str(folder), "--first", str(first + index),
             "--end", str(first + shots), "--stride", str(renderers)]
            for index in range(renderers)
        ]  # fmt: skip

    def __enter__(self) -> Rendering:
        there = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
        self.processes = [subprocess.Popen(command, env=there) for command in self.commands]
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()

    def count(self) -> int:
        """How many of the shots are in the folder."""
        return sum(int(path.stem) in self.seeds for path in self.folder.glob("*.safetensors"))

    def wait_for(self, shots: int, until: float = math.inf) -> None:
        """Wait until the folder holds this many shots, or any after `until` (time.monotonic()).

        Returns at once where no process renders. Raises RuntimeError when one has died.
        """
        while self.processes and (count := self.count()) < shots and not (count and time.monotonic() > until):
            if any(process.poll() not in (None, 0) for process in self.processes):
                raise RuntimeError(f"rendering footage into {self.folder} stopped: see above")
            time.sleep(0.2)


def _bytes(picture: np.ndarray) -> np.ndarray:
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def main() -> None:
    from safetensors.numpy import save_file

    parser = argparse.ArgumentParser(description="Render training shots into a folder until stopped.")
    parser.add_argument("folder", type=Path)
    first = "first seed (default: the first that is not for testing)"
    parser.add_argument("--first", type=int, default=scenes.TEST_SEEDS, help=first)
    parser.add_argument("--end", type=int, default=1_000_000, help="the seed to stop before")
    parser.add_argument("--stride", type=int, default=1, help="render every Nth seed only (default 1)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.nice(5)  # training has priority
    for seed in range(options.first, options.end, options.stride):
        final = options.folder / f"{seed:07d}.safetensors"
        if final.exists():
            continue
        part = part_path(final)
        save_file(shoot(seed), part)
        replace(part, final)


if __name__ == "__main__":
    main()
