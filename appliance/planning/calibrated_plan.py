"""What this machine has shown of itself, brought to a plan: measured rates, what takes took, where memory ran out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from appliance.machine.device import Device
from appliance.machine.rates import Calibration, MachineHistory
from appliance.planning.plan import Plan, Refusal, plan
from models.card import PREVIS, Card

if TYPE_CHECKING:
    from appliance.direction.shot import ShotDirection

# After a plan ran out of memory, the next may count on this share of what that one had: more is not credible, because
# what allocators hold back, by which plans are off, is of this order.
CREDIBLE = 0.85


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """A plan that ran out of memory: where, and how many bytes of it it had counted on."""

    place: str  # "cpu": the machine's own memory
    bytes: int


def kind_of(place: str) -> str:
    """ "cuda:1" is of the kind "cuda"."""
    return place.partition(":")[0]


def planned(
    direction: ShotDirection,
    device: Device,
    card: Card,
    known: MachineHistory,
    request: str | None = None,
    miss: OutOfMemory | None = None,
    packages: frozenset[str] = frozenset({PREVIS.name}),
    held: str | None = None,
    text_cached: bool = False,
) -> tuple[Plan | Refusal, float]:
    """What this machine does about a direction, given what it has shown; and the seconds that its rates alone give.

    After a `miss` a smaller plan is made, or none; where takes took more memory than was predicted for them, less of
    what is free is counted on. The seconds are what the take is calibrated by when it is done;
    `packages`, `held` and `text_cached` are as appliance/planning/plan.py has them.
    """
    device = tightened(device, known.calibrations)
    if miss is not None:
        device = lessened(device, miss)
    outcome = plan(direction, device, card, None, request, known.rates, text_cached, packages, held)
    if isinstance(outcome, Refusal):
        return outcome, 0.0
    nominal, measured = outcome.seconds, known.calibrations.get((outcome.precision, kind_of(outcome.device)))
    if measured is not None:
        outcome = plan(direction, device, card, measured, request, known.rates, text_cached, packages, held)
    return outcome, nominal


def tightened(device: Device, calibrations: Mapping[tuple[str, str], Calibration]) -> Device:
    """The machine as a plan may count on it where takes took more of a GPU's memory than predicted: by so much less.

    Not of the machine's own, of which the stage takes what is free, to make control films on all cores.
    """
    over = max((found.memory for (_, kind), found in calibrations.items() if kind == "cuda"), default=1.0)
    gpus = tuple(
        gpu if gpu.free_bytes is None else replace(gpu, free_bytes=int(gpu.free_bytes / over)) for gpu in device.gpus
    )
    return replace(device, gpus=gpus)


def lessened(device: Device, miss: OutOfMemory) -> Device:
    """The machine as a plan may count on it after one ran out of memory there."""
    credible = int(CREDIBLE * miss.bytes)
    if miss.place == "cpu":
        return replace(device, ram_free_bytes=min(device.ram_free_bytes, credible))
    gpus = list(device.gpus)
    index = int(miss.place.partition(":")[2] or 0)
    if index < len(gpus):
        gpus[index] = replace(gpus[index], free_bytes=min(gpus[index].free_bytes or 0, credible))
    return replace(device, gpus=tuple(gpus))
