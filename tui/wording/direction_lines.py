"""A direction as lines of text, one for each department: frame, camera, lens, light, cast, set, quality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.direction.fields import is_keyed, tidy
from appliance.direction.vocabulary import MOVES
from appliance.units import count_words

if TYPE_CHECKING:
    from appliance.direction.camera import Move
    from appliance.direction.shot import ShotDirection
    from appliance.direction.staging import Lamp


def lines(direction: ShotDirection) -> list[tuple[str, str]]:
    """(department, what the direction states); a department left to its defaults is one word."""
    length = f"{_number(direction.time.duration_s)} s"
    return [
        ("frame", _frame(direction)),
        ("camera", ", ".join(_move(move, direction.time.duration_s) for move in direction.moves) or "static"),
        ("lens", _lens(direction)),
        ("light", _light(direction)),
        ("cast", ", ".join(_subject(subject) for subject in direction.subjects) or "nobody"),
        ("set", f"{direction.set.name}" + (f" {direction.set.seed}" if direction.set.seed else "")),
        ("quality", f"{direction.quality}, {length} at {_number(direction.time.fps)} fps"),
    ]


def _frame(direction: ShotDirection) -> str:
    frame, camera = direction.frame, direction.camera
    if camera.pos_m is not None:
        return f"camera at {_value(camera.pos_m, 'm')}"
    angle = frame.angle or "eye"
    words = [frame.size or "MWS", "eye level" if angle == "eye" else angle.replace("_", " ")]
    if frame.side:
        words.append(frame.side.replace("_", " "))
    if frame.subject:
        words.append(f"on {frame.subject}")
    if frame.end.size and frame.end.size != frame.size:
        words.append(f"ends {frame.end.size}")
    return ", ".join(words)


def _move(move: Move, duration_s: float) -> str:
    kind, name = MOVES[move.type], move.type.replace("_", " ")
    for amount, unit in ((move.amount_deg, " deg"), (move.amount_m, " m")):
        if amount is not None and kind.signed:
            name = f"{name} {kind.towards(amount)} {_number(abs(amount))}{unit}"
        elif amount is not None:
            name = f"{name} {_number(amount)}{unit}"
    if move.amount_x is not None:
        name += f" x{_number(move.amount_x)}"
    if move.to_mm is not None:
        name += f" to {_number(move.to_mm)} mm"
    if move.to_m is not None:
        name += f" to {_number(move.to_m)} m"
    if move.from_s or move.to_s not in (None, duration_s):
        end = duration_s if move.to_s is None else move.to_s
        name += f" ({_number(move.from_s)}-{_number(end)} s)"
    return name


def _lens(direction: ShotDirection) -> str:
    lens = direction.lens
    words = f"{_value(lens.focal_mm, 'mm')} T{_number(lens.t_stop)}"
    return words + (f", focus {_value(lens.focus_m, 'm')}" if lens.focus_m is not None else "")


def _light(direction: ShotDirection) -> str:
    light = direction.light
    words = [light.preset.replace("_", " ")]
    for name, lamp in (("key", light.key), ("fill", light.fill), ("rim", light.rim)):
        if text := _lamp(lamp):
            words.append(f"{name} {text}")
    if light.ratio_stops is not None:
        words.append(f"ratio {_number(light.ratio_stops)} stops")
    if light.exposure_ev:
        words.append(f"{_value(light.exposure_ev, 'EV')}")
    return ", ".join(words)


def _lamp(lamp: Lamp) -> str:
    if lamp.on is False:
        return "off"
    stated = (
        (lamp.az_deg, "az", "deg"), (lamp.el_deg, "el", "deg"), (lamp.stops_rel, "", "stops"), (lamp.cct_k, "", "K"),
    )  # fmt: skip
    return " ".join(f"{name} {_value(value, unit)}".strip() for value, name, unit in stated if value is not None)


def _subject(subject: Any) -> str:
    words = subject.id
    if subject.action:
        return f"{words} {subject.action}"
    if len(subject.track) > 1:
        return f"{words} goes to {count_words(len(subject.track) - 1, 'mark')}"
    return f"{words} sits" if subject.pose == "sit" else f"{words} stands"


def _value(value: Any, unit: str) -> str:
    """A number, a point, or the first and last of its keys: "35 to 85 mm"."""
    if isinstance(value, str):
        return value
    if is_keyed(value):
        first, last = _bare(value[0].value), _bare(value[-1].value)
        return f"{first} {unit}" if first == last else f"{first} to {last} {unit}"
    return f"{_bare(value)} {unit}"


def _bare(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(_number(item) for item in value)
    return _number(value)


def _number(value: float) -> str:
    return str(tidy(round(float(value), 2)))
