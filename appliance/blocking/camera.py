"""The camera of a direction, frame by frame: stated or solved, then moved, shaken and focused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from appliance.blocking.curves import progress, sample
from appliance.blocking.framing import Anchor, band, compose, has_end, offsets, solve
from appliance.blocking.moves import Rig, compile_moves, shake, span
from appliance.direction.vocabulary import DUTCH_ROLL_DEG, FOCAL_LIMITS_MM
from models.errors import BadInput
from models.stage.optics import rotation

Array = np.ndarray
CHEST = 0.8  # of a standing height: where a stated camera looks when no size says otherwise


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """The people and the subject that a camera can aim at."""

    framed: Anchor
    people: dict[str, Anchor]


@dataclass(frozen=True, slots=True, eq=False)
class CameraPath:
    """The camera at T frames."""

    c2w: Array  # (T, 3, 4)
    focal_mm: Array
    focus_m: Array
    target: Array  # (T, 3) what is framed: its aim point


def camera_path(direction: Any, t: Array, end_s: float, stage: Stage, film_back_mm: tuple[float, float]) -> CameraPath:
    """Resolve the frame, apply the moves in time, then focus. Raises BadInput for an impossible path."""
    frame, camera, lens = direction.frame, direction.camera, direction.lens
    focal = sample(lens.focal_mm, t)
    roll = _roll(direction, t, end_s)
    stated = frame.size is not None or camera.pos_m is None or frame.headroom_pct is not None

    def point(target: Any) -> Array:
        """(T, 3) the aim point of a subject's id, a point in space, or (None) of what is framed."""
        anchor = stage.framed if target is None else stage.people.get(target) if isinstance(target, str) else None
        if anchor is None:
            return sample(target, t)
        middle = band(frame.size, anchor, frame.headroom_pct)[1] if stated else CHEST * (anchor.height_m or 1.7)
        return anchor.position + np.array([0.0, middle, 0.0])

    off_x, off_y = offsets(frame.offset_pct, film_back_mm, focal[0])
    if camera.pos_m is None:
        p = progress(t, 0.0, end_s, frame.end.ease)
        pose = solve(frame, stage.framed, focal, film_back_mm, roll, p)
        position, pan, tilt = pose.position, pose.pan_deg, pose.tilt_deg
        if has_end(frame.end) and frame.end.offset_pct is not None:
            off_x, off_y = offsets(frame.offset_pct, film_back_mm, focal)
    else:
        position = sample(camera.pos_m, t)
        if stage.framed.height_m is None and camera.look_at is None:
            pan, tilt = np.zeros_like(t), np.zeros_like(t)  # nobody to aim at: straight ahead
        else:  # the camera keeps the aim that it had when the shot began
            at = compose(position[:1], point(None)[:1], roll[:1], off_x, off_y)
            pan, tilt = np.full_like(t, at[0][0]), np.full_like(t, at[1][0])
    if camera.pan_deg is not None:
        pan = sample(camera.pan_deg, t)
    if camera.tilt_deg is not None:
        tilt = sample(camera.tilt_deg, t)
    if camera.follow is not None:
        followed = stage.people[camera.follow].position
        position = position + followed - followed[0]
    rig = Rig(t, end_s, position, pan, tilt, roll, focal, point, off_x=off_x, off_y=off_y)
    if camera.look_at is not None:
        rig.look = point(camera.look_at)
        if not isinstance(camera.look_at, str):
            rig.off_x = rig.off_y = 0.0  # a point is centred
    compile_moves(rig, direction.moves, camera.shake.seed)
    _check_limits(rig)
    stated_shake = camera.shake
    if stated_shake.rot_rms_deg or stated_shake.pos_rms_m:
        shake(
            rig,
            stated_shake.seed + 1000,
            stated_shake.rot_rms_deg,
            stated_shake.pos_rms_m,
            (stated_shake.hz_lo, stated_shake.hz_hi),
        )
    c2w = np.concatenate([rotation(rig.pan_deg, rig.tilt_deg, rig.roll_deg), rig.position[:, :, None]], -1)
    return CameraPath(c2w, rig.focal_mm, _focus(direction, rig), point(None))


def _roll(direction: Any, t: Array, end_s: float) -> Array:
    """Stated, or 12 degrees for a Dutch angle, at the start and at the end."""
    if direction.camera.roll_deg is not None:
        return sample(direction.camera.roll_deg, t)
    first, last = direction.frame.angle, direction.frame.end.angle or direction.frame.angle
    start, end = (DUTCH_ROLL_DEG if angle == "dutch" else 0.0 for angle in (first, last))
    return start + (end - start) * progress(t, 0.0, end_s, direction.frame.end.ease)


def _check_limits(rig: Rig) -> None:
    low = int(np.argmin(rig.position[:, 1]))
    if rig.position[low, 1] < -1e-9:
        raise BadInput(
            f"camera.pos_m is {rig.position[low, 1]:.2f} m high at {rig.t[low]:.2f} s: it must stay above the "
            "floor, y = 0; lower less, or start higher"
        )
    least, most = FOCAL_LIMITS_MM
    worst = int(np.argmax(np.maximum(least / rig.focal_mm, rig.focal_mm / most)))
    if not least <= rig.focal_mm[worst] <= most:
        raise BadInput(
            f"lens.focal_mm is {rig.focal_mm[worst]:.1f} at {rig.t[worst]:.2f} s: moves must keep it {least:g} to "
            f"{most:g} mm; zoom less, or travel less in the dolly zoom"
        )


def _focus(direction: Any, rig: Rig) -> Array:
    """(T,) the focal plane: stated, or on somebody; racks are pulled evenly in dioptres, as a lens is."""
    lens = direction.lens
    if lens.focus_m is not None:
        focus = sample(lens.focus_m, rig.t)
    else:
        focus = np.clip(rig.depth(rig.point(lens.focus_on)), 0.2, 10000.0)
    for move in sorted((m for m in direction.moves if m.type == "rack_focus"), key=lambda m: m.from_s):
        p = span(rig, move).p
        to = np.clip(rig.depth(rig.point(move.target)), 0.2, 10000.0) if move.to_m is None else move.to_m
        focus = 1.0 / ((1 - p) / focus + p / to)
    return focus
