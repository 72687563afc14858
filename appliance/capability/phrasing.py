"""Phrases for numbers: how a prompt names a shot size, an azimuth, a speed or a colour.

Every phrase stands for a range that is defined here, so that one number always has one name.
"""

from __future__ import annotations

import colorsys
from typing import Any

from appliance.direction.fields import is_keyed, tidy
from appliance.direction.vocabulary import MOVES

SIZES = {
    "ECU": "extreme close-up", "CU": "close-up", "MCU": "medium close-up", "MS": "medium shot",
    "MWS": "medium wide shot", "WS": "wide shot", "EWS": "extreme wide shot",
}  # fmt: skip
ANGLES = {
    "eye": "at eye level", "high": "from a high angle", "low": "from a low angle", "birds_eye": "from straight above",
    "worms_eye": "from far below", "ground": "from ground level", "dutch": "at a dutch angle",
}  # fmt: skip
SIDES = {
    "front": "seen from the front", "back": "seen from behind",
    "three_quarter_left": "in three-quarter view, facing left",
    "three_quarter_right": "in three-quarter view, facing right",
    "profile_left": "in profile, facing left", "profile_right": "in profile, facing right",
    "three_quarter_back_left": "in three-quarter view from behind, facing left",
    "three_quarter_back_right": "in three-quarter view from behind, facing right",
}  # fmt: skip
PLACES = {"studio": "in a studio", "street": "on a street", "room": "in a room", "field": "in a field"}

LIGHTS = {
    "three_point": "three-point lighting", "flat": "flat lighting", "high_key": "high-key lighting",
    "low_key": "low-key lighting", "rembrandt": "Rembrandt lighting", "loop": "loop lighting",
    "butterfly": "butterfly lighting", "split": "split lighting", "rim": "rim lighting", "silhouette": "silhouette",
    "under": "lit from below", "top": "lit from above", "golden_hour": "golden hour light", "noon": "noon sun",
    "overcast": "overcast light", "moonlight": "moonlight", "blue_hour": "blue hour light",
    "tungsten": "tungsten light", "candle": "candlelight", "window": "window light",
}  # fmt: skip

# Below the first a move is slow, from the second on it is fast: degrees or metres a second.
PACES = {"amount_deg": (12.0, 40.0), "amount_m": (0.5, 1.5)}
UNITS = {"amount_deg": "degrees", "amount_m": "m"}

# Where light comes from, by its azimuth from the camera.
AROUND = ((20.0, "from the front"), (50.0, "from the front {side}"), (120.0, "from the {side}"),
          (160.0, "from behind on the {side}"), (180.0, "from behind"))  # fmt: skip
# The middle of each hue and where the next begins, in degrees; brown is dark orange, beige a pale yellow.
HUES = ((15, "red"), (45, "orange"), (70, "yellow"), (165, "green"), (195, "teal"), (255, "blue"), (300, "purple"),
        (345, "pink"), (360, "red"))  # fmt: skip


def figure(value: float) -> str:
    """A number as people write it: 2.5, 20, 3200."""
    return f"{tidy(round(value, 2)):g}" if abs(value) < 1e5 else str(tidy(value))


def changing(value: Any, unit: str) -> str:
    """ "35 mm", or "from 35 to 70 mm" where it changes over the shot."""
    if not is_keyed(value):
        return f"{figure(value)} {unit}"
    first, last = value[0].value, value[-1].value
    return f"{figure(first)} {unit}" if first == last else f"from {figure(first)} to {figure(last)} {unit}"


def towards(move: str, amount: float) -> str:
    """Where a move goes: "up", "to the left"; for an arc, which turns about its target, "to the camera's right"."""
    word = MOVES[move].towards(amount)
    if word not in ("left", "right"):
        return word
    return f"to the camera's {word}" if move == "arc" else f"to the {word}"


def name_of(id: str) -> str:
    """The name of a subject: "mara" is Mara, "old_man" is Old man."""
    name = id.replace("_", " ")
    return name[:1].upper() + name[1:]


def around(az_deg: float) -> str:
    """Where a lamp stands: "from the left" at -60."""
    side = "right" if az_deg > 0 else "left"
    return next(words.format(side=side) for most, words in AROUND if abs(az_deg) <= most)


def pace(key: str, amount: float, seconds: float) -> str:
    """ "slow ", "fast " or nothing."""
    slow, fast = PACES[key]
    speed = abs(amount) / max(seconds, 1e-9)
    return "slow " if speed < slow else "fast " if speed >= fast else ""


def color(code: str) -> str:
    """What a colour "#a3271f" is called: red."""
    red, green, blue = (int(code[at : at + 2], 16) / 255 for at in (1, 3, 5))
    hue, light, _ = colorsys.rgb_to_hls(red, green, blue)
    if (chroma := max(red, green, blue) - min(red, green, blue)) < 0.08:
        return _grey(light)
    name = next(name for most, name in HUES if hue * 360 <= most)
    if name in ("orange", "yellow") and chroma < 0.45 and light > 0.6:
        return "beige"
    if name == "orange" and light < 0.45:
        name = "brown"
    if name == "red" and light > 0.7:
        return "pink"
    return f"{'dark ' if light < 0.3 else 'light ' if light > 0.7 else ''}{name}"


def _grey(light: float) -> str:
    steps = ((0.12, "black"), (0.35, "dark grey"), (0.65, "grey"), (0.88, "light grey"), (1.0, "white"))
    return next(name for most, name in steps if light <= most)
