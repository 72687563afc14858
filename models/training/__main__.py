"""`python -m models.training`: from nothing to a package of weights, in one resumable command.

    footage   shots of the stage are rendered ahead by processes beside this one, or by the GPU as it goes
    vae       the autoencoder learns from crops of them, for --vae-minutes
    latents   every shot is encoded once, as it comes
    fit       the transformer learns from those, for --minutes
    polish    the decoder goes on learning with its latents fixed, for --polish-minutes
    detail    what finishes a film from its previs learns from films that these make, for --detail-minutes
    package   all are quantized, written, and scored on shots kept for testing, with a record of how it came to be

Stop it at any time (at most a minute is lost) and start it again with the same folder: each part goes on where it was.

Where it may only run for some minutes at a time, and no more than a few small files can be kept between:

    python -m models.training --work W --carry C --call-minutes 9 --device cuda:0

as often as --calls says. Each call ends by itself, goes on from what is in C (at most 8 files of 16 MiB, 64 MiB in
all), renders shots that no call before has used, and trains as they arrive; the last one ends with the package. Given
once more, it makes the package again from C alone, on any machine.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

from models.card import PREVIS, TINY
from models.errors import RushesError
from models.training import budget as calls
from models.training.release import SHIPPED

BUDGETS = {"autoencoder": 25.0, "transformer": 60.0, "decoder": 20.0, "detail": 20.0}  # minutes
SHOTS, FIRST = 1000, 32  # rendered in all; rendered before the autoencoder begins
STATISTICS = 64  # films that the latents' mean and deviation are measured on
ENCODING_SECONDS = 4.0  # at once, of the LOOK_SECONDS between: a fifth of the time at most


def main() -> None:
    began = time.monotonic()
    parser = argparse.ArgumentParser(
        prog="python -m models.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = os.cpu_count() or 1
    share = "default {:g}, or its share of all calls"
    parser.add_argument("--work", type=Path, required=True, help="folder of the run: footage, latents, checkpoints")
    parser.add_argument("--carry", type=Path, help="folder of what goes from call to call")
    parser.add_argument("--call-minutes", type=float, help="end after so many minutes, having saved")
    parser.add_argument("--calls", type=int, default=3, help="calls of so many minutes in all (default 3)")
    shots = f"how many shots to render (default {SHOTS}; in calls or on a GPU, no end)"
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
    parser.add_argument("--threads", type=int, default=cores, help="processor threads for training")
    renderers = "processes that render shots (default half the cores; in calls, all but one)"
    parser.add_argument("--renderers", type=int, help=renderers)
    parser.add_argument("--card", choices=("previs", "tiny"), default="previs")
    parser.add_argument("--check-shots", type=int, default=6, help="test shots to score at the end (default 6)")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="package to write (default: the shipped one)")
    options = parser.parse_args()
    if options.calls < 1 or (options.call_minutes is not None and options.call_minutes <= 0):
        parser.error(f"--calls {options.calls} --call-minutes {options.call_minutes}: both must be above 0")
    in_calls = options.call_minutes is not None
    options.shots = options.shots or (calls.SEEDS if in_calls or options.device != "cpu" else SHOTS)
    options.renderers = options.renderers or max(1, cores - 1 if in_calls else cores // 2)
    try:
        train(options, began)
    except RushesError as error:
        parser.exit(error.exit_code, f"{error}\n")


def train(options: argparse.Namespace, began: float) -> None:
    """Whatever is left to do, from `began` on, as time.monotonic() counts."""
    import torch

    from models.loading.load import load, unload  # start-up
    from models.training import autoencoder as vae_fit  # start-up
    from models.training import detail as detail_fit  # start-up
    from models.training import evaluate as check  # start-up
    from models.training import release as package  # start-up
    from models.training import run as state  # start-up
    from models.training import transformer as fit  # start-up
    from models.training.carry import CarriedRun  # start-up
    from models.training.disk_footage import DiskFootage  # start-up
    from models.training.gpu_footage import GpuFootage  # start-up
    from models.training.shots import latents  # start-up
    from models.vae.previs import VAE  # start-up

    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True  # a training has few shapes
    device = options.device
    runs = {name: options.work / f"{name}.safetensors" for name in BUDGETS}
    card = TINY if options.card == "tiny" else PREVIS
    options.work.mkdir(parents=True, exist_ok=True)
    carry = CarriedRun(options.carry, runs) if options.carry else None
    if carry:
        carry.read()
    before = list(carry.calls) if carry else []
    call = _call(options, began, runs, len(before))
    this = package.call(calls.first_seed(len(before)), 0, device)
    idle = call.finished
    beside = 0 if idle else options.renderers
    on_gpu = device != "cpu" and not idle
    source: DiskFootage | GpuFootage = (
        GpuFootage(this["first_seed"], options.shots, device, beside)
        if on_gpu
        else DiskFootage(options.work, this["first_seed"], options.shots, beside)
    )
    with source:

        def saved() -> None:
            this["shots"] = source.count()
            if carry:
                carry.calls = [*before, this]
                carry.write()

        if not idle:
            saved()  # the call counts, and its seeds are used, whatever comes of it
        sitting = state.Sitting(call.ends, saved)
        in_calls = options.call_minutes is not None
        patience = began + 60 * calls.START * options.call_minutes if in_calls else math.inf
        source.ready(min(FIRST, options.shots), patience)
        vae_fit.fit(source.crops, runs["autoencoder"], call.minutes("autoencoder"), device, sitting=sitting)
        if call.cut_off:
            return
        source.ready(options.shots, patience)
        vae = VAE().to(device)
        vae.load_state_dict(state.read(runs["autoencoder"])[0])
        if bool((vae.std == 1).all()):  # not measured since it was trained
            latents.statistics(source.pictures(STATISTICS), vae, device)
            state.amend(runs["autoencoder"], {"mean": vae.mean, "std": vae.std})
        shots = source.encode_with(vae, ENCODING_SECONDS if in_calls else math.inf)
        minutes = call.minutes("transformer")
        fuse = fit.worth_compiling(device, min(minutes, (call.ends - time.monotonic()) / 60))
        fit.fit(shots, runs["transformer"], card, minutes, device, fuse=fuse, sitting=sitting)
        if call.cut_off:
            return
        vae_fit.polish(source.crops, vae, runs["decoder"], call.minutes("decoder"), device, sitting=sitting)
        if call.cut_off:
            return
        this["shots"] = source.count()
        made = before if idle and before else [*before, this]
        if not idle:
            package.write(card, vae, _there(runs), made, options.out)
            minutes = call.minutes("detail")
            detail_fit.fit(load(options.out, device), source.shot, runs["detail"], minutes, sitting=sitting)
            unload()
        if call.cut_off:
            return
    package.write(card, vae, _there(runs), made, options.out)
    package.record(options.out, check.check(options.out, options.check_shots, card.steps, device, call.ends))


def _there(runs: dict[str, Path]) -> dict[str, Path]:
    """The runs that have begun."""
    return {name: path for name, path in runs.items() if path.exists()}


def _call(options: argparse.Namespace, began: float, runs: dict[str, Path], number: int) -> calls.Call:
    minutes, count = options.call_minutes, options.calls
    shares = BUDGETS if minutes is None else calls.budgets(count, minutes)
    asked = {part: getattr(options, part) for part in BUDGETS}
    budgets = {part: shares[part] if asked[part] is None else asked[part] for part in BUDGETS}
    if minutes is None:
        return calls.Call(runs, budgets, math.inf, 0.0, last=False)
    last = options.carry is not None and number + 1 >= count
    return calls.Call(runs, budgets, began + 60 * calls.TRAINING * minutes, calls.FINISH * minutes, last)


if __name__ == "__main__":
    main()
