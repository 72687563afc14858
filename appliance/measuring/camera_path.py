"""A camera track refined on whole pictures: all poses that share one key frame are solved together.

A track by corners is close, but the errors of its key frames add up, and a dolly and a zoom differ by little more than
those. Here frames are aligned directly to one key frame for as long as they show the same, so that errors do not add up
(alignment.py), and jointly: a smoothness prior (a camera has mass, so its speed changes little from frame to frame)
determines what a single picture leaves open.
"""

from __future__ import annotations

import cv2
import numpy as np

from appliance.measuring.alignment import LIKE, PARAMETERS, KeyFrame, Pose, metres
from appliance.measuring.ground_truth import GroundTruth
from appliance.measuring.optical_flow import Array
from appliance.measuring.track import CameraTrack, still_camera
from models.stage.blocking import Blocking

ROUNDS = 6
PACE_PX = 0.5  # standard deviation of the change of image motion from one frame to the next
ONE_IN = 20  # pixels with independent errors: neighbours share their blur and aliased edges
SHARE, GROWN = 0.4, 1.4  # share of a key frame still visible, and change of scale: beyond, a new key frame begins
WITH_EXPOSURE = PARAMETERS + 2


def refined(pictures: Array, ground: GroundTruth, chained: CameraTrack) -> CameraTrack:
    """The camera of grey pictures (T, h, w), starting from `chained`; frames not measured there stay so."""
    track, frames = still_camera(len(pictures), float(chained.focal_px[0])), len(pictures)
    track.scored[:] = chained.scored
    key = 0
    while key < frames - 1:
        frame = KeyFrame(pictures[key], ground.followable(key), ground.depth(key), float(track.focal_px[key]))
        begun, poses = key, _shown(frame, pictures, chained, key)
        if poses:
            for pose, variance in _fitted(frame, pictures[begun + 1 :], poses, ground.blocking):
                key += 1
                track.put(begun, key, pose, variance)
        else:  # not even the next frame matches it
            key += 1
            leg = np.maximum(chained.doubt[key] ** 2 - chained.doubt[begun] ** 2, 0)
            track.put(begun, key, chained.pose(begun, key), leg)
    return track


def _shown(frame: KeyFrame, pictures: Array, chained: CameraTrack, key: int) -> list[Pose]:
    """Poses of the frames after `key` by the chained track, for as long as they match the key frame."""
    poses: list[Pose] = []
    for t in range(key + 1, len(pictures)):
        pose = chained.pose(key, t)
        alike, share = frame.likeness(pictures[t], pose)
        if not chained.scored[t] or alike < LIKE or share < SHARE or abs(np.log(frame.growth(pose))) > np.log(GROWN):
            break
        poses.append(pose)
    return poses


def _fitted(frame: KeyFrame, pictures: Array, poses: list[Pose], blocking: Blocking) -> list[tuple[Pose, Array]]:
    """The poses of the first pictures after a key frame, all at once, by Gauss-Newton; and their variances (7,)."""
    count, near = len(poses), frame.near
    matched = [frame.matched(picture, pose) for picture, pose in zip(pictures, poses, strict=False)]
    exposures = np.tile([1.0, 0.0], (count, 1))
    smoothness = _smoothness(count)
    arm = float(np.hypot(blocking.width, blocking.height)) / 4
    focal = float(blocking.focal_px[0])
    stiff = (np.array([focal, focal, arm, focal, focal, arm, arm]) / PACE_PX) ** 2  # pixels that a step of 1 is worth
    for _ in range(ROUNDS):
        normal = np.zeros((count, WITH_EXPOSURE, count, WITH_EXPOSURE))
        slope = np.zeros((count, WITH_EXPOSURE))
        path = np.stack([np.concatenate([cv2.Rodrigues(p.turn)[0][:, 0], p.travel / near, [p.zoom]]) for p in poses])
        for i, (pose, (picture, values)) in enumerate(zip(poses, matched, strict=True)):
            found = frame.evidence(picture, values, pose, (exposures[i, 0], exposures[i, 1]))
            if found is not None:
                normal[i, :, i, :] = found.normal / (ONE_IN * found.noise)
                slope[i] = found.slope / (ONE_IN * found.noise)
            normal[i, range(PARAMETERS, WITH_EXPOSURE), i, range(PARAMETERS, WITH_EXPOSURE)] += 1e-9
        for j in range(PARAMETERS):
            normal[:, j, :, j] += smoothness * stiff[j]
        slope[:, :PARAMETERS] += smoothness @ path * stiff
        square = normal.reshape(count * WITH_EXPOSURE, -1)
        step = -np.linalg.solve(square, slope.ravel()).reshape(count, WITH_EXPOSURE)
        poses = [pose.moved(by[:PARAMETERS], near) for pose, by in zip(poses, step, strict=True)]
        exposures = exposures + step[:, PARAMETERS:]
        if np.abs(step[:, :PARAMETERS]).max() < 1e-5:
            break
    spread = np.diag(np.linalg.inv(square)).reshape(count, WITH_EXPOSURE)[:, :PARAMETERS] * metres(near) ** 2
    return list(zip(poses, spread, strict=True))


def _smoothness(count: int) -> Array:
    """(n, n) smoothness prior: the squared second differences of n poses that follow one at 0."""
    second = np.diff(np.eye(count + 1), 2, axis=0)[:, 1:]
    return second.T @ second
