"""Measure a take against its direction, axis by axis: camera, people, light.

The estimators read the film's pixels only; of the blocking they use the static geometry (depths, positions of people)
to convert image motion. What cannot be measured is reported as not measured, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from appliance.measuring.camera import measure_camera
from appliance.measuring.ground_truth import GroundTruth
from appliance.measuring.light import Light, asked_light, measure_light
from appliance.measuring.optical_flow import corners, follow, grey
from appliance.measuring.result import Measured
from appliance.measuring.subject import find_subject
from appliance.measuring.track import angles, asked_camera
from models.stage.blocking import Array, Blocking

if TYPE_CHECKING:
    from appliance.direction.notes import Tolerances

FRAMES_MEASURED = 5  # of a film, for people
SURE = 2.5  # standard deviations of a measurement that must fit into its tolerance; else it is not measured


def measure(film: Array, blocking: Blocking, tolerances: Tolerances, drift_scale: float = 1.0) -> list[Measured]:
    """Every axis of a film (T, h, w, 3), 8-bit or in 0..1, that can be measured, against what its blocking asks.

    `drift_scale`: pixels a frame of the take for one of `film`, where that is the take down-scaled.
    """
    ground = GroundTruth(blocking)
    return [
        *_camera(film, ground, tolerances, drift_scale),
        *_people(film, ground, tolerances),
        *_light(film, ground, tolerances),
    ]


def _camera(film: Array, ground: GroundTruth, allowed: Tolerances, drift_scale: float) -> Iterator[Measured]:
    blocking = ground.blocking
    if blocking.frames < 2:
        return
    found, asked = measure_camera(film, ground), asked_camera(blocking)
    doubt = SURE * found.doubt[-1]

    def row(axis: str, unit: str, want: float, got: float, error: float, tolerance: float, in_unit: str,
            doubt: float) -> Measured:  # fmt: skip
        note = _LOST if not found.whole else _AMBIGUOUS if doubt > tolerance else ""
        seen, off = (None, None) if note else (float(got), float(error))
        return Measured(axis, unit, float(want), seen, off, tolerance, in_unit, note)

    turned, wanted = angles(found), angles(asked)
    turns = (("pan", allowed.pan_deg, 1), ("tilt", allowed.pan_deg, 0), ("roll", allowed.roll_deg, 2))
    for i, (axis, tolerance, about) in enumerate(turns):
        worst = _worst(turned[:, i] - wanted[:, i])
        yield row(axis, "deg", wanted[-1, i], turned[-1, i], worst, tolerance, "deg", math.degrees(doubt[about]))
    path = float(np.linalg.norm(np.diff(asked.position, axis=0), axis=1).sum())
    off = float(np.linalg.norm(found.position - asked.position, axis=1).max())
    went = float(np.linalg.norm(np.diff(found.position, axis=0), axis=1).sum())
    if path > 0.02 * blocking.subject_distance_m:
        unsure = 100 * float(np.linalg.norm(doubt[3:6])) / path
        yield row("travel", "m", path, went, 100 * off / path, allowed.travel_pct, "% of path", unsure)
    zoomed, zoom = found.focal_px / found.focal_px[0], asked.focal_px / asked.focal_px[0]
    yield row("zoom", "x", zoom[-1], zoomed[-1], 100 * _worst(zoomed / zoom - 1), allowed.zoom_pct, "%", 100 * doubt[6])
    if locked_off(blocking):
        drift = standing_drift(film, ground)
        drift = None if drift is None else drift * drift_scale
        yield Measured("drift", "px/frame", 0.0, drift, drift, allowed.drift_px, "px/frame",
                       "" if drift is not None else "nothing of the set could be tracked")  # fmt: skip


def locked_off(blocking: Blocking) -> bool:
    """Whether the direction keeps the camera and its focal length still."""
    return bool(np.ptp(blocking.c2w, axis=0).max() < 1e-6 and np.ptp(blocking.focal_mm) < 1e-6)


def standing_drift(film: Array, ground: GroundTruth) -> float | None:
    """How far a locked-off picture moved from its first frame to its last, in pixels a frame; None: not measured."""
    pictures = grey(film[[0, -1]])
    points = corners(pictures[0], ground.standing(0))
    seen, sure = follow(pictures[0], pictures[-1], points, points)
    if sure.sum() < 8:
        return None
    return float(np.median(np.linalg.norm((seen - points)[sure], axis=1)) / (len(film) - 1))


def _people(film: Array, ground: GroundTruth, allowed: Tolerances) -> Iterator[Measured]:
    blocking = ground.blocking
    diagonal = math.hypot(blocking.width, blocking.height)
    frames = np.unique(np.linspace(0, blocking.frames - 1, FRAMES_MEASURED).round().astype(int)).tolist()
    for i, person in enumerate(blocking.subjects):
        searched = find_subject(film, ground, i, frames)
        if not searched:
            continue
        sure = [found for found in searched if found.sure]
        enough = len(sure) * 2 > len(searched)
        off = [100 * math.hypot(*found.offset_px) / diagonal for found in sure]
        place, size = (float(np.mean(off)), float(np.mean([f.size for f in sure]))) if enough else (None, None)
        note = "" if enough else f"found in {len(sure)} of {len(searched)} frames"
        share = "% of diagonal"
        yield Measured(f"{person.id} place", share, 0.0, place, place, allowed.subject_pct, share, note)
        error = None if size is None else 100 * (size - 1)
        yield Measured(f"{person.id} size", "x", 1.0, size, error, SIZE_PCT, "%", note)


SIZE_PCT = 12.0  # half of a step between neighbouring shot sizes (1.25 to 1.6 x)


def _light(film: Array, ground: GroundTruth, allowed: Tolerances) -> Iterator[Measured]:
    blocking = ground.blocking
    if not blocking.subjects or not any(lamp.name == "key" for lamp in blocking.lights):
        return
    frames = np.unique(np.linspace(0, blocking.frames - 1, 3).round().astype(int)).tolist()
    pairs = [(found, asked_light(blocking, t)) for t in frames if (found := measure_light(film, ground, 0, t))]
    seen = [(found, want) for found, want in pairs if found.fit >= FIT and min(found.front, want.front) > BEHIND]
    apart = [(found, want) for found, want in seen if min(found.apart_deg, want.apart_deg) > APART_DEG]
    filled = any(lamp.name == "fill" and lamp.rgb.max() > 0 for lamp in blocking.lights)
    for axis, unit, tolerance, usable, why in (
        ("key azimuth", "deg", allowed.key_az_deg, seen, _UNLIT),
        ("key elevation", "deg", allowed.key_el_deg, seen, _UNLIT),
        ("key ratio", "stops", allowed.ratio_stops, apart, "key and fill come from the same side" if seen else _UNLIT),
        ("key colour", "mired", allowed.cct_mired, seen, _UNLIT),
    ):
        if axis == "key ratio" and not filled:
            continue  # a key without a fill has no ratio
        want = _value(axis, asked_light(blocking, frames[0]))
        if not usable:
            yield Measured(axis, unit, want, None, None, tolerance, unit, why)
            continue
        found, asked = max(usable, key=lambda pair: pair[0].fit)  # in the others, something may shade the person
        error = _value(axis, found) - _value(axis, asked)
        error = (error + 180) % 360 - 180 if axis == "key azimuth" else error
        yield Measured(axis, unit, want, want + error, error, tolerance, unit)


_LOST = "too little of the set could be tracked"
_AMBIGUOUS = "the set is too plain to tell a turn, a travel and a zoom apart"
_UNLIT = "too little of the person is clearly lit by the key"
FIT = 0.6  # of the light's variance on a person that the fit must explain
BEHIND = -0.3  # cosine to the camera below which a key only grazes what is seen
APART_DEG = 30.0  # between key and fill, below which their ratio cannot be measured


def _value(axis: str, light: Light) -> float:
    return {
        "key azimuth": light.az_deg, "key elevation": light.el_deg, "key ratio": light.ratio_stops,
        "key colour": light.mired,
    }[axis]  # fmt: skip


def _worst(errors: Array) -> float:
    """The error of largest size, with its sign."""
    return float(errors[np.argmax(np.abs(errors))])
