"""Compare plans with a real GPU: memory and time, predicted and measured.

    python -m appliance.planning.hardware_check [--card wan2.1-t2v-14b] [--play 8 --play 24] [--limit 300] [--dry-run]

Simulates smaller GPUs on the one present (a cap on the memory of a process), plans films for each as the product does,
has models/bench/forward.py run a few forwards under that plan with random weights of real size, and compares memory and
time with the prediction; then times networks that stay on the device against the same streamed through two slots. Small
GPUs and films come first. Prints each figure as it is measured, and one JSON document last, also when interrupted.
Needs neither weights nor a library, and of packages torch, psutil and pynvml. --dry-run runs it all at a tiny size on
the CPU: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from appliance import processes as process
from appliance.direction.shot import ShotDirection, from_plain
from appliance.machine.calibrate import measured
from appliance.machine.calibrate import rows as rate_rows
from appliance.machine.device import Device, Gpu
from appliance.machine.probe import probe
from appliance.machine.rates import Rates, rates_of
from appliance.planning.duration import BlockTimes
from appliance.planning.placements import gpu_at
from appliance.planning.plan import Plan, Refusal, plan
from appliance.planning.request import PlanRequest
from appliance.planning.speed import gpu_speed
from appliance.units import bytes_words
from models.card import CARDS, Card
from models.errors import BadInput, RushesError
from models.geometry import Geometry
from models.placement import Placement
from models.weight_files.package_header import card_to_json

GIB = 2**30
SIMULATED_GIB = (8.0, 12.0, 16.0, 24.0)
FREE = 0.95  # of a GPU's memory, when nothing else uses it
CARDS_CHECKED = ("wan2.1-t2v-1.3b", "wan2.1-t2v-14b")
SIZES = ((832, 480), (1280, 720))  # 81 frames each: 32,760 and 75,600 tokens
LONGEST_S = 590  # of one measurement

Row = dict[str, Any]
say = partial(print, flush=True)  # what was printed is complete if it is stopped


@dataclass(frozen=True, slots=True)
class Stage:
    """The machine that plans are made for, and the device that runs them."""

    machine: Device
    device: str
    dry: bool

    def card(self, name: str) -> Card:
        """A known card; in a dry run the smallest network of its shape."""
        card = CARDS[name]
        return replace(card, dim=64, ffn=128, heads=2, layers=9, text_dim=32, text_len=8) if self.dry else card

    def film(self, width: int, height: int) -> ShotDirection:
        """Five seconds at a size; in a dry run half a second at a sixth of its sides."""
        seconds, shrink = (0.5, 6) if self.dry else (5.0, 1)
        format = {"width": width // shrink, "height": height // shrink}
        return from_plain({"seed": 1, "time": {"duration_s": seconds}, "format": format})

    def with_memory(self, gib: float) -> Device:
        """The machine with a GPU of so much memory."""
        gpu, total = self.machine.gpus[0], int(gib * GIB)
        return replace(self.machine, gpus=(replace(gpu, total_bytes=total, free_bytes=int(FREE * total)),))


def main(arguments: Sequence[str]) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m appliance.planning.hardware_check", description="compare plans with a real GPU"
    )
    parser.add_argument("--card", action="append", choices=sorted(CARDS), help="only these; may be repeated")
    parser.add_argument(
        "--play", action="append", type=float, metavar="GIB", help="simulate only GPUs of so much memory"
    )
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds after which nothing more is begun")
    parser.add_argument("--dry-run", action="store_true", help="run at a tiny size on the CPU")
    asked = parser.parse_args(arguments)
    end, code = time.monotonic() + asked.limit, 0
    try:
        stage = _stage(asked.dry_run)
    except RushesError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    document: Row = {"format": "rushes.measured/1", "dry_run": stage.dry, "machine": asdict(stage.machine)}
    document |= {"rates": None, "plans": [], "streaming": [], "not_begun": [], "interrupted": False}
    say(f"{stage.machine.gpus[0].name}{', a DRY RUN on the CPU' if stage.dry else ''}; its rates: ", end="")
    try:
        document["rates"] = measured(stage.device, stage.machine.cores)
        rates = rates_of(document["rates"])
        say(rate_rows({stage.device: document["rates"]})[0][1])
        for words, kind, rows in steps(stage, asked.card or CARDS_CHECKED, asked.play or SIMULATED_GIB, rates):
            if time.monotonic() >= end:
                document["not_begun"].append(words)
                continue
            for row in rows():
                document[kind].append(row)
    except KeyboardInterrupt:
        document["interrupted"], code = True, 130  # what was measured is printed
        say("\ninterrupted")
    except RushesError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    say(json.dumps(document))
    return code


def steps(
    stage: Stage, cards: Sequence[str], simulated: Sequence[float], rates: Rates
) -> Iterator[tuple[str, str, Callable[[], Iterator[Row]]]]:
    """What is measured, in order: (title, list of the document that it belongs to, the work)."""
    for name in cards:
        for width, height in SIZES:
            for gib in simulated:
                words = f"{name} {width}x{height} on {gib:.0f} GiB"
                yield words, "plans", partial(_plans, stage, name, (width, height), gib, rates)
        yield f"{name} in slots", "streaming", partial(streaming, stage, name)


def _plans(stage: Stage, name: str, size: tuple[int, int], gib: float, rates: Rates) -> Iterator[Row]:
    """A film on a simulated GPU: planned, measured, compared."""
    width, height = size
    say(f"{name} {width}x{height} on {gib:.0f} GiB: ", end="")
    row = _planned(stage, stage.card(name), stage.film(width, height), stage.with_memory(gib), gib, rates)
    yield {"card": name, "width": width, "height": height, "played_bytes": int(gib * GIB), **row}


def _planned(
    stage: Stage, card: Card, film: ShotDirection, machine: Device, gib: float, rates: Rates
) -> dict[str, Any]:
    request = PlanRequest(direction=film, machine=machine, card=card, device_request="gpu", rates={"cuda:0": rates})
    outcome = plan(request)
    if isinstance(outcome, Refusal):
        say(f"refused: {outcome.reason}")
        return {"refused": outcome.reason}
    stay, source = outcome.placement.resident_blocks, outcome.placement.source
    residency = "all stay" if stay is None else f"{stay} of {card.layers} stay, the others in {source}"
    say(f"{outcome.precision}, {residency}; ", end="")
    found = run(
        {
            "card": card_to_json(card), "geometry": asdict(_geometry(outcome, card)), "precision": outcome.precision,
            "placement": asdict(outcome.placement), "attention": "sdpa" if stage.dry else outcome.attention,
            "batch": outcome.batch, "device": stage.device, "card_bytes": int(FREE * gib * GIB),
        }
    )  # fmt: skip
    plan_facts = {
        name: getattr(outcome, name) for name in ("precision", "attention", "batch", "memory_bytes", "seconds")
    }
    predicted_s = _forward_s(outcome, card, machine, rates)
    say(_found_words(found, predicted_s))
    return {
        **plan_facts, "placement": asdict(outcome.placement), "layers": card.layers,
        "predicted_forward_s": predicted_s, "measured": found,
    }  # fmt: skip


def streaming(stage: Stage, name: str) -> Iterator[Row]:
    """A network that stays against the same one streamed through two slots, from pinned memory and from disk."""
    card, direction = stage.card(name), stage.film(*SIZES[0])
    geometry = Geometry(direction.frames, direction.format.height // 16 * 16, direction.format.width // 16 * 16)
    whole: Row = {}
    for words, placement in (
        ("all stay", Placement()), ("from memory", Placement(0, "ram")), ("from disk", Placement(0, "disk")),
    ):  # fmt: skip
        say(f"{name} in slots, {words}: ", end="")
        found = run(
            {
                "card": card_to_json(card), "geometry": asdict(geometry), "placement": asdict(placement),
                "attention": "sdpa" if stage.dry else _attention(stage.machine), "device": stage.device,
                "forwards": 4,
            }
        )  # fmt: skip
        whole = whole or found
        row = {"card": name, "tokens": geometry.tokens, "placement": asdict(placement), "measured": found}
        if "forward_s" in found and "forward_s" in whole:
            row["throughput"] = whole["forward_s"] / found["forward_s"]
            row["same"] = whole["digest"] == found["digest"]
            same = "the same film" if row["same"] else "ANOTHER FILM"
            say(f"a forward {found['forward_s']:.3f} s, {row['throughput']:.3f} of the speed, {same}")
        else:
            say(_trouble(found))
        yield row


def run(settings: dict[str, Any]) -> dict[str, Any]:
    """The result of models/bench/forward.py, run in a process of its own; {"failed": reason} where it gave none."""
    command = process.module_command("models.bench.forward", json.dumps(settings))
    environment = process.environment({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    try:
        child = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"it took longer than {LONGEST_S} s"}
    if child.returncode:
        reason = child.stderr.strip().split("\n")[-1] or process.exit_words(child.returncode)
        return {"failed": reason}
    return json.loads(child.stdout.strip().split("\n")[-1])


def _stage(dry: bool) -> Stage:
    """Raises BadInput where there is no GPU to measure."""
    machine = probe()
    if dry:
        gpu = Gpu(0, "GPU-dry", "NVIDIA GeForce RTX 3060", (8, 6), 12 * GIB, 12 * GIB)
        return Stage(replace(machine, gpus=(gpu,), torch="2.13.0", no_gpu=None, ram_free_bytes=64 * GIB), "cpu", True)
    if not machine.gpus or not machine.torch_has_cuda:
        raise BadInput(f"there is no GPU to measure ({machine.no_gpu or 'torch cannot use it'}): try --dry-run")
    return Stage(replace(machine, gpus=machine.gpus[:1]), "cuda:0", False)


def _geometry(outcome: Plan, card: Card) -> Geometry:
    return Geometry(outcome.frames, outcome.height, outcome.width, card.space_stride)


def _attention(machine: Device) -> str:
    from kernels.dispatch import choice_for  # start-up

    gpu = machine.gpus[0]
    return choice_for(gpu.capability or (7, 5), gpu.name).attention


def _forward_s(outcome: Plan, card: Card, machine: Device, rates: Rates) -> float:
    """The predicted seconds of one forward."""
    speed = gpu_speed(gpu_at(machine, "cuda:0"), machine, outcome.attention, rates)
    pace = BlockTimes(card, _geometry(outcome, card), outcome.precision, speed, outcome.batch, outcome.placement.source)
    stay = outcome.placement.resident_blocks
    return pace.forward(card.layers if stay is None else stay)


def _found_words(found: Row, predicted_s: float) -> str:
    """Memory and time of a forward, each next to its prediction."""
    if "peak_bytes" not in found:
        return _trouble(found)
    share, predicted = found["peak_bytes"] / found["predicted_bytes"], bytes_words(found["predicted_bytes"])
    memory = f"{bytes_words(found['peak_bytes'])} of {predicted} predicted ({share:.2f})"
    return f"{memory}, a forward {found['forward_s']:.2f} s of {predicted_s:.2f} s predicted"


def _trouble(found: Row) -> str:
    """Why there is no figure."""
    return found.get("out_of_memory") or found.get("failed") or "its result cannot be compared"


if __name__ == "__main__":
    # Started in the background it would ignore SIGINT; `timeout` sends SIGTERM.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
