"""The camera of a film, measured on its pictures: rotation, translation and focal length since the first frame.

Corners of the static set are tracked from a key frame through the frames after it until too many are lost; then the
next key frame begins. With the stage's depth at the key frame, each frame after it is a perspective-n-point problem:
the rotation, translation and focal length that project points of known depth to where they are seen (Gauss-Newton with
Tukey weights); where corners are too few, alignment.py aligns whole pictures. camera_path.py then refines the track on
whole pictures. Of the stage only depth and the masks of people are used, none of its pixels: a film that does not move
is measured as still.
"""

from __future__ import annotations

import numpy as np

from appliance.measuring.alignment import PARAMETERS, RIDGE, KeyFrame, Pose, Solved, sampled
from appliance.measuring.camera_path import refined
from appliance.measuring.ground_truth import GroundTruth
from appliance.measuring.optical_flow import Array, corners, follow, grey
from appliance.measuring.track import CameraTrack, still_camera
from models.stage.blocking import Blocking

FEWEST = 12  # tracks below which a frame is not measured
KEEP = 0.5  # of a key frame's corners: when fewer are left, a new key frame begins
STRAIN = 0.08  # of scale, or radians of roll, since the key frame: beyond, a new one begins
TUKEY_PX = 1.5
NOISE_PX = 0.05  # of a track at the least
ROUNDS = 12


def measure_camera(film: Array, ground: GroundTruth) -> CameraTrack:
    """The camera of `film` (T, h, w, 3), 8-bit or in 0..1; of `ground` gives depth and mask of key frames."""
    pictures = grey(film)
    return refined(pictures, ground, _chained(pictures, ground))


def _chained(pictures: Array, ground: GroundTruth) -> CameraTrack:
    """The camera by corners, from key frame to key frame: close, but the errors of key frames add up."""
    frames, blocking = len(pictures), ground.blocking
    track = still_camera(frames, float(blocking.focal_px[0]))
    key = 0
    while key < frames - 1:
        depth, where = ground.depth(key), ground.followable(key)
        points, focal = corners(pictures[key], where), float(track.focal_px[key])
        away = 1 / sampled(1 / depth, points)  # on a plane, 1 / depth is linear over the picture
        world = _unproject(points, away, focal, blocking)
        frame = KeyFrame(pictures[key], where, depth, focal)
        seen, alive, pose = points, np.ones(len(points), bool), Pose()
        begun = key
        for t in range(begun + 1, frames):
            seen, sure = follow(pictures[begun], pictures[t], points, seen)
            alive &= sure
            solved = _solve(world[alive], seen[alive], focal, blocking, pose) if alive.sum() >= FEWEST else None
            enough = alive.sum() >= KEEP * len(points)
            if solved is None:
                solved, enough = frame.align(pictures[t], pose), False
            if solved is None:
                break
            (pose, spread), track.scored[t], key = solved, True, t
            track.put(begun, t, pose, spread)
            if not enough or _strained(pose, world):
                break
        if key == begun:  # not even the next frame was solved: assume no motion and go on from there
            key += 1
            track.put(begun, key, Pose(), np.zeros(PARAMETERS))
    return track


def _strained(pose: Pose, world: Array) -> bool:
    """Whether scale or roll have changed so much since the key frame that tracking loses accuracy."""
    nearer = abs(float(pose.travel[2])) / max(float(np.median(world[:, 2])), 1e-6)
    return nearer + abs(pose.zoom) > STRAIN or abs(float(pose.turn[1, 0])) > STRAIN


def _unproject(pixels: Array, depth: Array, focal: float, blocking: Blocking) -> Array:
    middle = np.array([blocking.width, blocking.height]) / 2
    return np.concatenate([(pixels - middle) / focal * depth[:, None], depth[:, None]], 1)


def _solve(points: Array, seen: Array, focal: float, blocking: Blocking, start: Pose) -> Solved | None:
    """The pose that projects points (P, 3) of a key frame's camera to `seen` (P, 2), starting from `start`.

    None where too few tracks agree.
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
