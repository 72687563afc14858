"""Blocking -> what the network reads, in numpy: two control films, camera rays, and a few context tokens.

Channels on the patch embedding are, in the order of card.PREVIS: 16 noise, 4 + 16 keyframe mask and latent
(Wan I2V), 16 + 16 latents of the control films `previs` and `depth` (Fun-Control), 24 Pluecker rays
(Fun-Camera, on the latent grid). Whatever is not given is zeros: training drops every group now and then.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from models.geometry import SPACE_STRIDE, TIME_STRIDE
from models.stage import render as stage
from models.stage.blocking import Array, Blocking, LightTrack, SubjectTrack
from models.stage.sets import NAMES

SAMPLES = 2  # rays a pixel and side of the control films, in training and in use
TOKEN, CAMERA, LAMPS, ROOM, SET, SUBJECT = 64, 0, {"key": 1, "fill": 2, "rim": 3}, 4, 5, 6
MAX_SUBJECTS = 6  # context tokens of subjects; the films show any number
KIND = 8  # the first numbers of a token say what it is


def control_films(blocking: Blocking, at_once: int = 0) -> tuple[Array, Array]:
    """The shot as the stage shows it: previs (T, h, w, 3) and coded depth (T, h, w), float32 0..1.

    at_once: frames that are made at a time; 0: one a core.
    """
    size = (blocking.frames, blocking.height, blocking.width)
    previs, depth = np.empty((*size, 3), np.float32), np.empty(size, np.float32)

    def frame(t: int) -> None:
        shown = stage.render_frame(blocking, t, samples=SAMPLES)
        previs[t], depth[t] = shown.previs, code_depth(shown.depth, blocking.subject_distance_m)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(at_once or cores) as pool:  # numpy leaves the interpreter free while it computes
        list(pool.map(frame, range(blocking.frames)))
    return previs, depth


def code_depth(depth_m: Array, unit_m: float) -> Array:
    """Distances as 0..1: 1 at the lens, 0.5 at the subject's distance, 0 at infinity."""
    return unit_m / (unit_m + depth_m)


def rays(blocking: Blocking, cell: int = SPACE_STRIDE) -> Array:
    """Pluecker rays (24, F, H, W) float32: moment o x d then direction d, each folded over the four frames of a latent.

    Channel = component * 4 + sub-frame; the first frame fills its group. Poses are relative to frame 0, lengths in
    units of the subject's distance. Rays go through the centres of cells of so many pixels a side.
    """
    high, wide = blocking.height // cell, blocking.width // cell
    rotation, origin = _relative(blocking)
    x = (np.arange(wide) + 0.5) * cell - blocking.width / 2
    y = (np.arange(high) + 0.5) * cell - blocking.height / 2
    before = TIME_STRIDE - 1
    groups = np.empty((6, TIME_STRIDE, (before + blocking.frames) // TIME_STRIDE, high, wide), np.float32)
    for t, focal in enumerate(blocking.focal_px):  # a film's in float64 would be gigabytes, where a cell is a pixel
        pixel = np.stack(np.broadcast_arrays(x[None, :] / focal, y[:, None] / focal, 1.0), -1)
        direction = pixel @ rotation[t].T
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        moment = np.cross(np.broadcast_to(origin[t], direction.shape), direction)
        both = np.moveaxis(np.concatenate([moment, direction], -1), -1, 0)  # (6, H, W)
        if t == 0:
            groups[:, :, 0] = both[:, None]
        else:
            group, place = divmod(before + t, TIME_STRIDE)
            groups[:, place, group] = both
    return groups.reshape(6 * TIME_STRIDE, -1, high, wide)


def context(blocking: Blocking) -> Array:
    """The tokens (n, 64) float32: camera, key, fill, rim, room light, set, then each subject."""
    tokens = [_token(CAMERA, _camera(blocking))]
    tokens += [_token(LAMPS[lamp.name], _lamp(blocking, lamp)) for lamp in blocking.lights]
    ends = [0, -1]
    tokens.append(_token(ROOM, [*blocking.ambient[ends].ravel() * 4, *blocking.exposure_ev[ends]]))
    tokens.append(_token(SET, _set(blocking)))
    tokens += [_token(SUBJECT, _subject(blocking, track)) for track in blocking.subjects[:MAX_SUBJECTS]]
    return np.stack(tokens)


def _token(kind: int, numbers) -> Array:
    token = np.zeros(TOKEN, np.float32)
    token[kind] = 1.0
    token[KIND : KIND + len(numbers)] = np.clip(numbers, -4, 4)
    return token


def _relative(blocking: Blocking) -> tuple[Array, Array]:
    """Camera poses relative to frame 0: rotations (T, 3, 3) and origins (T, 3) in units of the subject's distance."""
    first = blocking.c2w[0, :, :3]
    origin = (blocking.c2w[:, :, 3] - blocking.c2w[0, :, 3]) @ first / blocking.subject_distance_m
    return np.einsum("ji,tjk->tik", first, blocking.c2w[:, :, :3]), origin


def _camera(blocking: Blocking) -> list[float]:
    rotation, origin = _relative(blocking)
    middle, last = blocking.frames // 2, blocking.frames - 1
    numbers = [np.log2(blocking.focal_mm[t] / 35.0) for t in (0, middle, last)]
    numbers += [np.log2(blocking.focus_m[t] / blocking.subject_distance_m) for t in (0, last)]
    numbers += [np.log2(blocking.t_stop / 2.8), np.log2(blocking.subject_distance_m / 3.0)]
    for t in (middle, last):
        numbers += [*rotation[t, :, 2], *rotation[t, :2, 0], *origin[t]]
    down = blocking.c2w[0, :, :3].T @ [0.0, -1.0, 0.0]  # how the camera stands in the world
    return [*numbers, *down, blocking.c2w[0, 1, 3] / blocking.subject_distance_m]


def _lamp(blocking: Blocking, lamp: LightTrack) -> list[float]:
    numbers = [np.log2(max(lamp.size_deg, 0.25) / 10.0) / 4]
    for t in (0, -1):
        luminance = max(float(lamp.rgb[t] @ [0.2126, 0.7152, 0.0722]), 1e-4)
        numbers += [*(blocking.c2w[t, :, :3].T @ lamp.direction[t]), np.log2(luminance) / 3, *(lamp.rgb[t] / luminance)]
    return numbers


def _set(blocking: Blocking) -> list[float]:
    place = blocking.set
    named = [float(place.name == name) for name in NAMES]
    return [*named, *place.ground, *place.ground_second, place.tile_m, *place.sky_top, *place.sky_horizon]


def _subject(blocking: Blocking, track: SubjectTrack) -> list[float]:
    look = track.appearance
    numbers = [look.height_m - 1.7, look.build - 1]
    numbers += [look.hat is not None, look.long_hair, look.coat, track.pose == "sit"]
    for color in (look.skin, look.hair, look.top, look.bottom, look.shoes, look.hat or (0, 0, 0)):
        numbers += color
    for t in (0, -1):
        at = (track.position[t] - blocking.c2w[t, :, 3]) @ blocking.c2w[t, :, :3] / blocking.subject_distance_m
        heading = np.radians(track.heading_deg[t])
        ahead = blocking.c2w[t, :, :3].T @ [np.sin(heading), 0.0, np.cos(heading)]
        numbers += [*at, *ahead, track.gait[t]]
    return numbers
