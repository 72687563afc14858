"""The light plot of a direction, frame by frame: where each lamp is, how bright and what colour."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from appliance.blocking.curves import sample
from appliance.direction.light_presets import expand
from models.stage.blocking import RGB, LightTrack, StageSet
from models.stage.optics import LUMINANCE, kelvin_rgb

Array = np.ndarray
UP = np.array([0.0, 1.0, 0.0])
GREY_CARD = 0.18


def light_plot(
    light: Any, t: Array, camera: Array, subject: Array, heading_deg: Array
) -> tuple[tuple[LightTrack, ...], Array, Array]:
    """Lamps that are lit, ambient (T, 3) and exposure (T,) stops.

    `camera` and `subject` are (T, 3) positions, `heading_deg` (T,) where the subject faces. A key of 0 stops gives a
    surface that faces it one unit of light, which exposes normally at 0 EV.
    """
    plot = expand(light)
    axes = {
        "stand": _level(np.broadcast_to(camera[0] - subject[0], camera.shape)),
        "camera": _level(camera - subject),
        "subject": np.stack([_sin(heading_deg), np.zeros_like(t), _cos(heading_deg)], -1),
        "world": np.broadcast_to(np.array([0.0, 0.0, 1.0]), camera.shape),
    }
    levels = {name: 2.0 ** sample(getattr(plot, name).stops_rel, t) for name in ("key", "fill", "rim")}
    if plot.ratio_stops is not None:
        levels["fill"] = levels["key"] / (2.0**plot.ratio_stops - 1)
    lamps = []
    for name, level in levels.items():
        lamp = getattr(plot, name)
        if lamp.on:
            direction = _towards(axes[lamp.ref], sample(lamp.az_deg, t), sample(lamp.el_deg, t))
            rgb = level[:, None] * kelvin_rgb(sample(lamp.cct_k, t), lamp.duv)
            lamps.append(LightTrack(name, direction, rgb, float(lamp.size_deg)))
    around = plot.ambient
    ambient = 2.0 ** sample(around.stops_rel, t)[:, None] * kelvin_rgb(sample(around.cct_k, t), around.duv)
    exposure = sample(plot.exposure_ev, t)
    if plot.key_level_pct is not None:
        exposure = exposure + _stops_to_level(plot.key_level_pct, lamps, ambient)
    return tuple(lamps), ambient, exposure


def under_sky(stage_set: StageSet, light: Any) -> StageSet:
    """The set with its sky scaled by the plot's sky_stops."""
    gain = 2.0 ** expand(light).sky_stops

    def lit(sky: RGB) -> RGB:
        red, green, blue = (min(1.0, c * gain) for c in sky)
        return red, green, blue

    return replace(stage_set, sky_top=lit(stage_set.sky_top), sky_horizon=lit(stage_set.sky_horizon))


def _stops_to_level(level_pct: float, lamps: list[LightTrack], ambient: Array) -> float:
    """Stops that make a grey card, facing the key at the first frame, show at `level_pct` of full scale."""
    falling = float(ambient[0] @ LUMINANCE)
    if lamps:
        facing = lamps[0].direction[0]
        falling += sum(float(lamp.rgb[0] @ LUMINANCE) * max(0.0, float(facing @ lamp.direction[0])) for lamp in lamps)
    return math.log2(level_pct / 100 / (GREY_CARD * falling))


def _towards(axis: Array, az_deg: Array, el_deg: Array) -> Array:
    """Unit vectors to a lamp at az around `axis` (+ to the right, seen against it) and el above the floor."""
    right = np.stack([axis[:, 2], np.zeros(len(axis)), -axis[:, 0]], -1)
    flat = _cos(az_deg)[:, None] * axis + _sin(az_deg)[:, None] * right
    return _cos(el_deg)[:, None] * flat + _sin(el_deg)[:, None] * UP


def _level(vectors: Array) -> Array:
    """Horizontal unit vectors; +Z where a vector is vertical."""
    flat = vectors * np.array([1.0, 0.0, 1.0])
    length = np.linalg.norm(flat, axis=-1, keepdims=True)
    return np.where(length > 1e-6, flat / np.maximum(length, 1e-6), np.array([0.0, 0.0, 1.0]))


def _cos(degrees: Array) -> Array:
    return np.cos(np.radians(degrees))


def _sin(degrees: Array) -> Array:
    return np.sin(np.radians(degrees))
