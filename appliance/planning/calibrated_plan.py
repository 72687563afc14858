"""Plans corrected by what this machine has shown: measured rates, how long takes took, where memory ran out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from appliance.machine.device import Device
from appliance.machine.rates import Calibration, MachineHistory
from appliance.planning.plan import Plan, Refusal, plan
from appliance.planning.request import PlanRequest

# After a plan ran out of memory, the next may count on this share of what that one needed: more is not credible,
# because the error of a plan is of the order of what allocators hold back.
CREDIBLE = 0.85


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """A plan that ran out of memory: on which device, and how many bytes it had counted on there."""

    device: str  # "cpu": system memory
    bytes: int


def kind_of(device: str) -> str:
    """ "cuda:1" is of the kind "cuda"."""
    return device.partition(":")[0]


def planned(
    request: PlanRequest, history: MachineHistory, miss: OutOfMemory | None = None
) -> tuple[Plan | Refusal, float]:
    """The plan corrected by the machine's history, and the seconds that rates alone predict.

    Rates and calibration are taken from `history`, not from the request. After a `miss` the plan is smaller, or
    refused; where takes used more memory than predicted, less of what is free is counted on. The seconds are what the
    finished take is compared with to calibrate later ones.
    """
    machine = corrected_for_overrun(request.machine, history.calibrations)
    if miss is not None:
        machine = reduced_after(machine, miss)
    request = replace(request, machine=machine, rates=history.rates, calibration=None)
    outcome = plan(request)
    if isinstance(outcome, Refusal):
        return outcome, 0.0
    nominal, measured = outcome.seconds, history.calibrations.get((outcome.precision, kind_of(outcome.device)))
    if measured is not None:
        outcome = plan(replace(request, calibration=measured))
    return outcome, nominal


def corrected_for_overrun(machine: Device, calibrations: Mapping[tuple[str, str], Calibration]) -> Device:
    """The machine with its free GPU memory divided by the worst overrun (measured over predicted) of takes on a GPU.

    Free system memory stays as it is: the stage fills what is free to render control films on all cores, so a take on
    the CPU that used more than predicted says nothing.
    """
    overrun = max((found.memory for (_, kind), found in calibrations.items() if kind == "cuda"), default=1.0)
    gpus = tuple(
        gpu if gpu.free_bytes is None else replace(gpu, free_bytes=int(gpu.free_bytes / overrun))
        for gpu in machine.gpus
    )
    return replace(machine, gpus=gpus)


def reduced_after(machine: Device, miss: OutOfMemory) -> Device:
    """The machine with no more free memory on that device than a plan may count on after it ran out there."""
    credible = int(CREDIBLE * miss.bytes)
    if miss.device == "cpu":
        return replace(machine, ram_free_bytes=min(machine.ram_free_bytes, credible))
    gpus = list(machine.gpus)
    index = int(miss.device.partition(":")[2] or 0)
    if index < len(gpus):
        gpus[index] = replace(gpus[index], free_bytes=min(gpus[index].free_bytes or 0, credible))
    return replace(machine, gpus=tuple(gpus))
