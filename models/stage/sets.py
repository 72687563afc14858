"""A few sets built from solids, each varied by a seed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from models.stage.blocking import RGB, Prop, StageSet

NAMES = ("studio", "street", "room", "field")


def build(name: str, seed: int = 0) -> StageSet:
    """The set `name`, with colours and dressing drawn from `seed`. The middle of the floor stays clear for the cast.

    Raises ValueError for an unknown name.
    """
    if name not in NAMES:
        raise ValueError(f"set {name!r} is not one of {', '.join(NAMES)}")
    rng = np.random.Generator(np.random.Philox(key=seed & (2**64 - 1)))
    return {"studio": _studio, "street": _street, "room": _room, "field": _field}[name](rng)


def _tint(rng: np.random.Generator, low: float, high: float, strength: float = 0.35) -> RGB:
    """A paint: reflectance between low and high, tinted by up to `strength`."""
    grey = rng.uniform(low, high)
    return _rgb(round(c, 4) for c in np.clip(grey * (1 + strength * rng.uniform(-1, 1, 3)), 0.02, 0.9))


def _darker(color: RGB, factor: float) -> RGB:
    return _rgb(round(c * factor, 4) for c in color)


def _rgb(channels: Iterable[float]) -> RGB:
    red, green, blue = (float(c) for c in channels)
    return red, green, blue


def _floor(rng, low, high) -> dict[str, Any]:
    first = _tint(rng, low, high)
    return dict(ground=first, ground_second=_darker(first, rng.uniform(0.35, 0.7)), tile_m=float(rng.uniform(0.6, 1.4)))


def _box(rng, center, half, color, pattern=0.0, yaw=0.0) -> Prop:
    return Prop("box", center, half, float(yaw), color, _darker(color, rng.uniform(0.45, 0.8)), float(pattern))


def _door(rng, x: float, z: float, yaw: float) -> Prop:
    return _box(rng, (x, 1.05, z), (0.48, 1.05, 0.06), _tint(rng, 0.1, 0.4, 0.8), 0.0, yaw)


def _scatter(rng, count: int, near: float, far: float) -> list[Prop]:
    """Balls, boxes and columns on a ring around the playing area."""
    props = []
    for _ in range(count):
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(near, far)
        x, z = float(radius * np.sin(angle)), float(radius * np.cos(angle))
        size, color, kind = rng.uniform(0.2, 0.6), _tint(rng, 0.1, 0.6, 0.8), rng.integers(3)
        if kind == 0:
            pattern, yaw = rng.choice([0.0, 0.25]), rng.uniform(0, 90)
            props.append(_box(rng, (x, size, z), (size, size, size), color, pattern, yaw))
        elif kind == 1:
            props.append(Prop("ball", (x, size, z), (size, 0.0, 0.0), 0.0, color, _darker(color, 0.5), 0.3))
        else:
            half = float(rng.uniform(0.6, 1.6))
            column = (float(size * 0.45), half, 0.0)
            props.append(Prop("column", (x, half, z), column, 0.0, color, _darker(color, 0.6), 0.4))
    return props


def _studio(rng) -> StageSet:
    wall = _tint(rng, 0.25, 0.6)
    props = [_box(rng, (0.0, 2.5, -5.0), (8.0, 2.5, 0.1), wall, rng.uniform(0.8, 1.6)), _door(rng, 2.4, -4.86, 0.0)]
    props += _scatter(rng, int(rng.integers(2, 5)), 2.2, 4.2)
    floor = _floor(rng, 0.2, 0.5)
    return StageSet("studio", **floor, sky_top=(0.02, 0.02, 0.03), sky_horizon=(0.05, 0.05, 0.06), props=tuple(props))


def _street(rng) -> StageSet:
    props = []
    for side in (-1.0, 1.0):
        z = -14.0
        while z < 12.0:
            depth, height, front = rng.uniform(1.5, 3.5), rng.uniform(1.8, 5.0), rng.uniform(5.0, 6.5)
            color, pattern = _tint(rng, 0.15, 0.55, 0.5), rng.uniform(0.9, 1.8)
            center = (side * (front + 2.0), height, z + depth)
            props.append(_box(rng, center, (2.0, height, depth), color, pattern))
            z += 2 * depth + rng.uniform(0.0, 1.5)
    props.append(_box(rng, (0.0, 3.0, -17.0), (5.0, 3.0, 1.0), _tint(rng, 0.2, 0.5, 0.4), 1.5))
    props += _scatter(rng, int(rng.integers(1, 4)), 2.5, 4.5)
    sky = _rgb((np.array([0.16, 0.32, 0.70]) * rng.uniform(0.6, 1.2)).clip(0, 1))
    floor = _floor(rng, 0.12, 0.4)
    return StageSet("street", **floor, sky_top=sky, sky_horizon=(0.70, 0.78, 0.88), props=tuple(props))


def _room(rng) -> StageSet:
    wall, half_w, half_d = _tint(rng, 0.3, 0.65, 0.3), float(rng.uniform(3.2, 4.6)), float(rng.uniform(3.2, 4.5))
    stripes = rng.uniform(0.5, 1.2)
    props = [
        _box(rng, (0.0, 1.5, -half_d - 0.1), (half_w, 1.5, 0.1), wall, stripes),
        _box(rng, (-half_w - 0.1, 1.5, 0.0), (0.1, 1.5, half_d), _darker(wall, 0.9), stripes),
        _box(rng, (half_w + 0.1, 1.5, 0.0), (0.1, 1.5, half_d), _darker(wall, 0.95), stripes),
        _door(rng, float(rng.uniform(1.2, half_w - 0.7)), -half_d + 0.04, 0.0),
        _box(rng, (0.9 - half_w, 0.38, 1.0 - half_d), (0.7, 0.38, 0.45), _tint(rng, 0.1, 0.4, 0.8), 0.0),
    ]
    props += _scatter(rng, int(rng.integers(1, 3)), 2.0, 2.8)
    floor = _floor(rng, 0.15, 0.45)
    return StageSet("room", **floor, sky_top=(0.25, 0.25, 0.26), sky_horizon=(0.45, 0.45, 0.46), props=tuple(props))


def _field(rng) -> StageSet:
    green = (float(rng.uniform(0.08, 0.2)), float(rng.uniform(0.14, 0.3)), float(rng.uniform(0.04, 0.1)))
    trunk = (0.16, 0.10, 0.06)
    props = []
    for _ in range(int(rng.integers(3, 7))):
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(4.0, 11.0)
        x, z, tall = float(radius * np.sin(angle)), float(radius * np.cos(angle)), float(rng.uniform(1.0, 1.8))
        leaf = (float(rng.uniform(0.05, 0.25)), float(rng.uniform(0.15, 0.35)), 0.06)
        props.append(Prop("column", (x, tall, z), (0.18, tall, 0.0), 0.0, trunk, _darker(trunk, 0.6), 0.4))
        crown = (float(rng.uniform(0.8, 1.5)), 0.0, 0.0)
        props.append(Prop("ball", (x, 2 * tall + 0.6, z), crown, 0.0, leaf, _darker(leaf, 0.6), 0.5))
    props += _scatter(rng, int(rng.integers(1, 4)), 2.5, 4.5)
    sky = _rgb((np.array([0.18, 0.36, 0.78]) * rng.uniform(0.7, 1.15)).clip(0, 1))
    floor: dict[str, Any] = dict(ground=green, ground_second=_darker(green, 0.6), tile_m=float(rng.uniform(0.8, 1.6)))
    return StageSet("field", **floor, sky_top=sky, sky_horizon=(0.75, 0.80, 0.85), props=tuple(props))
