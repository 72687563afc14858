"""What this machine will do about a direction: a pure function of the direction, the machine and the model's card.

Arithmetic on integers, some milliseconds at most, without torch and without touching the disk: the desk plans on every
keystroke. What does not fit is a `Refusal`, a value with remedies that were each tried and do fit. Any card can be
planned; whether it can be rendered is decided by its package.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from appliance.planning.duration import interval
from appliance.planning.explain import reasons
from appliance.planning.fit import disk_bytes, usable_devices, why_not
from appliance.planning.placements import Candidate, fastest, footprint_of
from appliance.planning.remedies import no_gpu, remedies
from appliance.planning.request import PlanRequest
from models.cost.footprint import Footprint
from models.errors import BadInput
from models.geometry import PATCH
from models.placement import Placement

TRAINED = {"previs": (224, 128)}  # pixels that a model was trained at, where these were few sizes
TRUSTED = 2.0  # times what it was trained at, in length and in area, before `why` warns


@dataclass(frozen=True, slots=True)
class Plan:
    """What this machine will do, and why."""

    card: str
    frames: int  # on the model's grid
    width: int  # pixels
    height: int
    fps: float
    steps: int
    solver: str
    seed: int | None  # None only in a quote of a direction that has none yet
    device: str  # "cpu" | "cuda:0"
    precision: str  # "int8"; "bf16" where int8 is no faster; "int4" only in drafts
    footprint: Footprint
    memory_bytes: int  # of RAM, or of the GPU, at its peak
    seconds: float
    seconds_low: float  # nine of ten takes are expected between these two
    seconds_high: float
    measured: bool  # rates or takes measured on this machine are in the estimate
    disk_bytes: int
    why: tuple[str, ...]
    placement: Placement = field(default_factory=Placement)  # which blocks stay in the device's memory, and tile sizes
    attention: str = "sdpa"  # of kernels/dispatch.py
    text: str = "none"  # where the prompt is encoded: "none" | "cached" | "gpu" | "streamed" | "cpu"
    batch: int = 1  # guidance passes of a step that are computed together
    cache: str = "none"  # of the network's output from step to step
    host_bytes: int = 0  # of system memory, when a GPU renders, at its peak

    def to_json(self) -> str:
        """As one JSON object; `from_json` gives the same plan back."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan in `text`. Raises BadInput where it is not one."""
        try:
            data: dict[str, Any] = json.loads(text)
            typed = {"footprint": Footprint(**data["footprint"]), "why": tuple(data["why"])}
            if "placement" in data:  # older libraries hold plans without one
                typed["placement"] = Placement(**data["placement"])
            return cls(**data | typed)
        except (ValueError, TypeError, KeyError) as error:
            names = ", ".join(each.name for each in fields(cls))
            raise BadInput(f"this is not a plan ({error}): it must be a JSON object of {names}") from error


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why this machine cannot make the film, and what would help. A value, so that the desk can show it at any time."""

    reason: str
    remedies: tuple[str, ...]


def plan(request: PlanRequest) -> Plan | Refusal:
    """The fastest way to make the film on this machine, or why it cannot be made and what would help."""
    devices, unusable = usable_devices(request.machine, request.device_request)
    if not devices:
        return Refusal(*no_gpu(request, unusable))
    problems = {device: why_not(request, device) for device in devices}
    candidates = {
        device: found
        for device in devices
        if problems[device] is None and (found := fastest(request, device)) is not None
    }
    if not candidates:
        refused = next(problem for problem in problems.values() if problem is not None)
        return Refusal(refused, remedies(request, devices))
    device = min(candidates, key=lambda name: round(candidates[name].seconds, 3))
    why = [*_snapped(request), *_beyond_training(request), *unusable]
    why += [f"not on {name}: {problem}" for name, problem in problems.items() if problem and name != "cpu"]
    why += reasons(request, device, candidates[device])
    return _plan(request, device, candidates[device], tuple(why))


def _snapped(request: PlanRequest) -> list[str]:
    """A line on each number of the direction that the model's grid changed."""
    time, form, film, why = request.direction.time, request.direction.format, request.film, []
    asked = round(time.duration_s * time.fps + 2 * time.handles_f)
    if film.frames != asked:
        length, more = f"{film.frames / time.fps:.2f} s at {time.fps:g} fps", film.frames - asked
        tail = "the last is" if more == 1 else f"the last {more} are"
        made = f"{asked} frames asked, {film.frames} made: the model works in 4n+1 frames ({length})"
        why.append(f"{made}; {tail} a handle after the cut")
    if (film.width, film.height) != (form.width, form.height):
        asked_size = f"{form.width}x{form.height} asked"
        grid = request.card.space_stride * PATCH
        why.append(f"{asked_size}, {film.width}x{film.height} made: the model works in multiples of {grid} pixels")
    return why


def _beyond_training(request: PlanRequest) -> list[str]:
    """Warnings where a film is not like those that the model was trained on."""
    why: list[str] = []
    film, name, frames = request.film, request.card.name, request.card.frames
    if film.frames > TRUSTED * frames:
        why.append(f"{film.frames} frames: {name} was trained on {frames}, a longer shot may drift")
    trained = TRAINED.get(name)
    ratio = film.width * film.height / (trained[0] * trained[1]) if trained else 1.0
    if trained and not 1 / TRUSTED <= ratio <= TRUSTED:
        size = f"{film.width}x{film.height}"
        why.append(f"{size}: {name} was trained at {trained[0]}x{trained[1]}, another size may look wrong")
    if request.fps != request.card.fps:
        why.append(f"{request.fps:g} fps: {name} was trained at {request.card.fps:g} fps, speeds may be off")
    return why


def _plan(request: PlanRequest, device: str, chosen: Candidate, why: tuple[str, ...]) -> Plan:
    size, film, card = footprint_of(request, device, chosen), request.film, request.card
    rated = device in request.rates
    low, seconds, high = interval(chosen.seconds, request.calibration, rated)
    return Plan(
        card=card.name, frames=film.frames, width=film.width, height=film.height, fps=request.fps, steps=request.steps,
        solver=card.solver, seed=request.direction.seed, device=device, precision=chosen.precision, footprint=size,
        memory_bytes=size.total_bytes, seconds=seconds, seconds_low=low, seconds_high=high,
        measured=request.calibration is not None or rated, disk_bytes=disk_bytes(card, film), why=why,
        placement=chosen.placement, attention=chosen.attention, text=chosen.text, batch=chosen.batch,
        host_bytes=size.host_bytes,
    )  # fmt: skip
