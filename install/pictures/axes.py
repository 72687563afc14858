"""Makes axes.png: one direction varied along four axes, last frames of the shipped model.

.venv/bin/python install/pictures/axes.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from appliance.blocking.solve import block
from appliance.direction.document import from_toml
from models.events import Decoded, Settings
from models.rendering.render import render
from models.training.release import SHIPPED

SHOT = """
scene = "12"
setup = "C"
seed = 7
time = {{ duration_s = 1 }}
set = {{ name = "street", seed = 3 }}
frame = {{ size = "WS", subject = "mara" }}
lens = {{ focal_mm = {lens}, t_stop = 2.8 }}
moves = [{{ type = "pan", amount_deg = {pan} }}]
[light]
ratio_stops = 2.5
key = {{ az_deg = {azimuth}, el_deg = 35, cct_k = {kelvin} }}
fill = {{ cct_k = 4300 }}
[[subjects]]
id = "mara"
[cast.mara]
height_m = 1.68
hair = "#2a1a12"
top = "#a3271f"
bottom = "#23304a"
bareheaded = true
long_hair = true
coat = true
"""
PLAIN = {"pan": 0, "lens": 35, "azimuth": -40, "kelvin": 3200}
ROWS = {
    "pan": ((-14, -7, 0, 7, 14), "pan {:+d} deg"),
    "lens": ((24, 35, 50, 85, 135), "{} mm"),
    "azimuth": ((-75, -40, 0, 40, 75), "key at {:+d} deg"),
    "kelvin": ((2300, 3200, 4300, 5600, 9000), "key {} K"),
}
LABEL = 14  # pixels under each frame


def main() -> None:
    """Render every value, and write the picture next to this file."""
    rows = []
    for axis, (doses, label) in ROWS.items():
        row = []
        for dose in doses:
            direction = from_toml(SHOT.format(**PLAIN | {axis: dose}))
            chunks = [e.frames for e in render(block(direction), Settings(8, 7), SHIPPED) if isinstance(e, Decoded)]
            row.append(_labelled(np.concatenate(chunks)[-1], label.format(dose)))
        rows.append(np.concatenate(row, 1))
        print(json.dumps({axis: doses}), flush=True)
    Image.fromarray(np.concatenate(rows)).save(Path(__file__).with_name("axes.png"), optimize=True)


def _labelled(frame: np.ndarray, text: str) -> np.ndarray:
    height, width, _ = frame.shape
    picture = Image.new("RGB", (width + 2, height + LABEL), "white")
    picture.paste(Image.fromarray((frame.clip(0, 1) * 255).round().astype(np.uint8)), (1, 0))
    ImageDraw.Draw(picture).text((3, height + 1), text, fill="black")
    return np.asarray(picture)


if __name__ == "__main__":
    main()
