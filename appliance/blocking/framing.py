"""Solve a framing: a shot size, an angle, a side and a lens give the camera's position and aim.

The frame's height covers the size's `visible_m` (scaled to the person) in the plane through the aim point that faces
the camera, so the distance along the lens is visible_m * focal / sensor height. An eye-level camera stands at the
subject's eyes and looks up or down to compose; others stand at their angle. No solved camera goes under the floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from appliance.blocking.curves import lerp
from appliance.direction.vocabulary import ANGLES, GROUND_CAMERA_M, SEATED_DROP, SIDES, SIZES, STANDING_M
from models.stage.mannequin import EYES
from models.stage.optics import aim

Array = np.ndarray
LOWEST_M = 0.15
EYE_LEVEL_DEG = 10.0  # an eye-level camera is lowered rather than tilted down more than this
EMPTY_SET_M = 3.4  # what the frame's height covers when there is nobody to frame
EMPTY_SET_LOOK_M = 1.35


@dataclass(frozen=True, slots=True, eq=False)
class Anchor:
    """What is framed: where it is at T frames, how tall, and which way it faced when the shot began."""

    position: Array  # (T, 3) m, on the floor
    height_m: float | None  # None: nobody, the set itself
    seated: bool = False
    heading_deg: float = 0.0
    spread_m: float = 0.0  # width of a group

    def eyes_m(self) -> float:
        """Height of the eyes above the floor."""
        tall = self.height_m or STANDING_M
        return tall * (EYES - (SEATED_DROP if self.seated else 0.0))


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """A camera at T frames, and the point that it keeps in place in the frame."""

    position: Array  # (T, 3)
    pan_deg: Array
    tilt_deg: Array
    look: Array  # (T, 3)


def band(size: str | None, anchor: Anchor, headroom_pct: float | None) -> tuple[float, float]:
    """Metres that the frame's height covers at the subject, and the height of its middle above the floor."""
    if anchor.height_m is None and size is None:
        return EMPTY_SET_M, EMPTY_SET_LOOK_M
    tall = anchor.height_m or STANDING_M
    chosen = SIZES[size or "MWS"]
    visible = chosen.visible_m * tall / STANDING_M
    crown = tall * (1.0 - (SEATED_DROP if anchor.seated else 0.0))
    headroom = chosen.headroom_pct if headroom_pct is None else headroom_pct
    return visible, crown + visible * headroom / 100 - visible / 2


def compose(position: Array, look: Array, roll_deg: Array, off_x: Any, off_y: Any) -> tuple[Array, Array]:
    """Pan and tilt (T,) that put `look` at off_x right and off_y up of the frame's centre, in focal lengths. Exact."""
    roll = np.radians(roll_deg)
    x = np.cos(roll) * off_x + np.sin(roll) * off_y  # the ray of that pixel, before the camera is rolled
    y = np.sin(roll) * off_x - np.cos(roll) * off_y  # OpenCV: + is down
    azimuth, elevation = aim(position, look)
    lift = np.sin(np.radians(elevation)) * np.sqrt(1 + x * x + y * y)
    tilt = np.arcsin(np.clip(lift / np.sqrt(1 + y * y), -1.0, 1.0)) + np.arctan(y)
    ahead = np.sin(tilt) * y + np.cos(tilt)
    return azimuth - np.degrees(np.arctan2(x, ahead)), np.degrees(tilt)


def offsets(offset_pct: Any, film_back_mm: tuple[float, float], focal_mm: Any) -> tuple[Array, Array]:
    """A position in the frame (% right, % up of the centre; 50 is the edge) in focal lengths."""
    off = np.asarray(offset_pct, dtype=np.float64)
    return off[..., 0] / 100 * film_back_mm[0] / focal_mm, off[..., 1] / 100 * film_back_mm[1] / focal_mm


def solve(
    frame: Any, anchor: Anchor, focal_mm: Array, film_back_mm: tuple[float, float], roll_deg: Array, p: Array
) -> Pose:
    """The camera of a `Frame`: from its start to `frame.end`, if one is stated, by progress p (T,)."""
    end = frame.end
    if not has_end(end):
        p = np.zeros_like(p)
    size, headroom = end.size or frame.size, frame.headroom_pct
    if end.headroom_pct is not None or end.size is not None:
        headroom = end.headroom_pct  # another size has its own headroom
    first = _camera_at(frame.size, frame.headroom_pct, _angle(frame), anchor, 0, focal_mm[0], film_back_mm)
    last = _camera_at(size, headroom, _angle(end, _angle(frame)), anchor, -1, focal_mm[-1], film_back_mm)
    from_deg = _bearing(frame, anchor)
    turn = _bearing(end, anchor) - from_deg if end.side or end.side_deg is not None else 0.0
    bearing = np.radians(lerp(from_deg, from_deg + (turn + 180.0) % 360.0 - 180.0, p))
    look = lerp(first[0], last[0], p)
    distance = np.exp(lerp(math.log(first[1]), math.log(last[1]), p))
    rise = np.radians(lerp(first[2], last[2], p))
    away = np.stack([np.cos(rise) * np.sin(bearing), np.sin(rise), np.cos(rise) * np.cos(bearing)], -1)
    position = look + distance[:, None] * away
    end_offset = frame.offset_pct if end.offset_pct is None else end.offset_pct
    off_x, off_y = offsets(lerp(frame.offset_pct, end_offset, p), film_back_mm, lerp(focal_mm[0], focal_mm[-1], p))
    pan, tilt = compose(position, look, roll_deg, off_x, off_y)
    return Pose(position, pan, tilt, look)


def has_end(end: Any) -> bool:
    """Whether any framing is stated for the end."""
    names = ("size", "angle", "side", "elevation_deg", "side_deg", "headroom_pct", "offset_pct")
    return any(getattr(end, name) is not None for name in names)


def _angle(frame: Any, default: tuple[str, float] = ("eye", 0.0)) -> tuple[str, float]:
    if frame.elevation_deg is not None:
        return "stated", frame.elevation_deg
    return (frame.angle, ANGLES[frame.angle]) if frame.angle else default


def _bearing(frame: Any, anchor: Anchor) -> float:
    """Where the camera stands around the subject, as a heading: 0 is the audience's side."""
    if frame.side_deg is not None:
        return anchor.heading_deg + frame.side_deg
    return anchor.heading_deg + SIDES[frame.side] if frame.side else 0.0


def _camera_at(
    size: str | None, headroom: float | None, angle: tuple[str, float], anchor: Anchor, at: int, focal_mm: float,
    film_back_mm: tuple[float, float],
) -> tuple[Array, float, float]:  # fmt: skip
    """The aim point, the distance to it, and the degrees that the camera is above it."""
    visible, middle = band(size, anchor, headroom)
    look = anchor.position[at] + np.array([0.0, middle, 0.0])
    distance = visible * focal_mm / film_back_mm[1]
    if anchor.spread_m:  # a group also fits across, with half a metre on either side
        distance = max(distance, (anchor.spread_m + 1.0) * focal_mm / film_back_mm[0])
    kind, degrees = angle
    if kind in ("eye", "dutch"):
        most = math.sin(math.radians(EYE_LEVEL_DEG))
        degrees = math.degrees(math.asin(max(-most, min(most, (anchor.eyes_m() - middle) / distance))))
    elif kind == "ground":
        degrees = math.degrees(math.asin(max(-0.9, min(0.9, (GROUND_CAMERA_M - middle) / distance))))
    if middle + distance * math.sin(math.radians(degrees)) < LOWEST_M:
        degrees = math.degrees(math.asin(max(-0.99, min(0.99, (LOWEST_M - middle) / distance))))
    return look, distance, degrees
