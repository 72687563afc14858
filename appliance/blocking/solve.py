"""Solve a direction to a blocking: camera, lens, lights and people at every frame, and the set.

A pure function of the direction, in a few milliseconds, so that the desk can call it on every keystroke. Time 0 is the
start of the shot proper; handles come before it and after its end. What ends with the shot ends at its length;
frames beyond that, which the model's grid of 4n+1 adds, hold what was reached.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from appliance.blocking.camera import Stage, camera_path
from appliance.blocking.clearance import clear_the_way
from appliance.blocking.framing import Anchor
from appliance.blocking.lighting import light_plot, under_sky
from appliance.blocking.walking import walk
from models.geometry import snap_pixels
from models.stage import appearance as cast
from models.stage import sets
from models.stage.blocking import RGB, Appearance, Blocking, StageSet, SubjectTrack
from models.stage.optics import srgb_decode

if TYPE_CHECKING:
    from appliance.direction.shot import Character, ShotDirection, Subject

SIDE_BY_SIDE_M = 0.9  # between people without marks


def block(direction: ShotDirection) -> Blocking:
    """The direction at every frame. Raises BadInput when it cannot be done: a camera under the floor, a focal
    length out of range, a mark that is too far to reach in time.
    """
    t = times(direction)
    end_s = min(float(t[-1] - direction.time.handles_f / direction.time.fps), direction.time.duration_s)
    people = tracks(direction, t)
    framed = _framed(direction, people, len(t))
    stage = Stage(framed, {person.id: _anchor(person) for person in people})
    width, height = snap_pixels(direction.format.width), snap_pixels(direction.format.height)
    film_back_mm = direction.format.film_back_mm()
    camera = camera_path(direction, t, end_s, stage, film_back_mm)
    position = camera.c2w[:, :, 3]
    heading = _heading(direction, people, len(t))
    dressed = clear_the_way(
        _bare_set(direction.set.name, direction.set.seed),
        position,
        camera.target if people else None,
        [person.position for person in people],
    )
    lights, ambient, exposure = light_plot(direction.light, t, position, camera.target, heading)
    return Blocking(
        fps=float(direction.time.fps),
        width=width,
        height=height,
        c2w=camera.c2w,
        focal_mm=camera.focal_mm,
        sensor_w_mm=film_back_mm[0],
        focus_m=camera.focus_m,
        t_stop=direction.lens.t_stop,
        lights=lights,
        ambient=ambient,
        exposure_ev=exposure,
        subjects=people,
        set=under_sky(dressed, direction.light),
        subject_distance_m=max(0.05, float(np.linalg.norm(camera.target[0] - position[0]))),
    )


def times(direction: ShotDirection) -> np.ndarray:
    """(T,) seconds of each frame."""
    return (np.arange(direction.frames) - direction.time.handles_f) / direction.time.fps


def tracks(direction: ShotDirection, t: np.ndarray) -> tuple[SubjectTrack, ...]:
    """All people at times t. Those without marks stand side by side in the middle."""
    idle = [i for i, subject in enumerate(direction.subjects) if not subject.track]
    found = []
    for i, subject in enumerate(direction.subjects):
        look = appearance(subject, direction.character(subject))
        x = SIDE_BY_SIDE_M * (idle.index(i) - (len(idle) - 1) / 2) if i in idle else 0.0
        path = walk(subject.track, f"subjects[{i}]", t, look.height_m, x)
        found.append(
            SubjectTrack(subject.id, look, path.position, path.heading_deg, path.stride, path.gait, subject.pose)
        )
    return tuple(found)


def appearance(subject: Subject, card: Character | None) -> Appearance:
    """What a subject looks like: by the name, then by what the cast states."""
    look = cast.appearance(subject.character or subject.id)
    if card is not None:
        plain = ("height_m", "build", "long_hair", "coat")
        colors = ("skin", "hair", "top", "bottom", "shoes", "hat")
        stated = {name: getattr(card, name) for name in plain if getattr(card, name) is not None}
        stated |= {name: albedo(getattr(card, name)) for name in colors if getattr(card, name) is not None}
        if card.bareheaded:
            stated["hat"] = None
        look = replace(look, **stated)
    return replace(look, height_m=look.height_m * subject.scale)


def albedo(color: str) -> RGB:
    """#rrggbb (sRGB) as linear reflectance."""
    red, green, blue = (float(srgb_decode(int(color[i : i + 2], 16) / 255)) for i in (1, 3, 5))
    return red, green, blue


@lru_cache(maxsize=16)
def _bare_set(name: str, seed: int) -> StageSet:
    return sets.build(name, seed)  # frozen; the desk solves the same set on every keystroke


def _anchor(person: SubjectTrack) -> Anchor:
    return Anchor(person.position, person.appearance.height_m, person.pose == "sit", float(person.heading_deg[0]))


def _framed(direction: ShotDirection, people: tuple[SubjectTrack, ...], frames: int) -> Anchor:
    """What is framed: the subject that is named, everybody, the first subject, or the set."""
    if not people:
        return Anchor(np.zeros((frames, 3)), None)
    if direction.frame.subject != "all":
        return _anchor(next((p for p in people if p.id == direction.frame.subject), people[0]))
    positions = np.stack([person.position for person in people])
    spread = float(np.linalg.norm(positions[:, 0].max(0) - positions[:, 0].min(0)))
    tallest = max(people, key=lambda person: person.appearance.height_m)
    middle = (positions.max(0) + positions.min(0)) / 2
    seated = all(person.pose == "sit" for person in people)
    return Anchor(middle, tallest.appearance.height_m, seated, float(people[0].heading_deg[0]), spread)


def _heading(direction: ShotDirection, people: tuple[SubjectTrack, ...], frames: int) -> np.ndarray:
    """(T,) where the framed subject faces; the audience's side when there is nobody."""
    if not people:
        return np.zeros(frames)
    return next((p for p in people if p.id == direction.frame.subject), people[0]).heading_deg
