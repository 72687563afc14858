"""Asked and measured: what a take's pictures say of the direction it was made from, axis by axis.

The estimators look at the film alone; of the blocking they use the standing geometry (how far things are, who stands
where) to know what a motion means. What cannot be measured on a film is said to be unmeasured, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from appliance.score_camera import angles, asked_camera, measure_camera
from appliance.score_light import Light, asked_light, measure_light
from appliance.score_subject import find_subject
from models import stage
from models.blocking import Array, Blocking

if TYPE_CHECKING:
    from appliance.direction_notes import Tolerances

FRAMES_LOOKED_AT = 5  # of a film, for people and light
MOVED_PX = 1.0  # picture motion below which a camera counts as locked off
SCORED = 0.7  # of the frames that must have been measured, for the camera to be


@dataclass(frozen=True, slots=True)
class Measured:
    """One axis of one take."""

    axis: str  # "pan" | "tilt" | ... | "mara place"
    unit: str
    asked: float
    measured: float | None  # None: it could not be measured
    error: float | None  # in the unit of `tolerance`
    tolerance: float
    tolerance_unit: str
    note: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether it is within tolerance; None where it was not measured."""
        return None if self.error is None else abs(self.error) <= self.tolerance


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What the stage knows of the standing world in every frame."""

    depth: Array  # (T, h, w) metres
    standing: Array  # (T, h, w) bool: no person, no sky


def ground(blocking: Blocking) -> Ground:
    """The stage's geometry of a blocking, one ray a pixel."""
    frames = list(stage.render(blocking))
    ids = np.stack([frame.ids for frame in frames])
    return Ground(np.stack([frame.depth for frame in frames]), (ids > stage.SKY) & (ids < stage.SUBJECT))


def measure(film: Array, blocking: Blocking, tolerances: Tolerances) -> list[Measured]:
    """Every axis of a film (T, h, w, 3) in 0..1 that can be measured, against what its blocking asks."""
    return [
        *_camera(film, blocking, tolerances),
        *_people(film, blocking, tolerances),
        *_light(film, blocking, tolerances),
    ]


def _camera(film: Array, blocking: Blocking, allowed: Tolerances) -> Iterator[Measured]:
    if blocking.frames < 2:
        return
    world = ground(blocking)
    found, asked = measure_camera(film, blocking, world.depth, world.standing), asked_camera(blocking)
    sure = float(found.scored.mean()) >= SCORED
    note = "" if sure else "too few points of the set could be followed"

    def row(axis: str, unit: str, want: float, got: float, error: float, tolerance: float, in_unit: str) -> Measured:
        return Measured(axis, unit, want, got if sure else None, error if sure else None, tolerance, in_unit, note)

    turned, wanted = angles(found), angles(asked)
    turns = (("pan", allowed.pan_deg), ("tilt", allowed.pan_deg), ("roll", allowed.roll_deg))
    for i, (axis, tolerance) in enumerate(turns):
        worst = _worst(turned[:, i] - wanted[:, i])
        yield row(axis, "deg", wanted[-1, i], turned[-1, i], worst, tolerance, "deg")
    path = float(np.linalg.norm(np.diff(asked.position, axis=0), axis=1).sum())
    off = float(np.linalg.norm(found.position - asked.position, axis=1).max())
    went = float(np.linalg.norm(np.diff(found.position, axis=0), axis=1).sum())
    if path > 0.02 * blocking.subject_distance_m:
        yield row("travel", "m", path, went, 100 * off / path, allowed.travel_pct, "% of path")
    zoomed, zoom = found.focal_px / found.focal_px[0], asked.focal_px / asked.focal_px[0]
    yield row("zoom", "x", zoom[-1], zoomed[-1], 100 * _worst(zoomed / zoom - 1), allowed.zoom_pct, "%")
    if path == 0 and np.ptp(wanted) < 1e-6 and np.ptp(zoom) < 1e-9:
        drift = standing_drift(film, world)
        yield Measured("drift", "px/frame", 0.0, drift, drift, allowed.drift_px, "px/frame",
                       "" if drift is not None else note or "nothing of the set could be followed")  # fmt: skip


def standing_drift(film: Array, world: Ground) -> float | None:
    """How far a locked-off picture moved from its first frame to its last, in pixels a frame; None: not measured."""
    from appliance.flow import corners, follow, grey

    pictures = grey(film)
    points = corners(pictures[0], world.standing[0])
    seen, sure = follow(pictures[0], pictures[-1], points, points)
    if sure.sum() < 8:
        return None
    return float(np.median(np.linalg.norm((seen - points)[sure], axis=1)) / (len(film) - 1))


def _people(film: Array, blocking: Blocking, allowed: Tolerances) -> Iterator[Measured]:
    diagonal = math.hypot(blocking.width, blocking.height)
    frames = np.unique(np.linspace(0, blocking.frames - 1, FRAMES_LOOKED_AT).round().astype(int)).tolist()
    for i, person in enumerate(blocking.subjects):
        looked = find_subject(film, blocking, i, frames)
        if not looked:
            continue
        sure = [found for found in looked if found.sure]
        enough = len(sure) * 2 > len(looked)
        off = [100 * math.hypot(*found.offset_px) / diagonal for found in sure]
        place, size = (float(np.mean(off)), float(np.mean([f.size for f in sure]))) if enough else (None, None)
        note = "" if enough else f"found in {len(sure)} of {len(looked)} frames"
        share = "% of diagonal"
        yield Measured(f"{person.id} place", share, 0.0, place, place, allowed.subject_pct, share, note)
        error = None if size is None else 100 * (size - 1)
        yield Measured(f"{person.id} size", "x", 1.0, size, error, SIZE_PCT, "%", note)


SIZE_PCT = 12.0  # half of a step between neighbouring sizes of the ladder of shots (1.25 to 1.6 x)


def _light(film: Array, blocking: Blocking, allowed: Tolerances) -> Iterator[Measured]:
    if not blocking.subjects or not any(lamp.name == "key" for lamp in blocking.lights):
        return
    frames = np.unique(np.linspace(0, blocking.frames - 1, 3).round().astype(int)).tolist()
    pairs = [(found, asked_light(blocking, t)) for t in frames if (found := measure_light(film, blocking, 0, t))]
    seen = [(found, want) for found, want in pairs if found.fit >= FIT and min(found.front, want.front) > BEHIND]
    apart = [(found, want) for found, want in seen if min(found.apart_deg, want.apart_deg) > APART_DEG]
    for axis, unit, tolerance, told, why in (
        ("key azimuth", "deg", allowed.key_az_deg, seen, _UNLIT),
        ("key elevation", "deg", allowed.key_el_deg, seen, _UNLIT),
        ("key ratio", "stops", allowed.ratio_stops, apart, "key and fill come from one side" if seen else _UNLIT),
        ("key colour", "mired", allowed.cct_mired, seen, _UNLIT),
    ):
        want = _value(axis, asked_light(blocking, frames[0]))
        errors = [_value(axis, found) - _value(axis, asked) for found, asked in told]
        if axis == "key azimuth":
            errors = [(error + 180) % 360 - 180 for error in errors]
        error = float(np.median(errors)) if errors else None
        yield Measured(
            axis, unit, want, None if error is None else want + error, error, tolerance, unit, "" if errors else why
        )


_UNLIT = "too little of the person is lit from the front to tell"
FIT = 0.6  # of the light's variance on a person that the sum must explain for the key to count as found
BEHIND = -0.3  # cosine to the camera below which a key only grazes what is seen
APART_DEG = 30.0  # between key and fill, below which their ratio cannot be told


def _value(axis: str, light: Light) -> float:
    return {
        "key azimuth": light.az_deg, "key elevation": light.el_deg, "key ratio": light.ratio_stops,
        "key colour": light.mired,
    }[axis]  # fmt: skip


def _worst(errors: Array) -> float:
    """The error of largest size, with its sign."""
    return float(errors[np.argmax(np.abs(errors))])
