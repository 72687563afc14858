"""The model sheet of a shot: its people side by side, as in a costume department, without the scene.

They stand on a grey floor under soft white light from the front, each turned a little aside, so that colours, build
and clothes are clearly visible. All sheets have the same scale, unless their people need more room.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from models.stage.blocking import Array, Blocking, LightTrack, StageSet, SubjectTrack
from models.stage.optics import BASE

PEOPLE = 4  # on a sheet
TURN_DEG = -25.0  # from facing the camera towards its left
HEIGHT_M = 2.1  # of the frame: 1.95 m with a hat, which adds 3 %, and a margin
HEADROOM = 1.08  # of the tallest person, for people above that height
FEET = 0.03  # of the frame's height is below the feet
WIDTH, HAND = 0.28, 0.056  # of a standing person, in heights: across the arms for an average build, and the hands
GAP = 1.1  # of the widest person, from one to the next
DISTANCE_M = 12.0  # far enough that something an arm's length nearer is at most 3 % larger
SENSOR_MM = 36.0
STOP = 64.0  # deep focus: nothing blurs by a pixel
GREY = 0.18  # reflectance of the floor
KEY, FILL, ROOM = 0.55, 0.2, 0.35  # irradiance; a white surface that faces the camera is just below white


def sheet(blocking: Blocking) -> Blocking | None:
    """One frame of the film's size with the first four of its people, in order from left to right, standing; None if
    there are none.
    """
    people = blocking.subjects[:PEOPLE]
    if not people:
        return None
    looks = [person.appearance for person in people]
    widest = max((WIDTH * look.build + HAND) * look.height_m for look in looks)
    aspect = blocking.width / blocking.height
    tall = max(HEIGHT_M, HEADROOM * max(look.height_m for look in looks), len(people) * GAP * widest / aspect)
    step = tall * aspect / len(people)
    positions = [(i - (len(people) - 1) / 2) * step for i in range(len(people))]
    key, fill = _unit(-0.35, 0.5, 1.0), _unit(0.8, 0.15, 1.0)
    eye = (0.0, (0.5 - FEET) * tall, DISTANCE_M)
    light = KEY * key[1] + FILL * fill[1] + ROOM  # on the floor: the sky is as bright as it
    sky = (GREY * light,) * 3
    return replace(
        blocking,
        c2w=np.concatenate([BASE, np.array(eye)[:, None]], 1)[None],
        focal_mm=np.array([DISTANCE_M / tall * SENSOR_MM / aspect]),
        sensor_w_mm=SENSOR_MM,
        focus_m=np.array([DISTANCE_M]),
        t_stop=STOP,
        lights=(_lamp("key", key, KEY, 40.0), _lamp("fill", fill, FILL, 60.0)),
        ambient=np.full((1, 3), ROOM),
        exposure_ev=np.zeros(1),
        subjects=tuple(_standing(person, x) for person, x in zip(people, positions, strict=True)),
        set=StageSet("sheet", (GREY,) * 3, (GREY,) * 3, 0.0, sky, sky),
        subject_distance_m=DISTANCE_M,
    )


def _standing(person: SubjectTrack, x: float) -> SubjectTrack:
    still = np.zeros(1)
    position, heading = np.array([[x, 0.0, 0.0]]), np.array([TURN_DEG])
    return replace(person, position=position, heading_deg=heading, stride=still, gait=still, pose="stand")


def _lamp(name: str, direction: Array, strength: float, size_deg: float) -> LightTrack:
    return LightTrack(name, direction[None], np.full((1, 3), strength), size_deg)


def _unit(x: float, y: float, z: float) -> Array:
    return np.array([x, y, z]) / math.sqrt(x * x + y * y + z * z)
