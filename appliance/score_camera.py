"""What the camera of a film did, measured on its pictures: turn, travel and focal length since the first frame.

Corners of the standing world are followed from a key frame through the frames after it, until too many have left; then
the next key frame begins. With the stage's depth at the key frame, each frame after it is a problem of known geometry:
the rotation, translation and focal length that show points with depths where they are seen (perspective from points,
by Gauss-Newton with Tukey weights); where corners are too few, by score_align. The stage lends its depth and says where
people are; no pixel of it is looked at, so a film that does not move measures as one that does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from appliance.flow import Array, corners, follow, grey
from appliance.score_align import RIDGE, KeyFrame, Pose, Solved
from appliance.score_ground import Ground
from models.blocking import Blocking

FEWEST = 12  # tracks below which a frame is not measured
KEEP = 0.5  # of a key frame's corners: when fewer are left, a new key frame begins
STRAIN = 0.08  # of growth, or radians of roll, since the key frame: more, and a new one begins
MARGIN_PX = 3  # of the picture's edge, and around people
BESIDE_PX, STEP = 7, 1.3  # within so many pixels depth grows by no more than this, or one thing hides another
TUKEY_PX = 1.5
NOISE_PX = 0.05  # of a track at the least
ROUNDS = 12


@dataclass(frozen=True, slots=True, eq=False)
class CameraTrack:
    """A measured camera, in OpenCV axes of its own first frame."""

    rotation: Array  # (T, 3, 3) camera to first camera
    position: Array  # (T, 3) metres
    focal_px: Array  # (T,)
    scored: Array  # (T,) bool: the frames that could be measured; the others stand where the one before did
    doubt: Array  # (T, 7) standard deviation: tilt, pan, roll in radians, travel in metres, log of the focal length

    @property
    def whole(self) -> bool:
        """Whether every frame was measured: what moved in a gap is in nothing after it."""
        return bool(self.scored.all())


def measure_camera(film: Array, ground: Ground) -> CameraTrack:
    """The camera of `film` (T, h, w, 3), 8-bit or in 0..1; of the blocking's ground, depth and mask of key frames."""
    pictures, frames, blocking = grey(film), len(film), ground.blocking
    rotation, position = np.tile(np.eye(3), (frames, 1, 1)), np.zeros((frames, 3))
    focal, scored = np.full(frames, blocking.focal_px[0]), np.zeros(frames, bool)
    variance = np.zeros((frames, 7))
    scored[0], key = True, 0
    while key < frames - 1:
        depth = ground.depth(key)
        where = _inside(ground.standing(key) & _whole(depth))
        points = corners(pictures[key], where)
        column, row = (points - 0.5).round().astype(int).T
        world = _unproject(points, depth[row, column], focal[key], blocking)
        frame = KeyFrame(pictures[key], where, depth, focal[key])
        seen, alive, pose = points, np.ones(len(points), bool), Pose()
        begun = key
        for t in range(begun + 1, frames):
            seen, sure = follow(pictures[begun], pictures[t], points, seen)
            alive &= sure
            solved = _solve(world[alive], seen[alive], focal[begun], blocking, pose) if alive.sum() >= FEWEST else None
            enough = alive.sum() >= KEEP * len(points)
            if solved is None:
                solved, enough = frame.align(pictures[t], pose), False
            if solved is None:
                break
            (pose, spread), scored[t], key = solved, True, t
            variance[t] = variance[begun] + spread
            rotation[t] = rotation[begun] @ pose.turn.T
            position[t] = position[begun] - rotation[t] @ pose.travel
            focal[t] = focal[begun] * np.exp(pose.zoom)
            if not enough or _strained(pose, world):
                break
        if key == begun:  # not even the next frame: it is taken as standing still, and tried from there
            key += 1
            rotation[key], position[key], focal[key] = rotation[begun], position[begun], focal[begun]
    return CameraTrack(rotation, position, focal, scored, np.sqrt(variance))


def asked_camera(blocking: Blocking) -> CameraTrack:
    """The camera of a blocking in the same terms: what a perfect film would measure as."""
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


def _strained(pose: Pose, world: Array) -> bool:
    """Whether what a corner's surroundings look like has changed so much that following it loses accuracy."""
    nearer = abs(float(pose.travel[2])) / max(float(np.median(world[:, 2])), 1e-6)
    return nearer + abs(pose.zoom) > STRAIN or abs(float(pose.turn[1, 0])) > STRAIN


def _inside(mask: Array) -> Array:
    """A mask without the picture's edge and without what lies next to what it leaves out."""
    import cv2

    kernel = np.ones((2 * MARGIN_PX + 1, 2 * MARGIN_PX + 1), np.uint8)
    padded = np.pad(mask.astype(np.uint8), 1)
    return cv2.erode(padded, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)[1:-1, 1:-1].astype(bool)


def _whole(depth: Array) -> Array:
    """Where nothing stands in front of something else: a corner that two things make together moves with neither."""
    import cv2

    finite = np.isfinite(depth)
    metres = np.where(finite, depth, 1e6).astype(np.float32)
    around = np.ones((BESIDE_PX, BESIDE_PX), np.uint8)
    return finite & (cv2.dilate(metres, around) < STEP * cv2.erode(metres, around))


def _unproject(pixels: Array, depth: Array, focal: float, blocking: Blocking) -> Array:
    middle = np.array([blocking.width, blocking.height]) / 2
    return np.concatenate([(pixels - middle) / focal * depth[:, None], depth[:, None]], 1)


def _solve(points: Array, seen: Array, focal: float, blocking: Blocking, start: Pose) -> Solved | None:
    """The pose that shows points (P, 3) of a key frame's camera at `seen` (P, 2), looked for from `start`.

    None where the tracks do not tell: too few agree, or the picture has no depth to tell a travel from a turn.
    """
    middle = np.array([blocking.width, blocking.height]) / 2
    near, pose = float(np.median(points[:, 2])), start
    weight = np.ones(len(points))
    for round_ in range(ROUNDS):
        there, change = pose.show(points, focal)
        error = seen - middle - there
        size = np.linalg.norm(error, axis=1)
        scale = TUKEY_PX * max(1.0, 4.0 * 0.6**round_)  # wide at first, so that large motions are not outliers
        weight = np.clip(1 - (size / scale) ** 2, 0, None) ** 2
        if (weight > 0).sum() < FEWEST:
            return None
        jacobian, w = np.concatenate(list(change)), np.concatenate([weight, weight])
        normal = (jacobian * w[:, None]).T @ jacobian + np.diag(RIDGE * w.sum())
        rhs = (jacobian * w[:, None]).T @ error.T.ravel() - RIDGE * w.sum() * pose.pull(near)
        pose = pose.moved(np.linalg.solve(normal, rhs), near)
    noise = max(float((weight * size**2).sum() / w.sum()), NOISE_PX**2)
    return pose, noise * np.diag(np.linalg.inv(normal)) * np.array([1, 1, 1, near, near, near, 1]) ** 2
