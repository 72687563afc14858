"""Plans held to the hardware: for the day a GPU is at hand.

    python -m appliance.planning.hardware_check [--card wan2.1-t2v-14b] [--play 8 --play 24] [--limit 300] [--dry-run]

Plays smaller cards on the one that is here (a cap on what a process may take), plans films for each as the product
does, has models/bench/forward.py render a few forwards under that plan with drawn weights of real size, and compares
memory and time with what was predicted; then times networks that stay on the device against the same passing through
two slots. Small cards and films come first. Says what it is at, each figure as it comes, and one JSON document last,
also when it is interrupted. Needs neither weights nor a library, and no package beside torch's own but psutil and
pynvml. --dry-run walks it at a tiny size on the processor: what it prints then measures nothing.
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
from appliance.machine.calibrate import rows as told
from appliance.machine.device import Device, Gpu
from appliance.machine.probe import probe
from appliance.machine.rates import Rates, rates_of
from appliance.planning.duration import BlockTimes
from appliance.planning.placements import gpu_at
from appliance.planning.plan import Plan, Refusal, plan
from appliance.planning.speed import gpu_speed
from appliance.units import bytes_words
from models.card import CARDS, Card
from models.errors import BadInput, RushesError
from models.geometry import Geometry
from models.placement import Placement
from models.weight_files.package_header import card_to_json

GIB = 2**30
PLAYED_GIB = (8.0, 12.0, 16.0, 24.0)
FREE = 0.95  # of a card's memory, when nobody else uses it
CARDS_PLAYED = ("wan2.1-t2v-1.3b", "wan2.1-t2v-14b")
SIZES = ((832, 480), (1280, 720))  # 81 frames each: 32,760 and 75,600 tokens
LONGEST_S = 590  # of one measurement

Row = dict[str, Any]
say = partial(print, flush=True)  # whoever stops it has what was said


@dataclass(frozen=True, slots=True)
class Stage:
    """Where it is played: the machine that plans are made for, and the device that renders."""

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

    def played(self, gib: float) -> Device:
        """The machine with a card of so much memory."""
        gpu, total = self.machine.gpus[0], int(gib * GIB)
        return replace(self.machine, gpus=(replace(gpu, total_bytes=total, free_bytes=int(FREE * total)),))


def main(arguments: Sequence[str]) -> int:
    """Measures, and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m appliance.planning.hardware_check", description="plans held to the hardware"
    )
    parser.add_argument("--card", action="append", choices=sorted(CARDS), help="only these; may be repeated")
    parser.add_argument("--play", action="append", type=float, metavar="GIB", help="only cards of so much memory")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds after which nothing more is begun")
    parser.add_argument("--dry-run", action="store_true", help="walk it at a tiny size on the processor")
    asked = parser.parse_args(arguments)
    end, code = time.monotonic() + asked.limit, 0
    try:
        stage = _stage(asked.dry_run)
    except RushesError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    document: Row = {"format": "rushes.measured/1", "dry_run": stage.dry, "machine": asdict(stage.machine)}
    document |= {"rates": None, "plans": [], "streaming": [], "not_begun": [], "interrupted": False}
    say(f"{stage.machine.gpus[0].name}{', a DRY RUN on the processor' if stage.dry else ''}; its rates: ", end="")
    try:
        document["rates"] = measured(stage.device, stage.machine.cores)
        rates = rates_of(document["rates"])
        say(told({stage.device: document["rates"]})[0][1])
        for words, kind, rows in steps(stage, asked.card or CARDS_PLAYED, asked.play or PLAYED_GIB, rates):
            if time.monotonic() >= end:
                document["not_begun"].append(words)
                continue
            for row in rows():
                document[kind].append(row)
    except KeyboardInterrupt:
        document["interrupted"], code = True, 130  # what was measured is kept
        say("\ninterrupted")
    except RushesError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    say(json.dumps(document))
    return code


def steps(
    stage: Stage, cards: Sequence[str], played: Sequence[float], rates: Rates
) -> Iterator[tuple[str, str, Callable[[], Iterator[Row]]]]:
    """What is measured, in its order: words for it, the list of the document that it belongs to, and the work."""
    for name in cards:
        for width, height in SIZES:
            for gib in played:
                words = f"{name} {width}x{height} on {gib:.0f} GiB"
                yield words, "plans", partial(_plans, stage, name, (width, height), gib, rates)
        yield f"{name} in slots", "streaming", partial(streaming, stage, name)


def _plans(stage: Stage, name: str, size: tuple[int, int], gib: float, rates: Rates) -> Iterator[Row]:
    """A film on a card that is played: planned, measured, compared."""
    width, height = size
    say(f"{name} {width}x{height} on {gib:.0f} GiB: ", end="")
    row = _planned(stage, stage.card(name), stage.film(width, height), stage.played(gib), gib, rates)
    yield {"card": name, "width": width, "height": height, "played_bytes": int(gib * GIB), **row}


def _planned(
    stage: Stage, card: Card, film: ShotDirection, machine: Device, gib: float, rates: Rates
) -> dict[str, Any]:
    outcome = plan(film, machine, card, None, "gpu", {"cuda:0": rates})
    if isinstance(outcome, Refusal):
        say(f"refused: {outcome.reason}")
        return {"refused": outcome.reason}
    stay, source = outcome.placement.resident_blocks, outcome.placement.source
    lies = "all stay" if stay is None else f"{stay} of {card.layers} stay, the others in {source}"
    say(f"{outcome.precision}, {lies}; ", end="")
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
    """A network that stays against the same one passing through two slots, from pinned memory and from the disk."""
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


def run(job: dict[str, Any]) -> dict[str, Any]:
    """What models/bench/forward.py finds, in a process of its own. Raises RushesError with how that ended."""
    command = process.module_command("models.bench.forward", json.dumps(job))
    environment = process.environment({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    try:
        child = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"it took longer than {LONGEST_S} s"}
    if child.returncode:
        said = child.stderr.strip().split("\n")[-1] or process.exit_words(child.returncode)
        return {"failed": said}
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
    """What the plan's arithmetic gives one forward."""
    speed = gpu_speed(gpu_at(machine, "cuda:0"), machine, outcome.attention, rates)
    pace = BlockTimes(card, _geometry(outcome, card), outcome.precision, speed, outcome.batch, outcome.placement.source)
    stay = outcome.placement.resident_blocks
    return pace.forward(card.layers if stay is None else stay)


def _found_words(found: Row, predicted_s: float) -> str:
    """Memory and time of a forward, each beside what was predicted."""
    if "peak_bytes" not in found:
        return _trouble(found)
    share, predicted = found["peak_bytes"] / found["predicted_bytes"], bytes_words(found["predicted_bytes"])
    memory = f"{bytes_words(found['peak_bytes'])} of {predicted} predicted ({share:.2f})"
    return f"{memory}, a forward {found['forward_s']:.2f} s of {predicted_s:.2f} s predicted"


def _trouble(found: Row) -> str:
    """Why there is no figure."""
    return found.get("out_of_memory") or found.get("failed") or "its result cannot be compared"


if __name__ == "__main__":
    # Whoever starts it in the background has it ignore SIGINT; `timeout` sends SIGTERM.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
