"""A camera's way, fitted to whole pictures: of all frames that one key frame shows, every pose at once.

A way found from corner to corner is near, but small errors of each leg add up, and a dolly and a zoom differ by little
more than they. Here frames are held against the one key frame for as long as they still show it, so that nothing adds
up, pixel by pixel (score_align), and together: a pose that its own picture leaves open is what its neighbours make it,
by as much as a camera that has mass can change its pace within a frame.
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
PACE_PX = 0.5  # a frame by which the picture's motion changes from one frame to the next: standard deviation
ONE_IN = 20  # pixels that err on their own: neighbours share their blur and the jags of one edge
SHARE, GROWN = 0.4, 1.4  # of a key frame's pixels still seen; and how much larger or smaller: beyond, a new one begins
WITH_EXPOSURE = PARAMETERS + 2


def refined(pictures: Array, ground: GroundTruth, chained: CameraTrack) -> CameraTrack:
    """The camera of grey pictures (T, h, w), looked for from `chained`; what that did not measure stays as it is."""
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
        else:  # not even the next frame is like it
            key += 1
            leg = np.maximum(chained.doubt[key] ** 2 - chained.doubt[begun] ** 2, 0)
            track.put(begun, key, chained.pose(begun, key), leg)
    return track


def _shown(frame: KeyFrame, pictures: Array, chained: CameraTrack, key: int) -> list[Pose]:
    """Where the frames after `key` stand to it by the chained way, for as long as they show it."""
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
    bends = _bends(count)
    arm = float(np.hypot(blocking.width, blocking.height)) / 4
    focal = float(blocking.focal_px[0])
    stiff = (np.array([focal, focal, arm, focal, focal, arm, arm]) / PACE_PX) ** 2  # pixels that a step of 1 is worth
    for _ in range(ROUNDS):
        normal = np.zeros((count, WITH_EXPOSURE, count, WITH_EXPOSURE))
        slope = np.zeros((count, WITH_EXPOSURE))
        way = np.stack([np.concatenate([cv2.Rodrigues(p.turn)[0][:, 0], p.travel / near, [p.zoom]]) for p in poses])
        for i, (pose, (picture, values)) in enumerate(zip(poses, matched, strict=True)):
            told = frame.evidence(picture, values, pose, (exposures[i, 0], exposures[i, 1]))
            if told is not None:
                normal[i, :, i, :] = told.normal / (ONE_IN * told.noise)
                slope[i] = told.slope / (ONE_IN * told.noise)
            normal[i, range(PARAMETERS, WITH_EXPOSURE), i, range(PARAMETERS, WITH_EXPOSURE)] += 1e-9
        for j in range(PARAMETERS):
            normal[:, j, :, j] += bends * stiff[j]
        slope[:, :PARAMETERS] += bends @ way * stiff
        square = normal.reshape(count * WITH_EXPOSURE, -1)
        step = -np.linalg.solve(square, slope.ravel()).reshape(count, WITH_EXPOSURE)
        poses = [pose.moved(by[:PARAMETERS], near) for pose, by in zip(poses, step, strict=True)]
        exposures = exposures + step[:, PARAMETERS:]
        if np.abs(step[:, :PARAMETERS]).max() < 1e-5:
            break
    spread = np.diag(np.linalg.inv(square)).reshape(count, WITH_EXPOSURE)[:, :PARAMETERS] * metres(near) ** 2
    return list(zip(poses, spread, strict=True))


def _bends(count: int) -> Array:
    """(n, n) the squares of a way's changes of pace, summed: second differences, of n frames after one that is at 0."""
    second = np.diff(np.eye(count + 1), 2, axis=0)[:, 1:]
    return second.T @ second
