"""Plans held to the hardware: for the day a GPU is at hand.

    python -m appliance.measure [--card wan2.1-t2v-14b] [--play 8 --play 24] [--dry-run]

Plays smaller cards on the one that is here (a cap on what a process may take), plans films for each as the product
does, has models/measure.py render a few forwards under that plan with drawn weights of real size, and compares memory
and time with what was predicted; then times networks that stay on the device against the same passing through two
slots. Prints tables, and one JSON document last. Needs neither weights nor a library, and no package beside torch's own
but psutil and pynvml. --dry-run walks it at a tiny size on the processor: what it prints then measures nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from appliance import process
from appliance.calibrate import measured, rates_of
from appliance.device import Device, Gpu, probe
from appliance.direction import ShotDirection, from_plain
from appliance.estimate import Pace, Rates
from appliance.placing import gpu_at
from appliance.plan import Plan, Refusal, plan
from appliance.speeds import gpu_speed
from appliance.units import bytes_words
from models.card import CARDS, Card
from models.errors import BadInput, RushesError
from models.geometry import Geometry
from models.header import card_to_json
from models.placement import Placement

GIB = 2**30
PLAYED_GIB = (8.0, 12.0, 16.0, 24.0)
FREE = 0.95  # of a card's memory, when nobody else uses it
CARDS_PLAYED = ("wan2.1-t2v-1.3b", "wan2.1-t2v-14b")
SIZES = ((832, 480), (1280, 720))  # 81 frames each: 32,760 and 75,600 tokens
LONGEST_S = 590  # of one measurement


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
    parser = argparse.ArgumentParser(prog="python -m appliance.measure", description="plans held to the hardware")
    parser.add_argument("--card", action="append", choices=sorted(CARDS), help="only these; may be repeated")
    parser.add_argument("--play", action="append", type=float, metavar="GIB", help="only cards of so much memory")
    parser.add_argument("--dry-run", action="store_true", help="walk it at a tiny size on the processor")
    asked = parser.parse_args(arguments)
    try:
        stage = _stage(asked.dry_run)
        cards, played = asked.card or CARDS_PLAYED, asked.play or PLAYED_GIB
        document: dict[str, Any] = {
            "format": "rushes.measured/1",
            "dry_run": stage.dry,
            "machine": asdict(stage.machine),
        }
        document["rates"] = measured(stage.device, stage.machine.cores)
        rates = rates_of(document["rates"])
        document["plans"] = list(plans(stage, cards, played, rates))
        document["streaming"] = list(streaming(stage, cards))
    except RushesError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(document))
    return 0


def plans(stage: Stage, cards: Sequence[str], played: Sequence[float], rates: Rates) -> Iterator[dict[str, Any]]:
    """Every film on every card that is played: planned, measured, compared; a row is printed as it comes."""
    print(f"{'card':<18}{'film':>12}{'plays':>8}  {'plan':<26}{'memory: predicted':>18}{'measured':>10}{'':>6}", end="")
    print(f"{'a forward: predicted':>22}{'measured':>10}")
    for name in cards:
        for width, height in SIZES:
            for gib in played:
                row = _planned(stage, stage.card(name), stage.film(width, height), stage.played(gib), gib, rates)
                _say_plan(name, row, f"{width}x{height}", gib)
                yield {"card": name, "width": width, "height": height, "played_bytes": int(gib * GIB), **row}


def _planned(
    stage: Stage, card: Card, film: ShotDirection, machine: Device, gib: float, rates: Rates
) -> dict[str, Any]:
    outcome = plan(film, machine, card, None, "gpu", {"cuda:0": rates})
    if isinstance(outcome, Refusal):
        return {"refused": outcome.reason}
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
    return {
        **plan_facts, "placement": asdict(outcome.placement), "layers": card.layers,
        "predicted_forward_s": _forward_s(outcome, card, machine, rates), "measured": found,
    }  # fmt: skip


def streaming(stage: Stage, cards: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A network that stays against the same one passing through two slots, from pinned memory and from the disk."""
    print(f"\n{'card':<18}{'blocks':<12}{'a forward':>10}{'of resident':>13}  the same film")
    for name in cards:
        card, width_height = stage.card(name), SIZES[0]
        direction = stage.film(*width_height)
        geometry = Geometry(direction.frames, direction.format.height // 16 * 16, direction.format.width // 16 * 16)
        whole: dict[str, Any] = {}
        for words, placement in (
            ("stay", Placement()), ("from memory", Placement(0, "ram")), ("from disk", Placement(0, "disk")),
        ):  # fmt: skip
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
                print(f"{name:<18}{words:<12}{found['forward_s']:>8.3f} s{row['throughput']:>13.3f}  {row['same']}")
            else:
                print(f"{name:<18}{words:<12}{found.get('out_of_memory', '')}")
            yield row


def run(job: dict[str, Any]) -> dict[str, Any]:
    """What models/measure.py finds, in a process of its own. Raises RushesError with how that ended."""
    command = process.module_command("models.measure", json.dumps(job))
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
    from kernels.dispatch import choice_for

    gpu = machine.gpus[0]
    return choice_for(gpu.capability or (7, 5), gpu.name).attention


def _forward_s(outcome: Plan, card: Card, machine: Device, rates: Rates) -> float:
    """What the plan's arithmetic gives one forward."""
    speed = gpu_speed(gpu_at(machine, "cuda:0"), machine, outcome.attention, rates)
    pace = Pace(card, _geometry(outcome, card), outcome.precision, speed, outcome.batch, outcome.placement.source)
    stay = outcome.placement.resident_blocks
    return pace.forward(card.layers if stay is None else stay)


def _say_plan(name: str, row: dict[str, Any], film: str, gib: float) -> None:
    print(f"{name:<18}{film:>12}{gib:>6.0f} G  ", end="")
    if "refused" in row:
        return print(f"refused: {row['refused']}")
    placement, found = row["placement"], row["measured"]
    stay = placement["resident_blocks"]
    lies = "all stay" if stay is None else f"{stay} of {row['layers']} stay, {placement['source']}"
    print(f"{row['precision'] + ', ' + lies:<26}", end="")
    if "peak_bytes" not in found:
        return print(found.get("out_of_memory") or found.get("failed"))
    share, predicted = found["peak_bytes"] / found["predicted_bytes"], bytes_words(found["predicted_bytes"])
    print(f"{predicted:>18}{bytes_words(found['peak_bytes']):>10}{share:>6.2f}", end="")
    print(f"{row['predicted_forward_s']:>20.2f} s{found['forward_s']:>8.2f} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
