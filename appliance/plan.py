"""What this machine will do about a direction: a pure function of the direction, the machine and the card.

Arithmetic on integers, below a millisecond, no torch and no disk: the desk plans on every keystroke. What does not fit
is a `Refusal`, a value with ways out that were each tried and do fit.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from appliance.device import Device
from appliance.estimate import Calibration, estimate_seconds, interval
from appliance.fitting import PRECISION, Ask, disk_bytes, fits_words, gpu_at, steps_of, usable_places, why_not
from appliance.remedies import no_gpu, ways_out
from models.card import PREVIS, Card
from models.errors import BadInput
from models.footprint import Footprint, footprint
from models.geometry import Geometry, snap_pixels

if TYPE_CHECKING:
    from appliance.direction import ShotDirection

SOLVER = "unipc"
TRAINED = {"previs": Geometry(33, 128, 224)}  # what a shipped model has seen
TRUSTED = 2.0  # times what it has seen, in length and in area, before `why` warns


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
    precision: str
    footprint: Footprint
    memory_bytes: int  # of RAM, or of the GPU, at the highest moment
    seconds: float
    seconds_low: float  # nine of ten takes are expected between these two
    seconds_high: float
    measured: bool  # takes on this machine corrected the estimate
    disk_bytes: int
    why: tuple[str, ...]

    def to_json(self) -> str:
        """As one JSON object; `from_json` gives the same plan back."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan in `text`. Raises BadInput when that is not one."""
        try:
            data = json.loads(text)
            return cls(**data | {"footprint": Footprint(**data["footprint"]), "why": tuple(data["why"])})
        except (ValueError, TypeError, KeyError) as error:
            names = ", ".join(field.name for field in fields(cls))
            raise BadInput(f"this is not a plan ({error}): it must be a JSON object of {names}") from error


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why this machine cannot, and what would help. A value, so that the desk can show it while somebody types."""

    reason: str
    remedies: tuple[str, ...]


def plan(
    direction: ShotDirection,
    device: Device,
    card: Card = PREVIS,
    calibration: Calibration | None = None,
    request_device: str | None = None,
) -> Plan | Refusal:
    """What `device` does about `direction` with the model `card`.

    `calibration` is what takes on this machine really took over what was estimated.
    `request_device` asks for "cpu", "gpu" or "cuda:N"; without it the best that fits is taken.
    """
    ask, snapped = _snap(direction, card)
    places, turned_down = usable_places(device, request_device)
    if not places:
        return Refusal(*no_gpu(ask, device, request_device or "gpu", turned_down))
    why = [*snapped, *_beyond_training(ask), *turned_down]
    for place in places:
        problem = why_not(ask, device, place)
        if problem is None:
            return _plan(ask, device, place, calibration, (*why, fits_words(ask, device, place)))
        why.append(problem if place == "cpu" else f"not on {place}: {problem}")
    refused = why_not(ask, device, places[0])
    assert refused is not None
    return Refusal(refused, ways_out(ask, device, places, request_device))


def _snap(direction: ShotDirection, card: Card) -> tuple[Ask, list[str]]:
    """The direction on the model's grid, and a word on whatever moved."""
    time, form, why = direction.time, direction.format, []
    frames = direction.frames
    asked = round(time.duration_s * time.fps + 2 * time.handles_f)
    if frames != asked:
        length = f"{frames / time.fps:.2f} s at {time.fps:g} fps"
        why.append(f"{asked} frames asked, {frames} made: the model works in 4n+1 frames ({length})")
    width, height = snap_pixels(form.width), snap_pixels(form.height)
    if (width, height) != (form.width, form.height):
        asked_size = f"{form.width}x{form.height} asked"
        why.append(f"{asked_size}, {width}x{height} made: the model works in multiples of 16 pixels")
    geometry = Geometry(frames, height, width)
    return Ask(card, geometry, float(time.fps), steps_of(direction.quality, card), time.handles_f, direction.seed), why


def _beyond_training(ask: Ask) -> list[str]:
    """Warnings where the shipped model is asked for what it has not seen."""
    why: list[str] = []
    seen = TRAINED.get(ask.card.name)
    if seen is None:
        return why
    if ask.geometry.frames > TRUSTED * seen.frames:
        name = ask.card.name
        why.append(f"{ask.geometry.frames} frames: {name} was trained on {seen.frames}, a longer shot may drift")
    ratio = ask.geometry.width * ask.geometry.height / (seen.width * seen.height)
    if not 1 / TRUSTED <= ratio <= TRUSTED:
        size = f"{ask.geometry.width}x{ask.geometry.height}"
        why.append(f"{size}: {ask.card.name} was trained at {seen.width}x{seen.height}, another size may look wrong")
    if ask.fps != ask.card.fps:
        why.append(f"{ask.fps:g} fps: {ask.card.name} knows motion at {ask.card.fps:g} fps, speeds may be off")
    return why


def _plan(ask: Ask, device: Device, place: str, calibration: Calibration | None, why: tuple[str, ...]) -> Plan:
    size = footprint(ask.card, ask.geometry, PRECISION, place)
    capability = None if place == "cpu" else gpu_at(device, place).capability
    estimated = estimate_seconds(ask.card, ask.geometry, ask.steps, place, device.cores, capability)
    low, seconds, high = interval(estimated, calibration)
    g = ask.geometry
    return Plan(
        card=ask.card.name, frames=g.frames, width=g.width, height=g.height, fps=ask.fps, steps=ask.steps,
        solver=SOLVER, seed=ask.seed, device=place, precision=PRECISION, footprint=size, memory_bytes=size.total_bytes,
        seconds=seconds, seconds_low=low, seconds_high=high, measured=calibration is not None,
        disk_bytes=disk_bytes(g), why=why,
    )  # fmt: skip
