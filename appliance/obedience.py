"""What a model makes of each field: obeyed exactly, approximately, as text only, or ignored. Said plainly.

`exact` means that the value reaches the shipped model as geometry or light, per frame, solved from the direction; how
well the picture then agrees is measured on the take.
"""

from __future__ import annotations

import re
from typing import Any

from appliance.fields import plain, table
from models.card import CARDS
from models.errors import BadInput

LEVELS = ("exact", "approximate", "text-only", "ignored")

# The longest prefix of a path decides. The shipped model reads what models/conditions.py makes of a blocking: camera
# rays, its previs and depth as films, and tokens of the camera, the focal plane, the lamps, the set and who looks how.
# No word of the direction reaches it.
_PREVIS = {
    "version": "exact", "scene": "exact", "setup": "exact", "take": "exact", "seed": "exact", "quality": "exact",
    "time": "exact", "format": "exact",
    "set": "approximate",
    "frame": "exact", "camera": "exact", "moves": "exact",
    "lens.focal_mm": "exact", "lens.focus_m": "exact", "lens.focus_on": "exact", "lens.t_stop": "exact",
    "lens.shutter_deg": "ignored", "lens.squeeze": "ignored", "lens.k1": "ignored",
    "light": "exact", "light.ambient.sh": "ignored", "light.ambient.hdri": "ignored", "light.sky_stops": "approximate",
    "subjects": "exact", "subjects[].character": "approximate", "subjects[].action": "ignored",
    "subjects[].pose": "approximate", "subjects[].gaze": "ignored", "subjects[].screen": "ignored",
    "cast": "approximate", "cast.*.refs": "ignored", "cast.*.embedding": "ignored", "cast.*.wardrobe": "ignored",
    "cast.*.height_m": "exact",
    "continuity": "ignored", "refs": "ignored",
    "text": "ignored",
    "tolerances": "exact", "lock": "exact",
}  # fmt: skip

# A text-to-video checkpoint without control: size, length, seed and words reach it, nothing else does.
_TEXT_TO_VIDEO = {
    **dict.fromkeys(
        ("set", "frame", "camera", "moves", "lens", "light", "subjects", "cast", "continuity", "refs"), "ignored"
    ),
    **dict.fromkeys(
        ("version", "scene", "setup", "take", "seed", "quality", "time", "format", "tolerances", "lock"), "exact"
    ),
    "format.sensor_w_mm": "ignored",
    "format.sensor_h_mm": "ignored",
    "text": "text-only",
}


def level(path: str, card_name: str) -> str:
    """The level of one field, by its path in the table (`subjects[].gaze`). Raises BadInput for an unknown card."""
    if card_name not in CARDS:
        raise BadInput(f'model "{card_name}" is not known: it must be one of {", ".join(CARDS)}; choose one of them')
    levels = _PREVIS if card_name == "previs" else _TEXT_TO_VIDEO
    known = [prefix for prefix in levels if path == prefix or path.startswith((f"{prefix}.", f"{prefix}["))]
    return levels[max(known, key=len)]


def levels_of_stated(direction: Any, card_name: str) -> dict[str, str]:
    """The fields that this direction states, by their paths (`subjects[0].gaze`, `cast.mara.hat`), and their levels."""
    found = {}
    known = {row.path for row in table(type(direction))}
    for path in _leaves(plain(direction), "", known):
        found[path] = level(_in_table(path), card_name)
    return found


def _in_table(path: str) -> str:
    return re.sub(r"^cast\.[^.]+", "cast.*", re.sub(r"\[\d+\]", "[]", path))


def _leaves(data: Any, path: str, known: set[str]):
    if _in_table(path) in known:
        yield path
    elif isinstance(data, dict):
        for name, value in data.items():
            yield from _leaves(value, f"{path}.{name}" if path else name, known)
    elif isinstance(data, list):
        for i, value in enumerate(data):
            yield from _leaves(value, f"{path}[{i}]", known)
