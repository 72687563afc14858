"""What this machine will do about a direction: a pure function of the direction, the machine and the card.

Arithmetic on integers, some milliseconds at most, no torch and no disk: the desk plans on every keystroke. What does
not fit is a `Refusal`, a value with ways out that were each tried and do fit. Any card can be priced; what can be
rendered is for its package to say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from appliance.machine.device import Device
from appliance.machine.rates import Calibration, Rates
from appliance.planning.duration import interval
from appliance.planning.explain import way_words
from appliance.planning.fit import disk_bytes, usable_places, why_not
from appliance.planning.placements import Candidate, PlanRequest, best_way, sized
from appliance.planning.remedies import no_gpu, ways_out
from models.card import PREVIS, Card, steps_of
from models.cost.footprint import Footprint
from models.errors import BadInput
from models.geometry import PATCH, Geometry, snap_pixels
from models.placement import Placement

if TYPE_CHECKING:
    from appliance.direction.shot import ShotDirection

TRAINED = {"previs": (224, 128)}  # pixels that a model has seen, where it has not seen many sizes
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
    precision: str  # "int8"; "bf16" where int8 is no faster; "int4" only in drafts
    footprint: Footprint
    memory_bytes: int  # of RAM, or of the GPU, at the highest moment
    seconds: float
    seconds_low: float  # nine of ten takes are expected between these two
    seconds_high: float
    measured: bool  # rates or takes measured on this machine are in the estimate
    disk_bytes: int
    why: tuple[str, ...]
    placement: Placement = field(default_factory=Placement)  # how the network lies in the device's memory
    attention: str = "sdpa"  # of kernels/dispatch.py
    text: str = "none"  # where words are read: "none" | "cached" | "gpu" | "streamed" | "cpu"
    batch: int = 1  # passes of a step that go through the network together
    cache: str = "none"  # of what is kept from step to step
    host_bytes: int = 0  # of the machine's memory beside a GPU, at the highest moment

    def to_json(self) -> str:
        """As one JSON object; `from_json` gives the same plan back."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan in `text`. Raises BadInput when that is not one."""
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
    """Why this machine cannot, and what would help. A value, so that the desk can show it while somebody types."""

    reason: str
    remedies: tuple[str, ...]


def plan(
    direction: ShotDirection,
    device: Device,
    card: Card = PREVIS,
    calibration: Calibration | None = None,
    request_device: str | None = None,
    rates: Mapping[str, Rates] | None = None,
    text_cached: bool = False,
    packages: frozenset[str] = frozenset({PREVIS.name}),
    held: str | None = None,
) -> Plan | Refusal:
    """What `device` does about `direction` with the model `card`.

    `calibration` is what takes on this machine really took over what was estimated; `rates` are what its
    places ("cpu", "cuda:0") were measured to do. `request_device` asks for "cpu", "gpu" or "cuda:N"; without it the
    quickest that fits is taken. `text_cached`: these words were read before. `packages` names the cards whose weights
    are here, as ways out of a refusal; `held` is the precision in which those of this one are.
    """
    ask, why = _snap(direction, card)
    ask = replace(
        ask, text_cached=text_cached, packages=packages, request=request_device, held=held, rates=rates or {}
    )  # fmt: skip
    places, turned_down = usable_places(device, request_device)
    if not places:
        return Refusal(*no_gpu(ask, device, request_device or "gpu", turned_down))
    problems = {place: why_not(ask, device, place) for place in places}
    ways = {
        place: way for place in places if problems[place] is None and (way := best_way(ask, device, place)) is not None
    }
    if not ways:
        refused = next(problem for problem in problems.values() if problem is not None)
        return Refusal(refused, ways_out(ask, device, places))
    place = min(ways, key=lambda name: round(ways[name].seconds, 3))
    why += [*_beyond_training(ask), *turned_down]
    why += [f"not on {name}: {problem}" for name, problem in problems.items() if problem and name != "cpu"]
    why += way_words(ask, device, place, ways[place], calibration)
    return _plan(ask, place, ways[place], calibration, tuple(why))


def _snap(direction: ShotDirection, card: Card) -> tuple[PlanRequest, list[str]]:
    """The direction on the model's grid, and a word on whatever moved."""
    time, form, why = direction.time, direction.format, []
    frames = direction.frames
    asked = round(time.duration_s * time.fps + 2 * time.handles_f)
    if frames != asked:
        length = f"{frames / time.fps:.2f} s at {time.fps:g} fps"
        why.append(f"{asked} frames asked, {frames} made: the model works in 4n+1 frames ({length})")
    width, height = (snap_pixels(side, card.space_stride) for side in (form.width, form.height))
    if (width, height) != (form.width, form.height):
        asked_size = f"{form.width}x{form.height} asked"
        grid = card.space_stride * PATCH
        why.append(f"{asked_size}, {width}x{height} made: the model works in multiples of {grid} pixels")
    geometry = Geometry(frames, height, width, card.space_stride)
    steps = steps_of(direction.quality, card)
    return PlanRequest(card, geometry, float(time.fps), steps, time.handles_f, direction.seed, direction.quality), why


def _beyond_training(ask: PlanRequest) -> list[str]:
    """Warnings where a model is asked for what it has not seen."""
    why: list[str] = []
    name, frames = ask.card.name, ask.card.frames
    if ask.geometry.frames > TRUSTED * frames:
        why.append(f"{ask.geometry.frames} frames: {name} was trained on {frames}, a longer shot may drift")
    seen = TRAINED.get(name)
    ratio = ask.geometry.width * ask.geometry.height / (seen[0] * seen[1]) if seen else 1.0
    if seen and not 1 / TRUSTED <= ratio <= TRUSTED:
        size = f"{ask.geometry.width}x{ask.geometry.height}"
        why.append(f"{size}: {name} was trained at {seen[0]}x{seen[1]}, another size may look wrong")
    if ask.fps != ask.card.fps:
        why.append(f"{ask.fps:g} fps: {name} knows motion at {ask.card.fps:g} fps, speeds may be off")
    return why


def _plan(ask: PlanRequest, place: str, way: Candidate, calibration: Calibration | None, why: tuple[str, ...]) -> Plan:
    size, g, rated = sized(ask, place, way), ask.geometry, place in ask.rates
    low, seconds, high = interval(way.seconds, calibration, rated)
    return Plan(
        card=ask.card.name, frames=g.frames, width=g.width, height=g.height, fps=ask.fps, steps=ask.steps,
        solver=ask.card.solver, seed=ask.seed, device=place, precision=way.precision, footprint=size,
        memory_bytes=size.total_bytes, seconds=seconds, seconds_low=low, seconds_high=high,
        measured=calibration is not None or rated, disk_bytes=disk_bytes(ask.card, g), why=why,
        placement=way.placement, attention=way.attention, text=way.text, batch=way.batch, host_bytes=size.host_bytes,
    )  # fmt: skip
