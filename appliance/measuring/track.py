"""A camera track: rotation, position and focal length, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from appliance.measuring.alignment import PARAMETERS, Pose
from appliance.measuring.optical_flow import Array
from models.stage.blocking import Blocking


@dataclass(frozen=True, slots=True, eq=False)
class CameraTrack:
    """A measured camera, in OpenCV axes of its own first frame."""

    rotation: Array  # (T, 3, 3) camera to first camera
    position: Array  # (T, 3) metres
    focal_px: Array  # (T,)
    scored: Array  # (T,) bool: the frames that could be measured; the others repeat the frame before
    doubt: Array  # (T, 7) standard deviation: tilt, pan, roll in radians, travel in metres, log of the focal length

    @property
    def whole(self) -> bool:
        """Whether every frame was measured; motion in a gap would be missing from all later frames."""
        return bool(self.scored.all())

    def pose(self, key: int, t: int) -> Pose:
        """The pose of frame t relative to frame `key`."""
        back = self.rotation[t].T
        travel = back @ (self.position[key] - self.position[t])
        return Pose(back @ self.rotation[key], travel, float(np.log(self.focal_px[t] / self.focal_px[key])))

    def put(self, key: int, t: int, pose: Pose, variance: Array) -> None:
        """Sets frame t to `pose` relative to frame `key`, with the variance (7,) of that pose."""
        self.rotation[t] = self.rotation[key] @ pose.turn.T
        self.position[t] = self.position[key] - self.rotation[t] @ pose.travel
        self.focal_px[t] = self.focal_px[key] * np.exp(pose.zoom)
        self.doubt[t] = np.sqrt(self.doubt[key] ** 2 + variance)


def still_camera(frames: int, focal_px: float) -> CameraTrack:
    """A camera at rest, of which only the first frame is measured yet."""
    scored = np.arange(frames) == 0
    return CameraTrack(
        np.tile(np.eye(3), (frames, 1, 1)), np.zeros((frames, 3)), np.full(frames, focal_px), scored,
        np.zeros((frames, PARAMETERS)),
    )  # fmt: skip


def asked_camera(blocking: Blocking) -> CameraTrack:
    """The camera of a blocking as a track: what a perfect film would measure as."""
    first = blocking.c2w[0, :, :3]
    rotation = np.einsum("ji,tjk->tik", first, blocking.c2w[:, :, :3])
    position = (blocking.c2w[:, :, 3] - blocking.c2w[0, :, 3]) @ first
    sure = np.ones(blocking.frames, bool), np.zeros((blocking.frames, 7))
    return CameraTrack(rotation, position, blocking.focal_px.copy(), *sure)


def angles(track: CameraTrack) -> Array:
    """(T, 3) degrees of pan (+ right), tilt (+ up), roll (+ clockwise) since the first frame."""
    r = track.rotation
    pan = np.arctan2(r[:, 0, 2], r[:, 2, 2])
    tilt = np.arcsin(np.clip(-r[:, 1, 2], -1, 1))
    roll = np.arctan2(r[:, 1, 0], r[:, 1, 1])
    return np.degrees(np.unwrap(np.stack([pan, tilt, roll], 1), axis=0))
