"""Camera moves in pixels of picture motion; lag of a move, flicker of a still camera."""

from __future__ import annotations

import numpy as np

from appliance.measuring.ground_truth import GroundTruth
from appliance.measuring.optical_flow import luma
from appliance.measuring.track import CameraTrack, angles
from models.stage.blocking import Array, Blocking

MOVES = ("pan", "tilt", "roll", "truck", "pedestal", "dolly", "zoom")


def pixels(track: CameraTrack, blocking: Blocking) -> Array:
    """(7,) how far the picture moved from the first frame to the last by each of MOVES, in pixels, with its sign.

    A turn moves the middle of the picture by f radians; a travel moves the subject by f / distance; a roll, a dolly and
    a zoom move a point half way to the corner, diagonal / 4 from the middle, by that times radians, share of the
    distance, or log of the focal length.
    """
    focal, away = float(blocking.focal_px[0]), blocking.subject_distance_m
    arm = float(np.hypot(blocking.width, blocking.height)) / 4
    pan, tilt, roll = np.radians(angles(track)[-1])
    x, y, z = track.position[-1]
    zoom = float(np.log(track.focal_px[-1] / track.focal_px[0]))
    return np.array(
        [focal * pan, focal * tilt, arm * roll, focal * x / away, -focal * y / away, arm * z / away, arm * zoom]
    )


def lag_s(asked: Array, measured: Array, fps: float) -> float | None:
    """Seconds by which a move (T,) is late: between the times at which each is half way to its own end."""
    times = [_half_way(curve) for curve in (asked, measured)]
    return None if None in times else float(times[1] - times[0]) / fps  # type: ignore[operator]


def flicker(film: Array, ground: GroundTruth) -> float | None:
    """How much the static set of a locked-off film changes from frame to frame: temporal standard deviation of a
    pixel's luma, the median pixel's, in % of full scale; None where no part of the set is visible throughout.
    """
    still = np.all([ground.standing(t) for t in range(len(film))], axis=0)
    return float(100 * np.median(luma(film)[:, still].std(axis=0))) if still.any() else None


def _half_way(curve: Array) -> float | None:
    """The frame, between frames, at which a curve that starts at 0 first passes half of its end."""
    share = curve / curve[-1] if abs(curve[-1]) > 1e-6 else np.zeros_like(curve)
    past = np.flatnonzero(share >= 0.5)
    if not len(past) or past[0] == 0:
        return None
    t = int(past[0])
    return t - 1 + float((0.5 - share[t - 1]) / (share[t] - share[t - 1]))
