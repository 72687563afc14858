"""Lighting presets: each states how it differs from three-point light.

A direction stores the preset's name and what its director changed; `expand` gives every number. The desk shows and the
blocking reads the expanded plot, so the two cannot disagree.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from appliance.direction.fields import is_keyed

_LAMP = {"ref": "stand", "cct_k": 5600.0, "duv": 0.0, "on": True}
_OFF = {"on": False}

# Azimuths of fill and rim are left out on purpose: they follow the key, opposite it, unless a set-up needs otherwise.
BASE: dict[str, Any] = {
    "key": _LAMP | {"az_deg": -45.0, "el_deg": 35.0, "stops_rel": 0.0, "size_deg": 12.0},
    "fill": _LAMP | {"el_deg": 15.0, "stops_rel": -2.5, "size_deg": 40.0},
    "rim": _LAMP | {"el_deg": 40.0, "stops_rel": -1.0, "size_deg": 6.0},
    "ambient": {"stops_rel": -2.75, "cct_k": 5600.0, "duv": 0.0},
    "sky_stops": 0.0,
    "exposure_ev": 0.0,
}

PRESETS: dict[str, dict[str, Any]] = {
    "three_point": {},
    "flat": {
        "key": {"az_deg": -20.0, "el_deg": 20.0, "size_deg": 40.0},
        "ratio_stops": 1.0,
        "rim": _OFF,
        "ambient": {"stops_rel": -2.0},
    },
    "high_key": {
        "key": {"az_deg": -30.0, "el_deg": 30.0, "size_deg": 40.0},
        "ratio_stops": 1.2,
        "ambient": {"stops_rel": -1.25},
        "exposure_ev": 0.3,
    },
    "low_key": {
        "key": {"az_deg": -70.0, "el_deg": 30.0, "size_deg": 6.0},
        "ratio_stops": 3.5,
        "sky_stops": -4.0,
        "rim": {"stops_rel": -1.5},
        "ambient": {"stops_rel": -5.0},
    },
    "rembrandt": {"key": {"el_deg": 45.0, "size_deg": 10.0}, "ratio_stops": 2.0, "ambient": {"stops_rel": -3.5}},
    "loop": {"key": {"az_deg": -30.0, "el_deg": 30.0}, "ratio_stops": 1.6},
    "butterfly": {"key": {"az_deg": 0.0, "el_deg": 45.0}, "fill": {"az_deg": 0.0, "el_deg": -25.0}, "ratio_stops": 1.6},
    "split": {
        "key": {"az_deg": -90.0, "el_deg": 10.0, "size_deg": 6.0},
        "ratio_stops": 3.3,
        "rim": _OFF,
        "ambient": {"stops_rel": -4.5},
    },
    "rim": {
        "key": {"az_deg": -160.0, "el_deg": 35.0, "size_deg": 6.0},
        "rim": {"az_deg": 160.0, "el_deg": 35.0, "stops_rel": 0.0},
        "fill": {"az_deg": 10.0, "el_deg": 10.0, "stops_rel": -3.5},
        "ambient": {"stops_rel": -4.0},
    },
    "silhouette": {
        "key": {"az_deg": 180.0, "el_deg": 20.0, "stops_rel": 1.0},
        "fill": _OFF,
        "rim": _OFF,
        "ambient": {"stops_rel": -5.5},
    },
    "under": {
        "key": {"az_deg": 0.0, "el_deg": -45.0},
        "ratio_stops": 3.0,
        "fill": {"az_deg": 40.0},
        "rim": _OFF,
        "ambient": {"stops_rel": -4.5},
        "sky_stops": -3.0,
    },
    "top": {
        "key": {"az_deg": 0.0, "el_deg": 85.0},
        "ratio_stops": 3.0,
        "fill": {"az_deg": 40.0},
        "rim": _OFF,
        "ambient": {"stops_rel": -4.0},
        "sky_stops": -3.0,
    },
    "golden_hour": {
        "key": {"az_deg": -65.0, "el_deg": 10.0, "cct_k": 3500.0, "size_deg": 0.5, "stops_rel": 0.3},
        "rim": _OFF,
        "fill": {"az_deg": 35.0, "el_deg": 35.0, "cct_k": 7500.0, "stops_rel": -2.2},
        "ambient": {"cct_k": 8000.0, "stops_rel": -2.3},
        "exposure_ev": 0.3,
    },
    "noon": {
        "key": {"az_deg": -30.0, "el_deg": 72.0, "size_deg": 0.5},
        "fill": _OFF,
        "rim": _OFF,
        "ambient": {"cct_k": 7000.0, "stops_rel": -2.2},
    },
    "overcast": {
        "key": {"az_deg": -20.0, "el_deg": 70.0, "cct_k": 6500.0, "size_deg": 60.0, "stops_rel": -1.0},
        "fill": _OFF,
        "rim": _OFF,
        "ambient": {"cct_k": 6500.0, "stops_rel": -0.8},
        "sky_stops": -0.3,
    },
    "moonlight": {
        "key": {"az_deg": -130.0, "el_deg": 45.0, "cct_k": 9000.0, "size_deg": 1.0, "stops_rel": -1.0},
        "rim": _OFF,
        "fill": {"az_deg": 30.0, "cct_k": 10000.0, "stops_rel": -4.5},
        "ambient": {"cct_k": 11000.0, "stops_rel": -4.8},
        "sky_stops": -5.5,
    },
    "blue_hour": {
        "key": {"az_deg": -20.0, "el_deg": 60.0, "cct_k": 10000.0, "size_deg": 60.0, "stops_rel": -1.5},
        "fill": _OFF,
        "rim": {"az_deg": 150.0, "cct_k": 3200.0, "stops_rel": -1.5},
        "ambient": {"cct_k": 11000.0, "stops_rel": -2.2},
        "sky_stops": -2.0,
    },
    "tungsten": {
        "key": {"cct_k": 3200.0},
        "fill": {"cct_k": 3200.0},
        "rim": {"cct_k": 3200.0},
        "ambient": {"cct_k": 3000.0, "stops_rel": -3.2},
        "sky_stops": -2.0,
    },
    "candle": {
        "key": {"az_deg": -40.0, "el_deg": -5.0, "cct_k": 1900.0, "size_deg": 3.0, "stops_rel": -0.5},
        "rim": _OFF,
        "fill": {"cct_k": 2200.0},
        "ratio_stops": 3.0,
        "ambient": {"cct_k": 2400.0, "stops_rel": -4.5},
        "sky_stops": -5.0,
    },
    "window": {
        "key": {"az_deg": -85.0, "el_deg": 20.0, "cct_k": 6500.0, "size_deg": 28.0},
        "fill": {"stops_rel": -3.5},
        "rim": _OFF,
        "ambient": {"stops_rel": -3.2},
    },
}
PRESET_ALIASES = {
    "default": "three_point", "loop light": "loop", "paramount": "butterfly", "sunset": "golden_hour",
    "backlight": "rim", "night": "moonlight", "day": "noon", "cloudy": "overcast", "magic hour": "golden_hour",
}  # fmt: skip


def expand(light: Any) -> Any:
    """The same `Light` with every number stated: the preset's where the direction states none.

    A stated `fill.stops_rel` wins over a preset's ratio; a stated `ratio_stops` wins over both.
    """
    preset = PRESETS[light.preset]
    parts = {}
    for name in ("key", "fill", "rim", "ambient"):
        numbers = BASE[name] | preset.get(name, {})
        given = getattr(light, name)
        missing = {
            f.name: numbers[f.name] for f in fields(given) if getattr(given, f.name) is None and f.name in numbers
        }
        parts[name] = replace(given, **missing)
    side = parts["key"].az_deg
    side = side[0].value if is_keyed(side) else side
    if parts["fill"].az_deg is None:
        parts["fill"] = replace(parts["fill"], az_deg=min(50.0, abs(side)) * (-1.0 if side > 0 else 1.0))
    if parts["rim"].az_deg is None:
        parts["rim"] = replace(parts["rim"], az_deg=-155.0 if side > 0 else 155.0)
    ratio = light.ratio_stops
    if ratio is None and light.fill.stops_rel is None:
        ratio = preset.get("ratio_stops")
    rest = {
        name: preset.get(name, BASE[name]) for name in ("sky_stops", "exposure_ev") if getattr(light, name) is None
    }  # fmt: skip
    return replace(light, **parts, ratio_stops=ratio, **rest)
