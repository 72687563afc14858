"""The key light on a person, measured on the pictures: direction, ratio to the fill, colour temperature.

The film's linear light over the albedo is the irradiance. On surfaces of known normals it is a sum of three terms of
unknown strength: the key from an unknown direction, the fill from its stated direction, and the rest as stated. The
direction whose sum fits best is the key's (Lambert's law and Blinn-Phong's highlights, as
models/stage/render.py has them; least squares with Tukey weights, so that shadows count as outliers). Normals,
albedo, haze and the directions of fill and rim come from the stage; strengths, and all of the key, from the film.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from appliance.measuring.ground_truth import GroundTruth
from appliance.measuring.optical_flow import Array, unit
from models.stage import render as stage
from models.stage.blocking import Blocking
from models.stage.optics import LUMINANCE, kelvin_rgb, srgb_decode

DARKEST, BRIGHTEST = 0.01, 0.95  # code values outside are noise or clipped
MOST_PX = 1500  # of a person, evenly sampled: more only add time
FEWEST_PX = 150  # of a person, below which the light is not measured
COARSE_DEG, FINE_DEG = 10, 2
ROUNDS = 4
FILL, REST = 0, 1  # of the other lights
MIREDS = np.arange(80, 500, 2.0)  # 12,500 K to 2,000 K


@dataclass(frozen=True, slots=True)
class Light:
    """The key of one frame."""

    t: int
    az_deg: float  # in the world: 0 from +Z, 90 from +X
    el_deg: float
    ratio_stops: float  # key and fill together against fill alone
    mired: float
    fit: float  # 0..1, share of the irradiance's variance that the fit explains
    front: float  # cosine between the key and the way to the camera: below 0 the key is behind the person
    apart_deg: float  # between key and fill: where they come from the same side, their ratio cannot be measured


def measure_light(film: Array, ground: GroundTruth, index: int, t: int) -> Light | None:
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
    skin = _surface(ground, t, mask, picture)
    direction, weight, shaped = _direction(skin)
    levels, key = _levels(skin, _key_on(skin, direction[None])[:, 0], weight)
    fill = levels[FILL] * sum(float(lamp.rgb[t] @ LUMINANCE) for lamp in blocking.lights if lamp.name == "fill")
    brightness = float(key @ LUMINANCE)
    seen = skin.seen @ LUMINANCE
    residual = seen - (skin.others @ LUMINANCE) @ levels - brightness * shaped
    spread = seen - np.average(seen, weights=weight)
    explained = 1 - np.average(residual**2, weights=weight) / max(float(np.average(spread**2, weights=weight)), 1e-9)
    ratio = float(np.log2(1 + brightness / max(fill, 1e-3)))
    return Light(
        t, *bearings(direction), ratio, mired(key), float(np.clip(explained, 0, 1)), *_angles(blocking, t, direction)
    )


def asked_light(blocking: Blocking, t: int) -> Light:
    """The key of a blocking as a `Light`."""
    lamps = {lamp.name: lamp for lamp in blocking.lights}
    key = lamps["key"].rgb[t]
    fill = float(lamps["fill"].rgb[t] @ LUMINANCE) if "fill" in lamps else 0.0
    ratio = float(np.log2(1 + key @ LUMINANCE / max(fill, 1e-3)))
    direction = lamps["key"].direction[t]
    return Light(t, *bearings(direction), ratio, mired(key), 1.0, *_angles(blocking, t, direction))


def _angles(blocking: Blocking, t: int, key: Array) -> tuple[float, float]:
    """`front` and `apart_deg` of a key from a direction."""
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


@dataclass(frozen=True, slots=True, eq=False)
class _Surface:
    """Points of a person: irradiance by the film, geometry and albedo by the stage."""

    seen: Array  # (P, 3) the film's linear light over the albedo
    colors: Array  # (P, 3) linear albedo
    normals: Array  # (P, 3) world
    rays: Array  # (P, 3) unit, from the lens
    others: Array  # (P, 2, 3) irradiance of the fill, and of all else but the key, as stated, over the albedo
    size_deg: float  # of the key: a larger lamp has wider highlights


def _surface(ground: GroundTruth, t: int, mask: Array, picture: Array) -> _Surface:
    blocking, shown = ground.blocking, ground.frame(t)
    rows, columns = np.nonzero(mask)
    every = -(-len(rows) // MOST_PX)
    at = rows[::every], columns[::every]
    focal, gain = float(blocking.focal_px[t]), 2.0 ** float(blocking.exposure_ev[t])
    x, y = (at[1] + 0.5 - blocking.width / 2) / focal, (at[0] + 0.5 - blocking.height / 2) / focal
    length = np.sqrt(x * x + y * y + 1)
    rays = np.stack([x, y, np.ones_like(x)], 1) / length[:, None] @ blocking.c2w[t, :, :3].T
    colors, normals = (
        stage.CLAY * linear(shown.previs[at]) / linear(shown.clay[at]),
        shown.normal[at].astype(np.float64),
    )
    clear = np.exp(-shown.depth[at] * length / stage.AIR_M)[:, None]
    bare = (linear(picture[at]) / gain - np.array(blocking.set.sky_horizon) * (1 - clear)) / clear
    # The stage's clay picture is dome, key, fill and rim with their shadows: minus the others it is the fill.
    left = linear(shown.clay[at]) / stage.CLAY / gain
    dome = (0.6 + 0.4 * normals[:, 1])[:, None] * blocking.ambient[t]
    others = np.stack([np.zeros_like(dome), dome], 1)
    for lamp in blocking.lights:
        facing = np.clip(normals @ lamp.direction[t], 0, None)[:, None]
        shine = stage.GLOSS * _shine(normals, rays, lamp.direction[t], lamp.size_deg)[:, None] / colors
        if lamp.name == "key":
            left, size_deg = left - shown.lit[at][:, None] * facing * lamp.rgb[t], lamp.size_deg
        elif lamp.name == "fill":
            others[:, FILL] += facing * shine * lamp.rgb[t]
        else:
            others[:, REST] += facing * (1 + shine) * lamp.rgb[t]
            left = left - facing * lamp.rgb[t]
    if any(lamp.name == "fill" for lamp in blocking.lights):
        others[:, FILL] += np.clip(left - dome, 0, None)
    return _Surface(bare / colors, colors, normals, rays, others, size_deg)


def _shine(normals: Array, rays: Array, toward: Array, size_deg: float) -> Array:
    """(P,) or (P, C) Blinn-Phong's term of lamps towards (3,) or (C, 3), as in the stage."""
    back = (normals * rays).sum(1)
    along = rays @ toward.T
    half = (normals @ toward.T - (back if along.ndim == 1 else back[:, None])) / np.sqrt(
        np.maximum(2 - 2 * along, 1e-9)
    )
    return np.clip(half, 0, None) ** (stage.GLOSS_POWER / (1 + size_deg / 30))


def _key_on(skin: _Surface, toward: Array) -> Array:
    """(P, C, 3) what a white key of strength 1 in directions (C, 3) gives, over the albedo."""
    facing = np.clip(skin.normals @ toward.T, 0, None)
    shine = stage.GLOSS * _shine(skin.normals, skin.rays, toward, skin.size_deg)
    return facing[:, :, None] * (1 + shine[:, :, None] / skin.colors[:, None])


def _direction(skin: _Surface) -> tuple[Array, Array, Array]:
    """The key's direction (3,), each point's weight (P,) at its best fit, and what a white key gives there (P,).

    Errors are of the picture: over a dark albedo they grow, so a point is weighted by its squared albedo.
    """
    seen, others = skin.seen @ LUMINANCE, skin.others @ LUMINANCE
    bright = skin.colors @ LUMINANCE
    weight_by_albedo = bright**2 / np.mean(bright**2)
    trust, weight = np.ones(len(seen)), weight_by_albedo
    center, step, span = np.zeros(2), COARSE_DEG, (180, 80)
    for round_ in range(ROUNDS):
        if round_:
            step, span = FINE_DEG, (16, 16)
        azimuths = center[0] + np.arange(-span[0], span[0] + 1, step)
        elevations = np.clip(center[1] + np.arange(-span[1], span[1] + 1, step), -20, 88)
        az, el = (np.radians(a.ravel()) for a in np.meshgrid(azimuths, np.unique(elevations)))
        candidates = np.stack([np.sin(az) * np.cos(el), np.sin(el), np.cos(az) * np.cos(el)], 1)
        shaped = _key_on(skin, candidates) @ LUMINANCE
        errors, strengths = _fits(shaped, others, seen, weight)
        best = int(np.argmin(errors))
        direction, center = candidates[best], np.degrees([az[best], el[best]])
        residual = (seen - others @ strengths[best, :2] - shaped[:, best] * strengths[best, 2]) * bright
        scale = 4.7 * 1.48 * float(np.median(np.abs(residual))) + 1e-6
        trust = np.clip(1 - (residual / scale) ** 2, 0, None) ** 2 + 1e-6
        weight = weight_by_albedo * trust
    return direction, trust, shaped[:, best]


def _levels(skin: _Surface, shaped: Array, weight: Array) -> tuple[Array, Array]:
    """The levels (2,) of the other lights, one for all colours, and the key's (3,) that fit best, where a white key
    gives `shaped` (P, 3). Every value is weighted by its squared albedo, as in `_direction`.
    """
    points = len(shaped)
    columns = np.zeros((points, 3, 5))
    columns[:, :, :2] = np.swapaxes(skin.others, 1, 2)
    columns[:, range(3), range(2, 5)] = shaped
    root = (np.sqrt(weight)[:, None] * skin.colors).ravel()
    matrix, wanted = columns.reshape(-1, 5) * root[:, None], skin.seen.ravel() * root
    _, (strengths,) = _least((matrix.T @ matrix)[None], (matrix.T @ wanted)[None])
    return strengths[:2], np.clip(strengths[2:], 1e-6, None)


def _fits(shaped: Array, others: Array, seen: Array, weight: Array) -> tuple[Array, Array]:
    """The fit of `seen` (P,) by the key of each candidate (P, C) and the other lights (P, 2): errors (C,), and
    strengths (C, 3) of fill, rest and key.
    """
    count = shaped.shape[1]
    matrix, rhs = np.empty((count, 3, 3)), np.empty((count, 3))
    matrix[:, :2, :2], rhs[:, :2] = (others * weight[:, None]).T @ others, others.T @ (weight * seen)
    matrix[:, 2, :2] = matrix[:, :2, 2] = (shaped * weight[:, None]).T @ others
    matrix[:, 2, 2], rhs[:, 2] = weight @ shaped**2, shaped.T @ (weight * seen)
    return _least(matrix, rhs)


def _least(matrix: Array, rhs: Array) -> tuple[Array, Array]:
    """Least squares of normal equations (C, n, n), (C, n), where the first two strengths and the last are not negative:
    errors (C,), up to a constant, and strengths (C, n). Which of the first two are 0 is tried in all four ways.
    """
    size = rhs.shape[1]
    best, strengths = np.full(len(rhs), np.inf), np.zeros_like(rhs)
    for off in ((), (FILL,), (REST,), (FILL, REST)):
        on = [i for i in range(size) if i not in off]
        some = matrix[:, on][:, :, on] + 1e-9 * np.eye(len(on))
        found = np.zeros_like(rhs)
        found[:, on] = np.linalg.solve(some, rhs[:, on, None])[:, :, 0]
        errors = np.where((found[:, [0, 1, -1]] >= 0).all(1), -(found * rhs).sum(1), np.inf)
        strengths[errors < best] = found[errors < best]
        best = np.minimum(best, errors)
    return best, strengths
