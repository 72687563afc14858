"""Context tokens of our own model, in numpy: camera, lamps, room light, set and subjects.

The other inputs of our model are on the patch embedding, in the order of card.PREVIS: 16 noise, 4 + 16 keyframe mask
and latent (Wan I2V), 16 + 16 latents of the control films `previs` and `depth` (Fun-Control), 24 Pluecker rays
(Fun-Camera, on the latent grid). What is not given is zeros: training drops each group at random.
"""

from __future__ import annotations

import numpy as np

from models.controls.rays import _relative
from models.stage.blocking import Array, Blocking, LightTrack, SubjectTrack
from models.stage.sets import NAMES

TOKEN, CAMERA, LAMPS, ROOM, SET, SUBJECT = 64, 0, {"key": 1, "fill": 2, "rim": 3}, 4, 5, 6
MAX_SUBJECTS = 6  # context tokens of subjects; the films show any number
KIND = 8  # the first numbers of a token are its kind, one-hot


def context_tokens(blocking: Blocking) -> Array:
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


def _camera(blocking: Blocking) -> list[float]:
    rotation, origin = _relative(blocking)
    middle, last = blocking.frames // 2, blocking.frames - 1
    numbers = [np.log2(blocking.focal_mm[t] / 35.0) for t in (0, middle, last)]
    numbers += [np.log2(blocking.focus_m[t] / blocking.subject_distance_m) for t in (0, last)]
    numbers += [np.log2(blocking.t_stop / 2.8), np.log2(blocking.subject_distance_m / 3.0)]
    for t in (middle, last):
        numbers += [*rotation[t, :, 2], *rotation[t, :2, 0], *origin[t]]
    down = blocking.c2w[0, :, :3].T @ [0.0, -1.0, 0.0]  # the direction of gravity in the camera's axes
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
