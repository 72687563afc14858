"""Camera moves compiled to per-frame channels: position, pan, tilt, roll, focal length.

Each move changes the channels as left by those before it, so overlapping moves add up and the others follow in time.
Truck and dolly are straight and level, along the camera's right and forward when the move starts, as on rails: a pan
during them does not bend the track. A dolly zoom travels along the optical axis, which keeps the plane of its target
still in the frame. Pedestal is along the world's vertical.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from appliance.blocking.curves import progress, tremor
from appliance.blocking.framing import compose
from appliance.direction.vocabulary import HANDHELD_DEG
from models.errors import BadInput
from models.stage.optics import rotation

Array = np.ndarray
NEAREST_M = 0.2  # a dolly zoom stops this far before its target
HAND_M_PER_DEG = 0.012  # sway in position for each degree of rotation
HAND_HZ = (0.5, 3.0)


@dataclass(slots=True)
class Rig:
    """The camera at T frames while its moves are compiled."""

    t: Array  # (T,) s
    end_s: float  # when the shot ends, handles left out
    position: Array  # (T, 3)
    pan_deg: Array
    tilt_deg: Array
    roll_deg: Array
    focal_mm: Array
    point: Callable[[Any], Array]  # a move's target -> (T, 3)
    look: Array | None = None  # (T, 3): what look_at keeps in frame
    off_x: Array | float = 0.0  # where look_at keeps it, in focal lengths right and up of the centre
    off_y: Array | float = 0.0
    turned_pan: Array | float = 0.0  # added to look_at by pans and tilts
    turned_tilt: Array | float = 0.0

    def aim(self) -> None:
        """Aim at what look_at keeps in frame, from the present position."""
        if self.look is not None:
            pan, tilt = compose(self.position, self.look, self.roll_deg, self.off_x, self.off_y)
            self.pan_deg, self.tilt_deg = np.unwrap(pan, period=360.0) + self.turned_pan, tilt + self.turned_tilt

    def forward(self) -> Array:
        """(T, 3) unit vectors along the lens."""
        return rotation(self.pan_deg, self.tilt_deg, self.roll_deg)[:, :, 2]

    def depth(self, point: Array) -> Array:
        """(T,) metres to a point, along the lens."""
        return ((point - self.position) * self.forward()).sum(-1)


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """A move in time: progress at T frames, and the frames it starts and ends on."""

    p: Array
    first: int
    last: int


def span(rig: Rig, move: Any) -> Span:
    """The time of a move; without an end of its own it ends with the shot."""
    to_s = rig.end_s if move.to_s is None else min(move.to_s, rig.end_s)
    from_s = min(move.from_s, to_s - (rig.t[1] - rig.t[0]))
    first = int(np.clip(np.searchsorted(rig.t, from_s - 1e-9), 0, len(rig.t) - 1))
    last = int(np.clip(np.searchsorted(rig.t, to_s + 1e-9) - 1, first, len(rig.t) - 1))
    return Span(progress(rig.t, from_s, to_s, move.ease), first, last)


def compile_moves(rig: Rig, moves: Any, shake_seed: int) -> None:
    """Every move, in order of time, into the rig. Raises BadInput where one cannot be made."""
    rig.aim()
    order = sorted(range(len(moves)), key=lambda i: moves[i].from_s)
    for i in order:
        if moves[i].type in _COMPILE:
            _COMPILE[moves[i].type](rig, moves[i], span(rig, moves[i]), f"moves[{i}]")
            rig.aim()
    for i in order:
        if moves[i].type == "handheld":
            _handheld(rig, moves[i], span(rig, moves[i]), shake_seed + i)


def shake(rig: Rig, seed: int, rot_rms_deg: float, pos_rms_m: float, hz: tuple[float, float], gain: Any = 1.0) -> None:
    """Add a band-limited shake: rms of pan and of tilt, 0.6 of that in roll, rms of each axis of position."""
    noise = tremor(rig.t, seed, *hz, channels=6) * gain
    rig.pan_deg = rig.pan_deg + rot_rms_deg * noise[0]
    rig.tilt_deg = rig.tilt_deg + rot_rms_deg * noise[1]
    rig.roll_deg = rig.roll_deg + 0.6 * rot_rms_deg * noise[2]
    rig.position = rig.position + pos_rms_m * noise[3:].T


def _pan(rig: Rig, move: Any, when: Span, path: str) -> None:
    rig.turned_pan = rig.turned_pan + move.amount_deg * when.p
    rig.pan_deg = rig.pan_deg + move.amount_deg * when.p


def _tilt(rig: Rig, move: Any, when: Span, path: str) -> None:
    rig.turned_tilt = rig.turned_tilt + move.amount_deg * when.p
    rig.tilt_deg = rig.tilt_deg + move.amount_deg * when.p


def _roll(rig: Rig, move: Any, when: Span, path: str) -> None:
    rig.roll_deg = rig.roll_deg + move.amount_deg * when.p


def _truck(rig: Rig, move: Any, when: Span, path: str) -> None:
    pan = np.radians(rig.pan_deg[when.first])
    rig.position = rig.position + move.amount_m * when.p[:, None] * np.array([np.cos(pan), 0.0, np.sin(pan)])


def _dolly(rig: Rig, move: Any, when: Span, path: str) -> None:
    pan = np.radians(rig.pan_deg[when.first])
    rig.position = rig.position + move.amount_m * when.p[:, None] * np.array([np.sin(pan), 0.0, -np.cos(pan)])


def _pedestal(rig: Rig, move: Any, when: Span, path: str) -> None:
    rig.position = rig.position + move.amount_m * when.p[:, None] * np.array([0.0, 1.0, 0.0])


def _arc(rig: Rig, move: Any, when: Span, path: str) -> None:
    """Turn the rig about the target's vertical: distance and position in the frame stay as they are."""
    center = rig.point(move.target)
    turn = move.amount_deg * when.p
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    x, z = rig.position[:, 0] - center[:, 0], rig.position[:, 2] - center[:, 2]
    rig.position = np.stack([center[:, 0] + c * x + s * z, rig.position[:, 1], center[:, 2] - s * x + c * z], -1)
    rig.pan_deg = rig.pan_deg - turn


def _crane(rig: Rig, move: Any, when: Span, path: str) -> None:
    rise = np.radians(move.amount_deg * when.p)
    if move.boom_m is not None:  # a jib: it turns about a pivot boom_m behind the camera, which keeps its aim
        pan = np.radians(rig.pan_deg[when.first])
        ahead = np.array([np.sin(pan), 0.0, -np.cos(pan)])
        up = np.array([0.0, 1.0, 0.0])
        rig.position = rig.position + move.boom_m * ((np.cos(rise) - 1)[:, None] * ahead + np.sin(rise)[:, None] * up)
        return
    center = rig.point(move.target)
    arm = rig.position - center
    level = np.hypot(arm[:, 0], arm[:, 2])
    elevation = np.degrees(np.arctan2(arm[:, 1], level))
    raised = elevation + np.degrees(rise)
    if np.abs(raised).max() > 89.0:
        worst = raised[np.argmax(np.abs(raised))]
        raise BadInput(
            f"{path}.amount_deg is {move.amount_deg:g}: it takes the camera {worst:.0f} deg above its target, "
            f"it must stay within -89 to 89; it starts at {elevation[when.first]:.0f}, so crane less"
        )
    radius = np.linalg.norm(arm, axis=-1)
    bearing = np.stack([arm[:, 0], arm[:, 2]], -1) / np.maximum(level, 1e-9)[:, None]
    out, up = radius * np.cos(np.radians(raised)), radius * np.sin(np.radians(raised))
    rig.position = center + np.stack([out * bearing[:, 0], up, out * bearing[:, 1]], -1)
    rig.tilt_deg = rig.tilt_deg - np.degrees(rise)


def _zoom(rig: Rig, move: Any, when: Span, path: str) -> None:
    """Equal ratios in equal times: the zoom looks even."""
    ratio = move.amount_x if move.amount_x is not None else move.to_mm / rig.focal_mm[when.last]
    rig.focal_mm = rig.focal_mm * ratio**when.p


def _dolly_zoom(rig: Rig, move: Any, when: Span, path: str) -> None:
    """f(t) = f0 d(t) / d0, d along the lens; the factor holds once the move is over."""
    target = rig.point(move.target)
    start = rig.depth(target)[when.first]
    rig.position = rig.position + move.amount_m * when.p[:, None] * rig.forward()[when.first]
    rig.aim()
    ahead = rig.depth(target)[np.clip(np.arange(len(rig.t)), when.first, when.last)]
    if start < NEAREST_M or ahead.min() < NEAREST_M:
        raise BadInput(
            f"{path}.amount_m is {move.amount_m:g}: the target is {start:.2f} m ahead, so it must be less than "
            f"{max(0.0, start - NEAREST_M):.2f} m; travel less, or start farther away"
        )
    rig.focal_mm = rig.focal_mm * ahead / start


def _handheld(rig: Rig, move: Any, when: Span, seed: int) -> None:
    degrees = HANDHELD_DEG if move.amount_deg is None else move.amount_deg
    from_s, to_s = rig.t[when.first], rig.t[when.last]
    gain = np.ones_like(rig.t)
    if move.from_s > 0:
        gain = gain * progress(rig.t, from_s, from_s + 0.25, "smooth")
    if move.to_s is not None and move.to_s < rig.end_s:  # else it goes on in the frames after the shot's end
        gain = gain * (1 - progress(rig.t, to_s - 0.25, to_s, "smooth"))
    shake(rig, seed, degrees, HAND_M_PER_DEG * degrees, HAND_HZ, gain)


_COMPILE: dict[str, Callable[[Rig, Any, Span, str], None]] = {
    "pan": _pan, "tilt": _tilt, "roll": _roll, "truck": _truck, "dolly": _dolly, "pedestal": _pedestal,
    "arc": _arc, "crane": _crane, "zoom": _zoom, "dolly_zoom": _dolly_zoom,
}  # fmt: skip
