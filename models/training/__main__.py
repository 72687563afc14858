"""`python -m models.training`: from nothing to a package of weights, in one resumable command.

    footage   other processes render shots of the stage ahead, or the GPU does during training
    vae       the autoencoder trains on crops of them, for --vae-minutes
    latents   every shot is encoded once
    fit       the transformer trains on the latents, for --minutes
    polish    the decoder trains on with the latents fixed, for --polish-minutes
    detail    the detail network trains on films that the others make, for --detail-minutes
    package   all are quantised, written, and scored on test shots, with a record of the training

Stop it at any time (at most a minute is lost) and start it again with the same folder: each part resumes.

Where it may only run for some minutes at a time, and only a few small files can be kept in between:

    python -m models.training --work W --carry C --call-minutes 9 --device cuda:0

as often as --calls says. Each call ends by itself, resumes from the files in C (at most 8 files of 16 MiB, 64 MiB in
all), renders shots that no earlier call used, and trains as they arrive; the last one ends with the package. Run once
more, it writes the package again from C alone, on any machine.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

import torch

from models.card import PREVIS, TINY
from models.errors import RushesError
from models.loading.load import load, unload
from models.training import autoencoder, budget, detail, evaluate, release, run, transformer
from models.training.carry import CarriedRun
from models.training.disk_footage import DiskFootage
from models.training.gpu_footage import GpuFootage
from models.training.shots import latents
from models.vae.previs import VAE

BUDGETS = {"autoencoder": 25.0, "transformer": 60.0, "decoder": 20.0, "detail": 20.0}  # minutes
SHOTS, FIRST = 1000, 32  # rendered in all; before the autoencoder starts
STATISTICS = 64  # films for the mean and standard deviation of the latents
ENCODING_SECONDS = 4.0  # at a time, every LOOK_SECONDS: at most a fifth of the time


def main() -> None:
    began = time.monotonic()
    parser = argparse.ArgumentParser(
        prog="python -m models.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = os.cpu_count() or 1
    share = "default {:g}, or its share of all calls"
    parser.add_argument("--work", type=Path, required=True, help="folder of the run: footage, latents, checkpoints")
    parser.add_argument("--carry", type=Path, help="folder of the files that are kept between calls")
    parser.add_argument("--call-minutes", type=float, help="save and end after this many minutes")
    parser.add_argument("--calls", type=int, default=3, help="number of calls in all (default 3)")
    shots = f"number of shots to render (default {SHOTS}; in calls or on a GPU, unlimited)"
    parser.add_argument("--shots", type=int, help=shots)
    for option, part, what in (
        ("--vae-minutes", "autoencoder", "autoencoder"),
        ("--minutes", "transformer", "transformer"),
        ("--polish-minutes", "decoder", "decoder alone"),
        ("--detail-minutes", "detail", "detail"),
    ):
        text = f"budget of the {what} ({share.format(BUDGETS[part])})"
        parser.add_argument(option, type=float, dest=part, metavar="MINUTES", help=text)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0 (default cpu)")
    parser.add_argument("--threads", type=int, default=cores, help="CPU threads for training")
    renderers = "processes that render shots (default half the cores; in calls, all but one)"
    parser.add_argument("--renderers", type=int, help=renderers)
    parser.add_argument("--card", choices=("previs", "tiny"), default="previs")
    parser.add_argument("--check-shots", type=int, default=6, help="test shots to score at the end (default 6)")
    parser.add_argument("--out", type=Path, default=release.SHIPPED, help="package to write (default: the shipped one)")
    options = parser.parse_args()
    if options.calls < 1 or (options.call_minutes is not None and options.call_minutes <= 0):
        parser.error(f"--calls {options.calls} --call-minutes {options.call_minutes}: both must be above 0")
    in_calls = options.call_minutes is not None
    options.shots = options.shots or (budget.SEEDS if in_calls or options.device != "cpu" else SHOTS)
    options.renderers = options.renderers or max(1, cores - 1 if in_calls else cores // 2)
    try:
        train(options, began)
    except RushesError as error:
        parser.exit(error.exit_code, f"{error}\n")


def train(options: argparse.Namespace, began: float) -> None:
    """Everything that is left to do; the call started at `began` (time.monotonic())."""
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True  # few different shapes
    device = options.device
    runs = {name: options.work / f"{name}.safetensors" for name in BUDGETS}
    card = TINY if options.card == "tiny" else PREVIS
    options.work.mkdir(parents=True, exist_ok=True)
    carry = CarriedRun(options.carry, runs) if options.carry else None
    if carry:
        carry.read()
    before = list(carry.calls) if carry else []
    call = _call(options, began, runs, len(before))
    this = release.call(budget.first_seed(len(before)), 0, device)
    idle = call.finished
    renderers = 0 if idle else options.renderers
    on_gpu = device != "cpu" and not idle
    source: DiskFootage | GpuFootage = (
        GpuFootage(this["first_seed"], options.shots, device, renderers)
        if on_gpu
        else DiskFootage(options.work, this["first_seed"], options.shots, renderers)
    )
    with source:

        def saved() -> None:
            this["shots"] = source.count()
            if carry:
                carry.calls = [*before, this]
                carry.write()

        if not idle:
            saved()  # the call counts and its seeds are used up, whatever happens next
        session = run.Session(call.ends, saved)
        in_calls = options.call_minutes is not None
        footage_until = began + 60 * budget.START * options.call_minutes if in_calls else math.inf
        source.ready(min(FIRST, options.shots), footage_until)
        autoencoder.fit(source.crops, runs["autoencoder"], call.minutes("autoencoder"), device, session=session)
        if call.cut_off:
            return
        source.ready(options.shots, footage_until)
        vae = VAE().to(device)
        vae.load_state_dict(run.read(runs["autoencoder"])[0])
        if bool((vae.std == 1).all()):  # not measured since it was trained
            latents.statistics(source.pictures(STATISTICS), vae, device)
            run.amend(runs["autoencoder"], {"mean": vae.mean, "std": vae.std})
        shots = source.encode_with(vae, ENCODING_SECONDS if in_calls else math.inf)
        minutes = call.minutes("transformer")
        fuse = transformer.worth_compiling(device, min(minutes, (call.ends - time.monotonic()) / 60))
        transformer.fit(shots, runs["transformer"], card, minutes, device, fuse=fuse, session=session)
        if call.cut_off:
            return
        autoencoder.polish(source.crops, vae, runs["decoder"], call.minutes("decoder"), device, session=session)
        if call.cut_off:
            return
        this["shots"] = source.count()
        calls = before if idle and before else [*before, this]
        if not idle:
            release.write(card, vae, _begun(runs), calls, options.out)
            minutes = call.minutes("detail")
            detail.fit(load(options.out, device), source.shot, runs["detail"], minutes, session=session)
            unload()
        if call.cut_off:
            return
    release.write(card, vae, _begun(runs), calls, options.out)
    release.record(options.out, evaluate.check(options.out, options.check_shots, card.steps, device, call.ends))


def _begun(runs: dict[str, Path]) -> dict[str, Path]:
    """The runs that have begun."""
    return {name: path for name, path in runs.items() if path.exists()}


def _call(options: argparse.Namespace, began: float, runs: dict[str, Path], number: int) -> budget.Call:
    minutes, count = options.call_minutes, options.calls
    shares = BUDGETS if minutes is None else budget.budgets(count, minutes)
    stated = {part: getattr(options, part) for part in BUDGETS}
    budgets = {part: shares[part] if stated[part] is None else stated[part] for part in BUDGETS}
    if minutes is None:
        return budget.Call(runs, budgets, math.inf, 0.0, last=False)
    last = options.carry is not None and number + 1 >= count
    return budget.Call(runs, budgets, began + 60 * budget.TRAINING * minutes, budget.FINISH * minutes, last)


if __name__ == "__main__":
    main()
