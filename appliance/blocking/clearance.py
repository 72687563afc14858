"""Remove set dressing that the camera would be inside of, or that hides the subject.

Only loose pieces are removed (under a metre, not thin): walls, houses and doors stay. A piece at the position of a
removed one (a crown on its trunk) is removed too. A pure function of the blocking, so a shot is always dressed alike.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.stage.blocking import Prop, StageSet

Array = np.ndarray
CAMERA_M = 0.45  # clear around the camera
SIGHT_M = 0.15  # clear around the line from camera to subject
PERSON_M = 0.35  # clear around a person


def clear_the_way(stage_set: StageSet, camera: Array, target: Array | None, people: list[Array]) -> StageSet:
    """`camera` and `target` are (T, 3) positions, `people` (T, 3) each; target None: no line of sight is cleared."""
    every = slice(None, None, max(1, len(camera) // 16))
    points = [(camera[every], CAMERA_M)]
    if target is not None:
        along = np.linspace(0.0, 0.92, 24)[:, None, None]
        line = camera[every] + (target[every] - camera[every]) * along
        points.append((line.reshape(-1, 3), SIGHT_M))
    for walker in people:
        points.append((walker[every] + np.array([0.0, 0.9, 0.0]), PERSON_M))
    gone = {prop.center[::2] for prop in stage_set.props if _loose(prop) and _in_the_way(prop, points)}
    left = tuple(prop for prop in stage_set.props if not (_loose(prop) and prop.center[::2] in gone))
    return stage_set if len(left) == len(stage_set.props) else replace(stage_set, props=left)


def _extent(prop: Prop) -> tuple[float, float]:
    """Radius on the floor, and half height."""
    if prop.shape == "box":
        return float(np.hypot(prop.size[0], prop.size[2])), prop.size[1]
    return prop.size[0], prop.size[0] if prop.shape == "ball" else prop.size[1]


def _loose(prop: Prop) -> bool:
    thin = prop.shape == "box" and min(prop.size) < 0.15
    return not thin and _extent(prop)[0] < (1.0 if prop.shape == "box" else 2.0)


def _in_the_way(prop: Prop, points: list[tuple[Array, float]]) -> bool:
    radius, half = _extent(prop)
    center = np.array(prop.center)
    for position, margin in points:
        apart = np.hypot(position[:, 0] - center[0], position[:, 2] - center[2])
        above = np.abs(position[:, 1] - center[1])
        reach = 0.9 if margin == PERSON_M else margin  # a person's position is given at the middle of their height
        if np.any((apart < radius + margin) & (above < half + reach)):
            return True
    return False
