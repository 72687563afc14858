"""A shot solved to numbers, frame by frame: the type that the stage, the controls and the measurements read.

World: right-handed, metres, Y up, the floor is y = 0. Camera poses are camera-to-world in OpenCV axes
(x right, y down, z forward). Everything is numpy float64; nothing here depends on how it was asked for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, is_dataclass

import numpy as np

Array = np.ndarray
RGB = tuple[float, float, float]  # linear Rec.709, 0..1 for a colour of a surface


@dataclass(frozen=True, slots=True)
class Appearance:
    """What a character looks like: proportions and a palette. Colours are linear albedo."""

    height_m: float
    build: float  # 1 = average; 0.8 slim .. 1.25 heavy
    skin: RGB
    hair: RGB
    top: RGB
    bottom: RGB
    shoes: RGB
    hat: RGB | None = None
    long_hair: bool = False
    coat: bool = False  # the top reaches the knee


@dataclass(frozen=True, slots=True, eq=False)
class SubjectTrack:
    """One person on the floor, per frame."""

    id: str
    appearance: Appearance
    position: Array  # (T, 3) metres, between the feet
    heading_deg: Array  # (T,) 0 faces +Z; 90 faces +X
    stride: Array  # (T,) walk cycles since the start; one cycle is two steps
    gait: Array  # (T,) 0 standing .. 1 full swing of the limbs
    pose: str = "stand"  # "stand" | "sit"


@dataclass(frozen=True, slots=True, eq=False)
class LightTrack:
    """One lamp, far enough away that its light is parallel."""

    name: str  # "key" | "fill" | "rim"
    direction: Array  # (T, 3) unit, world, from the stage towards the lamp
    rgb: Array  # (T, 3) linear irradiance on a surface that faces it: stops and colour temperature included
    size_deg: float  # angular diameter; sets how soft the shadow is


@dataclass(frozen=True, slots=True)
class Prop:
    """One solid of the set.

    `size` is half extents of a box; (radius, 0, 0) of a ball; (radius, half height, 0) of a column.
    """

    shape: str  # "box" | "ball" | "column"
    center: RGB
    size: RGB
    yaw_deg: float
    color: RGB
    second: RGB  # the other colour of its pattern
    pattern_m: float = 0.0  # period of the pattern in metres; 0 is plain


@dataclass(frozen=True, slots=True)
class StageSet:
    """The set: floor, sky and props."""

    name: str
    ground: RGB
    ground_second: RGB
    tile_m: float  # side of the floor's checks in metres
    sky_top: RGB
    sky_horizon: RGB
    props: tuple[Prop, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Blocking:
    """A direction solved to numbers: T frames of camera, lens, light and subjects, and the set."""

    fps: float
    width: int  # pixels
    height: int
    c2w: Array  # (T, 3, 4) camera to world, OpenCV axes
    focal_mm: Array  # (T,)
    sensor_w_mm: float
    focus_m: Array  # (T,) distance of the focal plane
    t_stop: float
    lights: tuple[LightTrack, ...]
    ambient: Array  # (T, 3) linear irradiance from everywhere
    exposure_ev: Array  # (T,) stops; 0 shows a white card under one unit of light as white
    subjects: tuple[SubjectTrack, ...]
    set: StageSet
    subject_distance_m: float = 3.0  # camera to the main subject at frame 0: the unit of translations

    @property
    def frames(self) -> int:
        """T, the number of video frames."""
        return len(self.c2w)

    @property
    def focal_px(self) -> Array:
        """(T,) focal length in pixels; pixels are square."""
        return self.focal_mm / self.sensor_w_mm * self.width

    def digest(self) -> str:
        """SHA-256 of every number: two blockings with one digest render the same pictures."""
        seen = hashlib.sha256()
        _feed(seen, self)
        return seen.hexdigest()


def _feed(seen, value) -> None:
    if is_dataclass(value):
        for field in fields(value):
            seen.update(field.name.encode())
            _feed(seen, getattr(value, field.name))
    elif isinstance(value, np.ndarray):
        seen.update(np.ascontiguousarray(value, dtype="<f8").tobytes())
    elif isinstance(value, tuple):
        seen.update(str(len(value)).encode())
        for item in value:
            _feed(seen, item)
    else:
        seen.update(repr(value).encode())
