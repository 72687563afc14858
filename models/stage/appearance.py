"""What a character looks like, drawn from a hash of the name: the same on every machine."""

from __future__ import annotations

import hashlib

import numpy as np

from models.stage.blocking import RGB, Appearance

_SKIN = ((0.62, 0.40, 0.29), (0.52, 0.32, 0.22), (0.36, 0.20, 0.12), (0.22, 0.11, 0.07), (0.12, 0.06, 0.04))
_HAIR = ((0.02, 0.015, 0.012), (0.09, 0.045, 0.02), (0.25, 0.12, 0.04), (0.45, 0.32, 0.14), (0.30, 0.30, 0.30))


def appearance(name: str) -> Appearance:
    """The person of this name: proportions, hair and wardrobe drawn from a hash of it."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return sample(np.random.Generator(np.random.Philox(seed)))


def sample(rng: np.random.Generator) -> Appearance:
    """A random person: 1.50 to 1.95 m, five skins, any wardrobe."""
    return Appearance(
        height_m=float(rng.uniform(1.50, 1.95)),
        build=float(rng.uniform(0.85, 1.2)),
        skin=_SKIN[rng.integers(len(_SKIN))],
        hair=_HAIR[rng.integers(len(_HAIR))],
        top=_cloth(rng, 0.9),
        bottom=_cloth(rng, 0.5),
        shoes=_cloth(rng, 0.3),
        hat=_cloth(rng, 0.8) if rng.random() < 0.25 else None,
        long_hair=bool(rng.random() < 0.45),
        coat=bool(rng.random() < 0.35),
    )


def _cloth(rng: np.random.Generator, strength: float) -> RGB:
    """A dyed cloth: a hue at some saturation, 4 to 60 % reflectance."""
    hue, saturation, value = rng.random(), strength * rng.random() ** 0.5, rng.uniform(0.04, 0.6)
    channel = (np.array([0.0, 2 / 3, 1 / 3]) + hue) % 1.0
    color = value * (1 - saturation * np.clip(np.abs(channel * 6 - 3) - 1, 0, 1))
    red, green, blue = (float(round(c, 4)) for c in color)
    return red, green, blue
