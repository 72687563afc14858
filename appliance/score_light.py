"""The light on a person, measured on the pictures: where the key stands, how strong against the fill, what colour.

A film's linear light over the person's own colours is irradiance. On surfaces whose directions are known it is a sum:
the key from an unknown direction, and the other lights as they were asked, at an unknown level. The direction whose sum
fits best is the key's (Lambert's law; least squares with Tukey weights, so that shadows the key casts on the person
count as outliers). The stage lends normals, colours and where fill and rim stand; the light is the film's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from appliance.flow import Array, unit
from appliance.score_ground import Ground
from models import stage
from models.blocking import Blocking
from models.optics import LUMINANCE, kelvin_rgb, srgb_decode

DARKEST, BRIGHTEST = 0.01, 0.95  # code values outside are noise, or on the shoulder's end
FEWEST_PX = 150  # of a person, below which the light is not measured
COARSE_DEG, FINE_DEG = 10, 2
ROUNDS = 4
MIREDS = np.arange(80, 500, 2.0)  # 12,500 K to 2,000 K


@dataclass(frozen=True, slots=True)
class Light:
    """The key of one frame."""

    t: int
    az_deg: float  # in the world: 0 from +Z, 90 from +X
    el_deg: float
    ratio_stops: float  # key and fill together against fill alone
    mired: float
    fit: float  # 0..1, share of the irradiance's variance that the sum explains
    front: float  # cosine between the key and the way to the camera: below 0 the key is behind the person
    apart_deg: float  # between key and fill: where they come from one side, their ratio cannot be told


def measure_light(film: Array, ground: Ground, index: int, t: int) -> Light | None:
    """The key on person `index` in frame t of a film (T, h, w, 3), 8-bit or in 0..1; None where too little of them is
    seen.
    """
    shown, blocking = ground.frame(t), ground.blocking
    mask = cv2.erode((shown.ids == stage.SUBJECT + index).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    picture = unit(film[t])
    for code in (picture, shown.previs, shown.clay):
        mask &= (code > DARKEST).all(-1) & (code < BRIGHTEST).all(-1)
    if mask.sum() < FEWEST_PX:
        return None
    colors = stage.CLAY * linear(shown.previs[mask]) / linear(shown.clay[mask])
    seen = linear(picture[mask]) / colors / 2.0 ** float(blocking.exposure_ev[t])  # (P, 3) irradiance
    normals = shown.normal[mask].astype(np.float64)
    others = _others(blocking, t, normals)
    direction, weight = _direction(normals, seen @ LUMINANCE, others @ LUMINANCE)
    facing = np.clip(normals @ direction, 0, None)
    level, key = _levels(facing, others, seen, weight)
    fill = level * sum(float(lamp.rgb[t] @ LUMINANCE) for lamp in blocking.lights if lamp.name == "fill")
    brightness = float(key @ LUMINANCE)
    residual = (seen - level * others) @ LUMINANCE - brightness * facing
    spread = seen @ LUMINANCE - np.average(seen @ LUMINANCE, weights=weight)
    explained = 1 - np.average(residual**2, weights=weight) / max(float(np.average(spread**2, weights=weight)), 1e-9)
    ratio = float(np.log2(1 + brightness / max(fill, 1e-3)))
    return Light(
        t, *bearings(direction), ratio, mired(key), float(np.clip(explained, 0, 1)), *_stands(blocking, t, direction)
    )


def asked_light(blocking: Blocking, t: int) -> Light:
    """The key of a blocking in the same terms."""
    lamps = {lamp.name: lamp for lamp in blocking.lights}
    key = lamps["key"].rgb[t]
    fill = float(lamps["fill"].rgb[t] @ LUMINANCE) if "fill" in lamps else 0.0
    ratio = float(np.log2(1 + key @ LUMINANCE / max(fill, 1e-3)))
    direction = lamps["key"].direction[t]
    return Light(t, *bearings(direction), ratio, mired(key), 1.0, *_stands(blocking, t, direction))


def _stands(blocking: Blocking, t: int, key: Array) -> tuple[float, float]:
    """`front` and `apart_deg` of a key in a direction."""
    fills = [lamp.direction[t] for lamp in blocking.lights if lamp.name == "fill"]
    apart = float(np.degrees(np.arccos(np.clip(key @ fills[0], -1, 1)))) if fills else 180.0
    return float(-key @ blocking.c2w[t, :, 2]), apart


def linear(code: Array) -> Array:
    """Code values back to scene-linear light: the inverse of the stage's curve, shoulder included."""
    light = srgb_decode(np.asarray(code, np.float64))
    over = np.clip((light - stage.SHOULDER) / (1 - stage.SHOULDER), 0, 0.999)
    return np.where(light > stage.SHOULDER, stage.SHOULDER - (1 - stage.SHOULDER) * np.log1p(-over), light)


def bearings(direction: Array) -> tuple[float, float]:
    """Azimuth and elevation in degrees of a direction in the world."""
    x, y, z = (float(c) for c in direction)
    return float(np.degrees(np.arctan2(x, z))), float(np.degrees(np.arcsin(np.clip(y, -1, 1))))


def mired(rgb: Array) -> float:
    """The colour temperature, in mired (1e6 / K), of the black body whose colour is nearest to `rgb`."""
    bodies = kelvin_rgb(1e6 / MIREDS)
    log = np.log(np.clip(rgb, 1e-6, None)) - np.log(np.clip(bodies, 1e-6, None))
    return float(MIREDS[np.argmin(np.var(log, axis=1))])


def _others(blocking: Blocking, t: int, normals: Array) -> Array:
    """Irradiance (P, 3) of all lights but the key, as asked, on surfaces that nothing shades."""
    dome = (0.6 + 0.4 * normals[:, 1])[:, None] * blocking.ambient[t]
    lamps = [lamp for lamp in blocking.lights if lamp.name != "key"]
    return dome + sum(np.clip(normals @ lamp.direction[t], 0, None)[:, None] * lamp.rgb[t] for lamp in lamps)


def _direction(normals: Array, seen: Array, others: Array) -> tuple[Array, Array]:
    """The key's direction, and the weight of each point at its best fit."""
    weight = np.ones(len(seen))
    center, step, span = np.zeros(2), COARSE_DEG, (180, 80)
    for round_ in range(ROUNDS):
        if round_:
            step, span = FINE_DEG, (16, 16)
        azimuths = center[0] + np.arange(-span[0], span[0] + 1, step)
        elevations = np.clip(center[1] + np.arange(-span[1], span[1] + 1, step), -20, 88)
        az, el = (np.radians(a.ravel()) for a in np.meshgrid(azimuths, np.unique(elevations)))
        candidates = np.stack([np.sin(az) * np.cos(el), np.sin(el), np.cos(az) * np.cos(el)], 1)
        facing = np.clip(normals @ candidates.T, 0, None)
        level, key = _two(facing, others, seen, weight)
        errors = (weight[:, None] * (seen[:, None] - others[:, None] * level - facing * key) ** 2).sum(0)
        best = int(np.argmin(np.where(key > 0, errors, np.inf)))
        direction, center = candidates[best], np.degrees([az[best], el[best]])
        residual = seen - others * level[best] - facing[:, best] * key[best]
        scale = 4.7 * 1.48 * float(np.median(np.abs(residual))) + 1e-6
        weight = np.clip(1 - (residual / scale) ** 2, 0, None) ** 2 + 1e-6
    return direction, weight


def _levels(facing: Array, others: Array, seen: Array, weight: Array) -> tuple[float, Array]:
    """The level of the other lights, the same for all colours, and the key's (3,) that fit `seen` (P, 3) best."""
    w = weight[:, None]
    share = (facing[:, None] * w) / max(float((facing**2 * weight).sum()), 1e-9)
    others_left = others - facing[:, None] * (share * others).sum(0)
    seen_left = seen - facing[:, None] * (share * seen).sum(0)
    level = max(0.0, float((others_left * seen_left * w).sum() / max(float((others_left**2 * w).sum()), 1e-9)))
    return level, np.clip((share * (seen - level * others)).sum(0), 1e-6, None)


def _two(facing: Array, others: Array, seen: Array, weight: Array) -> tuple[Array, Array]:
    """The levels of the other lights and of the key that fit `seen` (P,) best, none negative; for one facing (P,), or
    for many (P, C).
    """
    w = weight if facing.ndim == 1 else weight[:, None]
    o, y = (others, seen) if facing.ndim == 1 else (others[:, None], seen[:, None])
    ff, fo, oo = (facing * facing * w).sum(0), (facing * o * w).sum(0), (o * o * w).sum(0) + 1e-9
    fy, oy = (facing * y * w).sum(0), (o * y * w).sum(0)
    level = np.clip((oy * ff - fo * fy) / np.maximum(ff * oo - fo * fo, 1e-9), 0, None)
    return level, (fy - level * fo) / np.maximum(ff, 1e-9)
