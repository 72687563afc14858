"""Rules between the fields of a direction: names that exist, amounts that suit their move, times in order."""

from __future__ import annotations

import re
from typing import Any

from appliance.direction.fields import is_keyed, refuse, table, tidy
from appliance.direction.marks import legs
from appliance.direction.parsing import nearest
from appliance.direction.vocabulary import MOVES
from models.errors import BadInput

_AMOUNTS = ("amount_deg", "amount_m", "amount_x", "to_mm", "to_m")
_SETUP = re.compile(r"[A-HJ-NP-Z]{1,2}")
_RESERVED = ("all", "camera")


def check(direction: Any) -> None:
    """Raises BadInput for the first rule that the direction breaks."""
    if not _SETUP.fullmatch(direction.setup.upper()):
        why = 'they read as 1 and 0 on a slate: try "A"'
        raise refuse("setup", direction.setup, "1 or 2 letters, A to Z without I and O", why)
    object.__setattr__(direction, "setup", direction.setup.upper())
    _subjects(direction)
    _frame_and_camera(direction)
    for i, move in enumerate(direction.moves):
        _move(direction, move, f"moves[{i}]")
    _locked_off(direction)
    _keyframes(direction)
    _locks(direction)


def _locks(direction: Any) -> None:
    known = (
        {row.path.replace("[]", "").replace(".*", "") for row in table(type(direction))} if direction.lock else set()
    )
    for i, path in enumerate(direction.lock):
        plain = re.sub(r"\[\d*\]", "", path)
        if not any(name == plain or name.startswith(f"{plain}.") for name in known) and not plain.startswith("cast."):
            raise refuse(f"lock[{i}]", path, "the path of a field", nearest(plain, known))


def _subjects(direction: Any) -> None:
    ids = [subject.id for subject in direction.subjects]
    cast = [character.id for character in direction.cast]
    for i, subject in enumerate(direction.subjects):
        path = f"subjects[{i}]"
        if subject.id in ids[:i] or subject.id in _RESERVED:
            raise refuse(f"{path}.id", subject.id, "a name that no other subject has", f'try "{subject.id}_2"')
        if subject.character is not None and subject.character not in cast:
            remedy = f"add [cast.{subject.character}]" + (f", or {nearest(subject.character, cast)}" if cast else "")
            raise refuse(f"{path}.character", subject.character, "a name in the cast", remedy)
        if isinstance(subject.gaze, str) and subject.gaze != "camera":
            _exists(f"{path}.gaze", subject.gaze, ids, 'or "camera"')
        legs(subject.track, path)
    for i, character in enumerate(direction.cast):
        if character.bareheaded and character.hat:
            raise refuse(f"cast.{cast[i]}.bareheaded", True, "false with a hat", "leave hat out, or bareheaded")


def _frame_and_camera(direction: Any) -> None:
    ids = [subject.id for subject in direction.subjects]
    frame, camera = direction.frame, direction.camera
    if frame.subject is not None and (frame.subject != "all" or not ids):
        _exists("frame.subject", frame.subject, ids, 'or "all"')
    for path, name in (
        ("camera.follow", camera.follow),
        ("camera.look_at", camera.look_at),
        ("lens.focus_on", direction.lens.focus_on),
    ):
        if isinstance(name, str):
            _exists(path, name, ids)
    if camera.pos_m is not None:
        for name in ("size", "angle", "side", "elevation_deg", "side_deg"):
            if (value := getattr(frame.end, name)) is not None:
                raise _one_of(f"frame.end.{name}", value, "camera.pos_m")
        points = [key.value for key in camera.pos_m] if is_keyed(camera.pos_m) else [camera.pos_m]
        if (lowest := min(point[1] for point in points)) < 0:
            raise refuse("camera.pos_m", lowest, "0 to 100 m in y", "the floor is y = 0: raise the camera")
    shake = camera.shake
    if shake.hz_lo > shake.hz_hi:
        raise refuse("camera.shake.hz_lo", shake.hz_lo, f"at most hz_hi, {tidy(shake.hz_hi)} Hz", "swap them")
    if (side := direction.continuity.axis_side) and len(ids) < 2:
        raise refuse("continuity.axis_side", side, "left out with fewer than two subjects", "leave it out")


def _exists(path: str, name: str, ids: list[str], more: str = "") -> None:
    if name not in ids:
        allowed = f"the id of a subject ({', '.join(ids) or 'there is none'})" + (f", {more}" if more else "")
        raise refuse(path, name, allowed, nearest(name, ids) if ids else "add one under [[subjects]]")


def _one_of(path: str, value: Any, other: str) -> BadInput:
    return refuse(path, value, f"left out when {other} is stated", "leave one of them out")


def _move(direction: Any, move: Any, path: str) -> None:
    kind = MOVES[move.type]
    given = [key for key in _AMOUNTS if getattr(move, key) is not None]
    keys = [amount.key for amount in kind.amounts]
    for key in given:
        if key not in keys:
            write = f"write {' or '.join(keys)}" if keys else "leave it out"
            raise refuse(f"{path}.{key}", getattr(move, key), f"left out: a {move.type} does not take it", write)
        amount = next(a for a in kind.amounts if a.key == key)
        if not amount.lo <= getattr(move, key) <= amount.hi:
            near = amount.lo if getattr(move, key) < amount.lo else amount.hi
            allowed = f"{tidy(amount.lo)} to {tidy(amount.hi)} {amount.unit} for a {move.type}"
            raise refuse(f"{path}.{key}", getattr(move, key), allowed, f"the nearest allowed is {tidy(near)}")
    if len(given) > 1:
        raise _one_of(f"{path}.{given[1]}", getattr(move, given[1]), given[0])
    if keys and not given and kind.default is None and not (move.type == "rack_focus" and move.target is not None):
        first = kind.amounts[0]
        by_target = " or target" if move.type == "rack_focus" else ""
        span = f"{tidy(first.lo)} to {tidy(first.hi)} {first.unit}, + is {kind.plus}"
        raise BadInput(f"{path}.{first.key} is missing: a {move.type} is {span}; state {' or '.join(keys)}{by_target}")
    if move.type == "rack_focus" and given and move.target is not None:
        raise _one_of(f"{path}.to_m", move.to_m, "target")
    if move.target is not None and kind.target == "never":
        raise refuse(f"{path}.target", move.target, f"left out: a {move.type} has no target", "leave it out")
    if isinstance(move.target, str):
        _exists(f"{path}.target", move.target, [subject.id for subject in direction.subjects], "or a point [x, y, z]")
    if move.boom_m is not None and move.type != "crane":
        raise refuse(f"{path}.boom_m", move.boom_m, "left out: only a crane has an arm", "leave it out")
    length = direction.time.duration_s
    if move.from_s >= length:
        allowed = f"before the shot ends at {tidy(length)} s"
        raise refuse(f"{path}.from_s", move.from_s, allowed, "start it earlier, or lengthen time.duration_s")
    if move.to_s is not None and not move.from_s < move.to_s <= length:
        allowed = f"after from_s, {tidy(move.from_s)} s, and at most {tidy(length)} s"
        raise refuse(f"{path}.to_s", move.to_s, allowed, "end it with the shot, or lengthen time.duration_s")


def _keyframes(direction: Any) -> None:
    refs, length = direction.refs, direction.time.duration_s
    ends = {0: refs.first and "refs.first", direction.frames - 1: refs.last and "refs.last"}
    taken = {frame: field for frame, field in ends.items() if field}
    for i, key in enumerate(refs.keyframes):
        path = f"refs.keyframes[{i}].t_s"
        if key.t_s > length:
            way_out = "name a time in the shot, or lengthen time.duration_s"
            raise refuse(path, key.t_s, f"0 to {tidy(length)} s, as long as the shot is", way_out)
        frame = direction.frame_at(key.t_s)
        if other := taken.get(frame):
            allowed = f"at another frame than {other}, which is frame {frame} of the film too"
            apart = f"{tidy(direction.time.fps)} frames are a second: put them further apart, or leave one of them out"
            raise refuse(path, key.t_s, allowed, apart)
        taken[frame] = f"refs.keyframes[{i}]"


def _locked_off(direction: Any) -> None:
    length = direction.time.duration_s
    spans = [(move.from_s, length if move.to_s is None else move.to_s, move.type) for move in direction.moves]
    for i, (start, end, kind) in enumerate(spans):
        for other_start, other_end, other in spans if kind == "static" else ():
            if other not in ("static", "rack_focus") and other_start < end and start < other_end:
                allowed = f"alone in its time, but a {other} overlaps it"
                raise refuse(f"moves[{i}].type", kind, allowed, "give them different times")
    shake = direction.camera.shake
    if any(kind == "static" for _, _, kind in spans) and (shake.rot_rms_deg or shake.pos_rms_m):
        way_out = "leave the shake or the static move out"
        raise refuse("camera.shake.rot_rms_deg", shake.rot_rms_deg, "0 with a static move", way_out)
