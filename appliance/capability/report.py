"""How a model obeys each field of a direction: exactly, approximately, as text only, or not at all.

`exact` means that the value reaches the model as geometry or light, per frame, solved from the direction, or sets a
property of the file; how well the picture agrees is measured on the take. `text-only`: the model gets it in the prompt.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from appliance.direction.fields import plain, table
from models.card import CARDS, Card, reads_text
from models.controls.inputs import reads_camera_rays, reads_depth, reads_first_frame, reads_keyframes, reads_last_frame
from models.errors import BadInput

LEVELS = ("exact", "approximate", "text-only", "ignored")

# The longest prefix of a path decides. The shipped model reads what models/controls/tokens.py makes of a blocking:
# camera
# rays, its previs and depth as films, and tokens of the camera, the focal plane, the lamps, the set and people's
# appearance; reference pictures of frames are inputs that it need not reproduce. It reads no text.
_PREVIS = {
    "version": "exact", "scene": "exact", "setup": "exact", "take": "exact", "seed": "exact", "quality": "exact",
    "model": "exact",
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

# An imported model that reads text: size, length and seed reach it, and the prompt of appliance/capability/prompt.py.
_WORDS = {
    **dict.fromkeys(
        ("set", "frame", "camera", "moves", "lens", "light", "subjects", "cast", "continuity", "refs"), "ignored"
    ),
    **dict.fromkeys(
        ("version", "scene", "setup", "take", "seed", "quality", "model", "time", "format", "tolerances", "lock"),
        "exact",
    ),
    **dict.fromkeys(
        (
            "text", "set.name", "frame.size", "frame.angle", "frame.side", "frame.elevation_deg", "frame.side_deg",
            "frame.subject", "frame.offset_pct", "frame.end.size", "frame.end.angle", "frame.end.side",
            "frame.end.elevation_deg", "frame.end.side_deg", "camera.follow", "camera.look_at",
            "camera.shake.rot_rms_deg", "camera.shake.pos_rms_m", "moves[].type", "moves[].amount_deg",
            "moves[].amount_m", "moves[].amount_x", "moves[].to_mm", "moves[].to_m", "moves[].from_s", "moves[].to_s",
            "moves[].target", "lens.focal_mm", "lens.focus_m", "lens.focus_on", "lens.t_stop", "lens.squeeze",
            "light.preset", "light.ratio_stops", "light.exposure_ev", "light.ambient.cct_k",
            "subjects[].id", "subjects[].action", "subjects[].pose", "subjects[].gaze", "subjects[].character",
            "cast.*.height_m", "cast.*.hair", "cast.*.long_hair", "cast.*.bareheaded", "cast.*.top", "cast.*.bottom",
            "cast.*.shoes", "cast.*.hat", "cast.*.coat", "cast.*.wardrobe",
            *(f"light.{lamp}.{of}" for lamp in ("key", "fill", "rim") for of in ("az_deg", "el_deg", "cct_k", "on")),
        ),
        "text-only",
    ),
    "format.sensor_w_mm": "ignored", "format.sensor_h_mm": "ignored",
}  # fmt: skip


# What the stage's depth, or the ray of each pixel, carries of a direction; focus is in neither.
_BY_CAMERA = {
    **dict.fromkeys(("frame", "camera", "moves", "lens.focal_mm"), "exact"),
    "format.sensor_w_mm": "exact", "format.sensor_h_mm": "exact", "moves[].to_m": "text-only",
}  # fmt: skip
_BY_DEPTH = _BY_CAMERA | {
    "subjects[].track": "exact", "subjects[].scale": "exact", "cast.*.height_m": "exact",
    "set": "approximate", "subjects[].pose": "approximate", "cast.*.build": "approximate",
}  # fmt: skip


def level(path: str, card_name: str) -> str:
    """The level of one field, by its path in the table (`subjects[].gaze`). Raises BadInput for an unknown card."""
    levels = _levels(_family(card_name).name)
    known = [prefix for prefix in levels if path == prefix or path.startswith((f"{prefix}.", f"{prefix}["))]
    return levels[max(known, key=len)]


@lru_cache(maxsize=32)
def _levels(name: str) -> dict[str, str]:
    """Of a known card."""
    card = CARDS[name]
    if not reads_text(card):
        shown = {
            "refs.first": reads_first_frame(card), "refs.last": reads_last_frame(card),
            "refs.keyframes": reads_keyframes(card),
        }  # fmt: skip
        return _PREVIS | {path: "approximate" for path, taken in shown.items() if taken}
    more = _BY_DEPTH if reads_depth(card) else _BY_CAMERA if reads_camera_rays(card) else {}
    words = {path: of for path, of in _WORDS.items() if not path.startswith(tuple(f"{whole}." for whole in more))}
    words = {path: of for path, of in words.items() if not path.startswith("moves[]") or "moves" not in more}
    refs = {"refs.first": reads_first_frame(card), "refs.last": reads_last_frame(card)}
    return words | more | {path: "exact" for path, taken in refs.items() if taken}


def _family(name: str) -> Card:
    """The card of a name; one of other sizes ("wan2.1-t2v-14b-256x2") reads what that of its family does."""
    known = [card for card in CARDS if name == card or name.startswith(f"{card}-")]
    if not known:
        raise BadInput(f'model "{name}" is not known: it must be one of {", ".join(CARDS)}; choose one of them')
    return CARDS[max(known, key=len)]


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
