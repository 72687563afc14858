"""Whether the film can show what was directed: the framed subject before the lens, in the frame, and not hidden.

Read from a blocking in milliseconds, for every frame. A person is some twenty points, the middles of the solids that
draw them; a point is seen when it projects into the frame and no solid of the set and no other person lies on the line
from the lens to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from appliance.blocking.solve import block
from models.errors import BadInput
from models.stage.blocking import Array, Blocking, Prop, SubjectTrack
from models.stage.mannequin import parts
from models.stage.render import solid_of

if TYPE_CHECKING:
    from appliance.direction.shot import ShotDirection

NEAR_M = 0.15  # closer than this to the lens nothing can be shown: the front element of a real lens is about as wide
BODY_M = 0.22  # half the width of a person at the shoulders
SHARE = 0.5  # of a person's points in the frame that must be seen
TOLERATED = 0.1  # of the frames in which a subject may be hidden or out of frame: a passing pillar, an entrance
ON_SURFACE_M = 0.2  # a solid that begins this close before a point is what the point lies on, or leans against


@dataclass(frozen=True, slots=True)
class Problem:
    """Frames in which the film cannot show what was directed."""

    what: str  # "mara is hidden by the set", "the camera is inside mara"
    frames: int
    of: int

    def __str__(self) -> str:
        return f"{self.what} in {self.frames} of {self.of} frames"


def problems(blocking: Blocking, subject: str | None) -> tuple[Problem, ...]:
    """What cannot be shown, the worst first. `subject`: the id of the framed subject, "all", or None for the first."""
    eye, T = blocking.c2w[:, :, 3], blocking.frames
    found = [Problem("the camera is inside a solid of the set", int(_inside_set(blocking, eye).sum()), T)]
    for person in blocking.subjects:
        near = np.linalg.norm((person.position - eye)[:, [0, 2]], axis=1) < BODY_M
        within = near & (eye[:, 1] < person.position[:, 1] + person.appearance.height_m) & (eye[:, 1] > 0)
        found.append(Problem(f"the camera is inside {person.id}", int(within.sum()), T))
    for person in _framed(blocking, subject):
        found += _of_person(blocking, person)
    return tuple(sorted((each for each in found if each.frames), key=lambda each: -each.frames))


def remedy(direction: ShotDirection) -> str | None:
    """A change of the direction after which nothing is hidden any more, tried by solving it; None where none was found.

    Its words are those of a shot file: `frame.side = "front"`.
    """
    for words, changed in _changes(direction):
        try:
            blocking = block(changed)
        except BadInput:
            continue
        if not problems(blocking, changed.frame.subject):
            return words
    return None


def _framed(blocking: Blocking, subject: str | None) -> tuple[SubjectTrack, ...]:
    if subject == "all" or not blocking.subjects:
        return blocking.subjects
    return (next((person for person in blocking.subjects if person.id == subject), blocking.subjects[0]),)


def _of_person(blocking: Blocking, person: SubjectTrack) -> Iterator[Problem]:
    """What keeps one person out of the film: each frame counts for one reason, the first that holds."""
    points = _points(person)  # (T, P, 3)
    eye = blocking.c2w[:, :, 3][:, None]
    local = np.einsum("tpi,tij->tpj", points - eye, blocking.c2w[:, :, :3])
    depth = np.maximum(local[..., 2], 1e-6)
    x, y = (blocking.focal_px[:, None] * local[..., axis] / depth for axis in (0, 1))
    before = local[..., 2] > NEAR_M
    inside = before & (np.abs(x) <= blocking.width / 2) & (np.abs(y) <= blocking.height / 2)
    behind = ~before.any(1)
    outside = ~inside.any(1) & ~behind
    reasons = [(f"{person.id} is behind the camera", behind), (f"{person.id} is out of frame", outside)]
    screens = {"the set": _behind_set(blocking, points)} | {
        other.id: _behind_person(blocking, points, other) for other in blocking.subjects if other is not person
    }
    hidden = np.any([screen & inside for screen in screens.values()], axis=0).sum(1)
    covered = (hidden > SHARE * inside.sum(1)) & ~outside & ~behind
    most = np.argmax([(screen & inside).sum(1) for screen in screens.values()], axis=0)  # who hides most of a frame
    reasons += [(f"{person.id} is hidden by {name}", covered & (most == number)) for number, name in enumerate(screens)]
    for what, frames in reasons:
        if frames.sum() > TOLERATED * blocking.frames:
            yield Problem(what, int(frames.sum()), blocking.frames)


def _points(person: SubjectTrack) -> Array:
    """(T, P, 3) the middle of each solid of a person at every frame."""
    return np.array(
        [[np.add(solid.a, solid.b) / 2 for solid, _ in parts(person, t)] for t in range(len(person.position))]
    )


def _behind_set(blocking: Blocking, points: Array) -> Array:
    """(T, P) whether a solid of the set lies between the lens and a point."""
    eye = blocking.c2w[:, :, 3][:, None]
    away = points - eye
    far = np.linalg.norm(away, axis=-1)
    direction = [away[..., axis] / far for axis in range(3)]
    origin = [eye[..., axis] for axis in range(3)]
    hidden = np.zeros(far.shape, dtype=bool)
    for prop in blocking.set.props:
        hidden |= solid_of(prop).hit(np, origin, direction) < far - ON_SURFACE_M
    return hidden


def _behind_person(blocking: Blocking, points: Array, other: SubjectTrack) -> Array:
    """(T, P) whether another person stands between: the line of sight passes within half a body of their axis."""
    eye = blocking.c2w[:, :, 3][:, None]
    sight, to = points - eye, other.position[:, None] - eye
    flat = np.maximum((sight[..., [0, 2]] ** 2).sum(-1), 1e-9)
    along = (to[..., [0, 2]] * sight[..., [0, 2]]).sum(-1) / flat  # share of the line at which it passes them
    passes = eye + along[..., None] * sight - other.position[:, None]
    near = np.linalg.norm(passes[..., [0, 2]], axis=-1) < BODY_M
    return (along > 0) & (along < 1) & near & (passes[..., 1] > 0) & (passes[..., 1] < other.appearance.height_m)


def _inside_set(blocking: Blocking, eye: Array) -> Array:
    """(T,) whether the camera is inside a solid of the set."""
    within = np.zeros(len(eye), dtype=bool)
    for prop in blocking.set.props:
        within |= _inside(prop, eye)
    return within


def _inside(prop: Prop, at: Array) -> Array:
    x, y, z = (at - np.array(prop.center)).T
    if prop.shape == "box":
        c, s = np.cos(np.radians(prop.yaw_deg)), np.sin(np.radians(prop.yaw_deg))
        local = (c * x - s * z, y, s * x + c * z)
        return np.all([np.abs(p) < half for p, half in zip(local, prop.size, strict=True)], axis=0)
    radius, tall = prop.size[0], 0.0 if prop.shape == "ball" else prop.size[1]
    # A column is a capsule from its foot to a round top whose highest point is its height.
    over = y - np.clip(y, -tall, max(tall - radius, -tall))
    return x * x + over * over + z * z < radius * radius


def _changes(direction: ShotDirection) -> Iterator[tuple[str, ShotDirection]]:
    """Changes worth trying, the smallest first: another side, less of a move, a solved pose, following the subject."""
    frame, camera = direction.frame, direction.camera
    for side in ("front", "three_quarter_left", "three_quarter_right", "profile_left", "profile_right"):
        if side != frame.side and camera.pos_m is None:
            yield f'frame.side = "{side}"', replace(direction, frame=replace(frame, side=side, side_deg=None))
    for number, move in enumerate(direction.moves):
        for share in (0.75, 0.5, 0.25, 0.1):
            amount = float(f"{share * (move.amount_m or move.amount_deg or 0):.2g}")
            if move.amount_m:
                less, words = replace(move, amount_m=amount), f"amount_m = {amount:g}"
            elif move.amount_deg:
                less, words = replace(move, amount_deg=amount), f"amount_deg = {amount:g}"
            else:
                break
            moves = (*direction.moves[:number], less, *direction.moves[number + 1 :])
            yield f"moves[{number}].{words}", replace(direction, moves=moves)
    if camera.pos_m is not None:
        yield (
            "camera.pos_m left out, so that the framing places it",
            replace(direction, camera=replace(camera, pos_m=None)),
        )
    if direction.subjects and camera.follow is None:
        name = direction.subjects[0].id if frame.subject in (None, "all") else frame.subject
        yield f'camera.follow = "{name}"', replace(direction, camera=replace(camera, follow=name))
