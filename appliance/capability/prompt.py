"""The prompt of a direction, for models that read text: the director's text first, then its numbers as film terms.

Only what the direction states is mentioned: what it leaves out, or leaves at its default, is not. The lens always is.
Positions and times of people are not put into words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from appliance.capability.phrasing import (
    ANGLES,
    LIGHTS,
    PLACES,
    SIDES,
    SIZES,
    UNITS,
    around,
    changing,
    color,
    figure,
    name_of,
    pace,
    towards,
)
from appliance.direction.camera import Frame, Lens
from appliance.direction.fields import defaults, is_keyed
from appliance.direction.staging import Light, SetChoice
from appliance.direction.vocabulary import MOVES

if TYPE_CHECKING:
    from appliance.direction.shot import ShotDirection
    from models.card import Card

# Wan's published negative prompt (wan/configs/shared_config.py of Wan-Video/Wan2.1 and 2.2,
# Apache-2.0): its models were trained with this text. Two kinds have one more phrase.
NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"
    "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，"
    "倒着走"
)
SHAKING, CUTTING = "镜头晃动，", "镜头切换，"


def prompt(direction: ShotDirection) -> str:
    """The prompt, in sentences."""
    return " ".join(_sentence(text) for text in _texts(direction) if text)


def negative(direction: ShotDirection, card: Card) -> str:
    """The negative prompt: the direction's, or the one that the model was published with."""
    if direction.text.negative:
        return _line(direction.text.negative)
    first = CUTTING if card.image_positions else SHAKING if card.image_dim and "i2v" in card.name else ""
    return first + NEGATIVE


def _texts(shot: ShotDirection) -> Iterator[str]:
    yield _line(shot.text.action)
    yield _line(shot.text.style)
    for subject in shot.subjects:
        yield from _subject(shot, subject)
    if shot.set.name != defaults(SetChoice)["name"]:
        yield PLACES[shot.set.name]
    yield ", ".join(_frame(shot))
    for move in sorted(shot.moves, key=lambda move: move.from_s):
        yield _move(shot, move)
    yield ", ".join(_camera(shot))
    yield " ".join(_lens(shot.lens))
    yield ", ".join(_light(shot.light))


def _subject(shot: ShotDirection, subject: Any) -> Iterator[str]:
    name = name_of(subject.id)
    if subject.action:
        yield f"{name} {_line(subject.action)}"
    if subject.pose == "sit":
        yield f"{name} sits"
    if isinstance(subject.gaze, str):
        yield f"{name} looks {'into the camera' if subject.gaze == 'camera' else f'at {name_of(subject.gaze)}'}"
    if (character := shot.character(subject)) and (looks := list(_looks(character))):
        yield f"{name} is {', '.join(looks)}"


def _looks(card: Any) -> Iterator[str]:
    if card.height_m is not None:
        yield f"{figure(card.height_m)} m tall"
    if card.hair or card.long_hair is not None:
        long = "" if card.long_hair is None else "long " if card.long_hair else "short "
        yield f"with {long}{f'{color(card.hair)} ' if card.hair else ''}hair"
    if card.bareheaded:
        yield "bareheaded"
    worn = [_article(f"{color(card.top)} {'coat' if card.coat else 'top'}")] if card.top else []
    worn += ["a coat"] if card.coat and not card.top else []
    worn += [f"{color(code)} {what}" for code, what in ((card.bottom, "bottoms"), (card.shoes, "shoes")) if code]
    worn += [_article(f"{color(card.hat)} hat")] if card.hat else []
    worn += [_line(card.wardrobe)] if card.wardrobe else []
    if worn:
        yield f"wearing {', '.join(worn[:-1])}{' and ' if len(worn) > 1 else ''}{worn[-1]}"


def _frame(shot: ShotDirection) -> Iterator[str]:
    frame = shot.frame
    whom = _framed(frame.subject)
    if frame.size:
        yield SIZES[frame.size] + (f" of {whom}" if whom else "")
    elif whom:
        yield f"framed on {whom}"
    yield from _pose(frame)
    if frame.offset_pct != defaults(Frame)["offset_pct"]:
        yield from _off_centre(frame.offset_pct)
    end = [f"on {_article(SIZES[frame.end.size])}"] if frame.end.size else []
    if end := [*end, *_pose(frame.end)]:
        yield f"ending {end[0]}"
        yield from end[1:]


def _pose(frame: Any) -> Iterator[str]:
    """The camera's position around the subject: in degrees where stated, else in words."""
    if frame.elevation_deg is not None:
        side = "above" if frame.elevation_deg >= 0 else "below"
        yield f"from {figure(abs(frame.elevation_deg))} degrees {side}"
    elif frame.angle:
        yield ANGLES[frame.angle]
    if frame.side_deg is not None:
        side = "left" if frame.side_deg >= 0 else "right"
        yield f"seen {figure(abs(frame.side_deg))} degrees from the subject's {side}"
    elif frame.side:
        yield SIDES[frame.side]


def _off_centre(offset_pct: tuple[float, ...]) -> Iterator[str]:
    right, up = offset_pct
    if right:
        yield f"{figure(abs(right))}% {'right' if right > 0 else 'left'} of centre"
    if up:
        yield f"{figure(abs(up))}% {'above' if up > 0 else 'below'} centre"


def _move(shot: ShotDirection, move: Any) -> str:
    kind, when = move.type, _when(shot, move)
    if kind == "static":
        return f"locked-off camera{when}"
    if kind == "handheld":
        return f"handheld camera{when}"
    if kind == "rack_focus":
        to = f"to {figure(move.to_m)} m" if move.to_m is not None else f"to {_named(move.target) or 'its target'}"
        return f"rack focus {to}{when}"
    if kind == "zoom":
        if move.to_mm is not None:
            return f"zoom to {figure(move.to_mm)} mm{when}"
        return f"zoom {'in' if move.amount_x >= 1 else 'out'} to {figure(move.amount_x)} times the focal length{when}"
    key = next(amount.key for amount in MOVES[kind].amounts if getattr(move, amount.key) is not None)
    amount = getattr(move, key)
    end = shot.time.duration_s if move.to_s is None else min(move.to_s, shot.time.duration_s)
    speed = pace(key, amount, end - move.from_s)
    whom = f" around {who}" if kind in ("arc", "crane") and (who := _named(move.target)) else ""
    return f"{speed}{kind.replace('_', ' ')}{whom} {towards(kind, amount)} by {figure(abs(amount))} {UNITS[key]}{when}"


def _when(shot: ShotDirection, move: Any) -> str:
    """The time of a move that does not last as long as the shot."""
    late = move.from_s > 0
    early = move.to_s is not None and move.to_s < shot.time.duration_s
    if late and early:
        return f" from {figure(move.from_s)} to {figure(move.to_s)} s"
    return f" from {figure(move.from_s)} s on" if late else f" until {figure(move.to_s)} s" if early else ""


def _camera(shot: ShotDirection) -> Iterator[str]:
    camera = shot.camera
    if camera.follow:
        yield f"the camera travels with {name_of(camera.follow)}"
    if isinstance(camera.look_at, str):
        yield f"the camera keeps {name_of(camera.look_at)} in frame"
    if camera.shake.rot_rms_deg or camera.shake.pos_rms_m:
        yield "the camera shakes a little"


def _lens(lens: Any) -> Iterator[str]:
    if lens.squeeze != defaults(Lens)["squeeze"]:
        yield "anamorphic"
    yield (
        f"lens {changing(lens.focal_mm, 'mm')}" if is_keyed(lens.focal_mm) else f"{changing(lens.focal_mm, 'mm')} lens"
    )
    if lens.t_stop != defaults(Lens)["t_stop"]:
        yield f"at T{figure(lens.t_stop)}"
    if lens.focus_m is not None:
        yield f"focused {'' if is_keyed(lens.focus_m) else 'at '}{changing(lens.focus_m, 'm')}"
    elif lens.focus_on:
        yield f"focused on {name_of(lens.focus_on)}"


def _light(light: Any) -> Iterator[str]:
    if light.preset != defaults(Light)["preset"]:
        yield LIGHTS[light.preset]
    for name in ("key", "fill", "rim"):
        if words := " ".join(_lamp(getattr(light, name))):
            yield f"{name} light {words}"
    if light.ambient.cct_k is not None:
        yield f"ambient light {_kelvin(light.ambient.cct_k)}"
    if light.ratio_stops is not None:
        yield f"{_stops(light.ratio_stops)} between key and fill"
    if light.exposure_ev is not None and not is_keyed(light.exposure_ev) and light.exposure_ev:
        yield f"exposed {_stops(abs(light.exposure_ev))} {'over' if light.exposure_ev > 0 else 'under'}"


def _lamp(lamp: Any) -> Iterator[str]:
    if lamp.on is False:
        yield "off"
        return
    if lamp.az_deg is not None:
        places = [around(key.value) for key in lamp.az_deg] if is_keyed(lamp.az_deg) else [around(lamp.az_deg)]
        yield places[0] if places[0] == places[-1] else f"going {places[0]} to {places[-1]}"
    if lamp.el_deg is not None and not is_keyed(lamp.el_deg):
        if lamp.el_deg >= 60:
            yield "from high above"
        elif lamp.el_deg < 0:
            yield "from below"
    if lamp.cct_k is not None:
        yield _kelvin(lamp.cct_k)


def _kelvin(cct_k: Any) -> str:
    return changing(cct_k, "K") if is_keyed(cct_k) else f"at {changing(cct_k, 'K')}"


def _stops(count: float) -> str:
    return f"{figure(count)} stop{'' if count == 1 else 's'}"


def _framed(subject: str | None) -> str:
    return "" if subject is None else "everybody" if subject == "all" else name_of(subject)


def _named(target: Any) -> str:
    return name_of(target) if isinstance(target, str) else ""


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _line(text: str) -> str:
    """Text of several lines on one."""
    return " ".join(text.split())


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text[-1] in ".!?…。！？" else f"{text}."
