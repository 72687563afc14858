"""`python -m models.training`: from nothing to a package of weights, in one resumable command.

    footage   shots of the stage are rendered ahead by a process beside this one
    vae       the autoencoder learns from crops of them, for --vae-minutes
    latents   every shot is encoded once
    fit       the transformer learns from those, for --minutes
    polish    the decoder goes on learning with its latents fixed, for --polish-minutes
    package   both are quantized, written, and scored on shots kept for testing, with a record of how it came to be

Stop it at any time (at most a minute is lost) and start it again with the same folder: each part goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from models.card import PREVIS, TINY
from models.training import scenes

SHIPPED = Path(__file__).parents[1] / "weights" / "previs.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m models.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the run: footage, latents, checkpoints")
    parser.add_argument("--shots", type=int, default=1000, help="how many shots to render (default 1000)")
    parser.add_argument("--vae-minutes", type=float, default=25.0, help="budget of the autoencoder (default 25)")
    parser.add_argument("--minutes", type=float, default=60.0, help="budget of the transformer (default 60)")
    parser.add_argument("--polish-minutes", type=float, default=20.0, help="budget of the decoder alone (default 20)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0 (default cpu)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="processor threads for training")
    half = max(1, (os.cpu_count() or 1) // 2)
    parser.add_argument("--renderers", type=int, default=half, help=f"processes that render shots (default {half})")
    parser.add_argument("--card", choices=("previs", "tiny"), default="previs")
    parser.add_argument("--check-shots", type=int, default=6, help="test shots to score at the end (default 6)")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="package to write (default: the shipped one)")
    options = parser.parse_args()
    train(options)


def train(options: argparse.Namespace) -> None:
    import torch

    from models.training import check, fit, latents, package, state, vae_fit
    from models.vae import VAE

    torch.set_num_threads(options.threads)
    footage, encoded = options.work / "footage", options.work / "latents"
    runs = {name: options.work / f"{name}.safetensors" for name in ("autoencoder", "transformer", "decoder")}
    card = TINY if options.card == "tiny" else PREVIS
    options.work.mkdir(parents=True, exist_ok=True)
    with Footage(footage, options.shots, options.renderers) as rendering:
        rendering.wait_for(min(32, options.shots))
        vae_fit.fit(footage, runs["autoencoder"], options.vae_minutes, options.device)
        rendering.wait_for(options.shots)
    vae = VAE().to(options.device)
    vae.load_state_dict(state.read(runs["autoencoder"])[0])
    latents.statistics(footage, vae, options.device)
    latents.encode_all(footage, encoded, vae, options.device)
    fuse = options.minutes >= 10 and fit.can_compile(options.device)  # compiling takes two minutes itself
    fit.fit(encoded, runs["transformer"], card, options.minutes, options.device, fuse=fuse)
    vae_fit.polish(footage, vae, runs["decoder"], options.polish_minutes, options.device)
    package.write(card, vae, runs, len(list(encoded.glob("*.safetensors"))), options.out)
    package.record(options.out, check.check(options.out, options.check_shots, card.steps, options.device))


class Footage:
    """The processes that render shots ahead, ended with the block."""

    def __init__(self, folder: Path, shots: int, renderers: int) -> None:
        self.folder = folder
        self.commands = [
            [sys.executable, "-m", "models.training.footage", str(folder), "--first", str(scenes.TEST_SEEDS + index),
             "--end", str(scenes.TEST_SEEDS + shots), "--stride", str(renderers)]
            for index in range(renderers)
        ]  # fmt: skip

    def __enter__(self) -> Footage:
        there = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
        self.processes = [subprocess.Popen(command, env=there) for command in self.commands]
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()

    def wait_for(self, shots: int) -> None:
        """Until the folder holds that many shots. Raises RuntimeError when a renderer has died."""
        while len(list(self.folder.glob("*.safetensors"))) < shots:
            if any(process.poll() not in (None, 0) for process in self.processes):
                raise RuntimeError(f"rendering footage into {self.folder} stopped: see above")
            time.sleep(1)


if __name__ == "__main__":
    main()
